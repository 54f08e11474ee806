"""Sections on the way to the confirmation and on where everything came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from statistics import fmean
from typing import Any

from tune_bn.analysis.wording import config_keys, decimals_of_verdict, metric_words, symbol
from tune_bn.errors import listed
from tune_bn.records.commands import line_in_report, repeat_line
from tune_bn.records.energy import energy_of, energy_words
from tune_bn.records.provenance import SPLITS
from tune_bn.records.record import (
    BASELINE,
    CANDIDATE,
    CONFIRM,
    SEARCH,
    SELECT,
    STAGES,
    STATUSES,
    Record,
    ranges,
)
from tune_bn.records.score import PERCENT
from tune_bn.report.blocks import (
    Block,
    Bullets,
    Code,
    Gallery,
    Heading,
    Mono,
    Picture,
    Span,
    first_of,
    paragraph,
    table,
)
from tune_bn.report.cells import NONE, config_cells, distinct, heading_with, number
from tune_bn.report.citing import versions_of
from tune_bn.report.figures.canvas import FEW_ARMS
from tune_bn.report.figures.curves import curve_ends, curves, is_banded
from tune_bn.report.figures.importance import (
    CONTROL,
    FEWEST_TRIALS,
    FULL_LENGTH,
    MOST_TRIALS,
    REPEATS,
    SHARE,
    importance_figure,
    importances,
)
from tune_bn.report.figures.landscape import best_words, landscape, landscape_words
from tune_bn.report.figures.layers import FIGURE_EXPLAINED, OVERVIEW_EXPLAINED, layer_figures, overview, picture_of
from tune_bn.report.figures.luck import shrinkage_figure, shrunken
from tune_bn.report.study import StudyFiles, Trial

CHECK_FILE = "check.json"


def stages(study: StudyFiles) -> Iterator[Block]:
    """What ran, and the landscape of the search."""
    yield Heading("Stages")
    header = ["stage", "configurations", *STATUSES, "runs", "seeds", "minutes of training"]
    rows: list[list[Span | int]] = []
    for stage in STAGES:
        records = [record for record in study.records if record.stage == stage]
        if records:
            trials = study.trials[stage]
            counts = [sum(trial.status == status for trial in trials) for status in STATUSES]
            seeds = ranges(record.seed for record in records)
            minutes = sum(record.duration_seconds for record in records) / 60
            rows.append([stage, len(trials), *counts, len(records), seeds, f"{minutes:.1f}"])
    if not rows:
        yield paragraph("No run is finished yet.")
        return
    yield table("Stages", header, rows)
    yield paragraph("A configuration counts by the worst of its runs.")
    if energy_of(study.records)["runs"]:
        yield paragraph(energy_words(study.records))
    figure = landscape(study)
    if figure is not None:
        yield Picture(
            "landscape.png",
            "Landscape of the search",
            landscape_words(study),
            figure,
            result=best_words(study),
        )


def learning_curves(study: StudyFiles) -> Iterator[Block]:
    """The course of the confirmed arms."""
    figure = curves(study)
    if figure is not None:
        yield Heading("Learning curves")
        yield Picture(
            "curves.png",
            "Learning curves",
            f"Confirmation: {study.score.words} by {study.score.step}, mean over seeds"
            f"{' ± standard deviation' if is_banded(study) else ''}.",
            figure,
            result=first_of(
                [f"{arm} ends at {study.score.value_words(end)}" for arm, end in curve_ends(study).items()]
            ),
        )


def importance(study: StudyFiles) -> Iterator[Block]:
    """Which of the searched keys mattered."""
    if not any(trial.arm == CANDIDATE for trial in study.trials[SEARCH]):
        return
    every = importances(study)
    # At an epoch that all trials have, a small γ is merely slow: asked only where too few ran to their end.
    found = [one for one in every if one.score == FULL_LENGTH] or every
    early = bool(found) and found[0].score != FULL_LENGTH
    yield Heading(f"What mattered {found[0].score} of the search" if early else "What mattered in the search")
    if not found:
        yield paragraph(
            f"Not drawn: the importance of a key takes {FEWEST_TRIALS} or more comparable trials of the search with "
            "different scores and configurations."
        )
        return
    chosen = ""
    if early:
        chosen = (
            f" Too few trials ran to their end, so all are compared {found[0].score}: this says what is fast. A small "
            "γ starts slowly and may end well, and a key that acts late looks unimportant here."
        )
    elif len(every) > 1:
        chosen = (
            " Asked of the trials that ran to their end; those that the scheduler stopped are left out, and with them "
            "bad regions."
        )
    sample = (
        f" Of more trials a sample of {MOST_TRIALS} is asked."
        if any(one.trials == MOST_TRIALS for one in found)
        else ""
    )
    yield Picture(
        "importance.png",
        "Importance of the searched keys",
        f"Search: {SHARE} of {study.score.words} that each key has alone (fANOVA on a forest of "
        f"regression trees), over the range that was tried.{chosen}{sample} The shares sum to 100 % even where nothing "
        f"matters: a key whose bar is no longer than that of {CONTROL} has shown nothing. Bars: mean of {REPEATS} "
        "forests; whiskers: least and largest.",
        importance_figure(found, study.score.words),
        result=", ".join(f"{symbol(key)} {fmean(shares):.0f} %" for key, shares in found[0].shares.items()),
    )


def finalists(study: StudyFiles) -> Iterator[Block]:
    """Search, selection and confirmation of the same configurations side by side, so that the winner's luck shows."""
    # Who was dropped by the race has fewer seeds.
    selected = sorted(study.trials[SELECT], key=lambda trial: (-len(trial.runs), -_objective(study, trial)))
    candidates = [] if study.verdict is None or not study.verdict.baselines else shrunken(study.verdict)
    if not selected and not candidates:
        return
    unit_words = (
        ", in percent" if study.score.unit == PERCENT else f", in {study.score.unit}" if study.score.unit else ""
    )
    yield Heading("From search to confirmation")
    tested = metric_words(study.metric)
    dropped = len({len(trial.runs) for trial in selected}) > 1
    yield paragraph(
        f"{_capital(study.score.words)} of the same configurations in each stage{unit_words}; search and selection "
        f"chose by it. The tested score, {tested}, stands in no column here. The best of many scores is too high on "
        "average, since it was chosen for being high, and tends to fall on fresh seeds; how much of a single fall is "
        "luck is not known." + (" A finalist with fewer seeds than another was clearly behind and dropped." * dropped)
    )
    if selected:
        yield _finalists(study, selected)
    if study.verdict is None or not candidates:
        return
    digits = decimals_of_verdict(study.verdict)
    over = "minus that of" if study.score.higher_is_better else "below that of"
    unit = study.score.difference_unit
    points = ", in percentage points (pp)" if unit == "pp" else f", in {unit}" if unit else ""
    rows = []
    for arm, found in candidates:
        gains = (found.searched_gain, found.selected_gain, found.confirmed_gain, found.luck)
        rows.append([arm.arm, *(number(gain, f"+.{digits}f") for gain in gains)])
    yield table(
        "Gains by stage",
        [
            "candidate",
            *(
                heading_with(words, study.score.difference_unit)
                for words in (
                    f"{study.score.words}: gain in the search",
                    "in the selection",
                    "on the confirmation seeds",
                    "not seen again",
                )
            ),
        ],
        rows,
    )
    yield paragraph(
        f"Gain: mean {study.score.words} of the stage {over} the baseline on the confirmation seeds{points}; it is not "
        f"the tested effect, which is one of {tested}. Not seen again: gain in the search minus that on the "
        "confirmation seeds."
    )
    figure = shrinkage_figure(study.verdict, study.score)
    if figure is not None:
        yield Picture(
            "shrinkage.png",
            "From search to confirmation",
            f"Mean {study.score.words} of each candidate by stage; the horizontal line is its baseline in the "
            "confirmation.",
            figure,
            result=first_of(
                [
                    f"{arm.arm} {study.score.number_words(found.search.mean)} in the search, "
                    f"{study.score.number_words(found.confirm.mean)} on the confirmation seeds, its baseline "
                    f"{study.score.number_words(found.baseline.mean)}"
                    for arm, found in candidates
                ]
            ),
        )


def _finalists(study: StudyFiles, selected: Sequence[Trial]) -> Block:
    searched = {(trial.arm, trial.number): trial for trial in study.trials[SEARCH]}
    confirmed = {trial.arm: trial for trial in study.trials[CONFIRM]}
    names: dict[tuple[str, int | None], list[str]] = {}
    if study.plan is not None:
        for role, arms in ((CANDIDATE, study.plan.candidates), (BASELINE, study.plan.every_tuning)):
            for arm in arms:
                names.setdefault((role, arm.trial), []).append(arm.arm)
    rows: list[list[str]] = []
    keys = config_keys([*(trial.config for trial in selected), study.baseline_config])
    for trial in selected:
        stages = [_scores_of(study, searched.get((trial.arm, trial.number))), _scores_of(study, trial)]
        number_cell = NONE if trial.number is None else str(trial.number)
        configured = [number_cell, *config_cells(trial.config, keys)]
        rows += [
            [name or NONE, *configured, *stages, _scores_of(study, confirmed.get(name))]
            for name in names.pop((trial.arm, trial.number), [""])
        ]
    configs = {} if study.plan is None else study.plan.configs
    rows += [
        [name, NONE, *config_cells(configs[name], keys), NONE, NONE, _scores_of(study, confirmed.get(name))]
        for name in names.get((BASELINE, None), [])
    ]
    return table("Finalists", ["arm", "trial", *(symbol(key) for key in keys), *STAGES], rows)


def _scores_of(study: StudyFiles, trial: Trial | None) -> str:
    if trial is None or trial.score is None:
        return NONE
    return f"{study.score.number_words(trial.score)} (n = {len(trial.scores)})"


def _objective(study: StudyFiles, trial: Trial) -> float:
    return study.score.worst if trial.score is None else study.score.objective(trial.score)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def layers(study: StudyFiles) -> Iterator[Block]:
    """A look inside the BN layers of one run per arm."""
    if not study.diagnostics:
        return
    seen = [found for found in study.diagnostics.values() if found.layers]
    rows = [
        [arm, *(overview(found).values() if found.problem is None else [NONE] * len(overview(found)))]
        for arm, found in study.diagnostics.items()
    ]
    yield Heading("Inside the layers")
    whose = f", seed {seen[0].seed}, with the weights of its last epoch." if seen else "."
    yield paragraph(f"The BN layers of one run per arm{whose}")
    yield table("BN layers by arm", ["arm", *overview(next(iter(study.diagnostics.values())))], rows)
    yield paragraph(OVERVIEW_EXPLAINED)
    problems = [f"{arm}: {found.problem}" for arm, found in study.diagnostics.items() if found.problem]
    if problems:
        yield paragraph(f"Not known: {'; '.join(problems)}.")
    figures = layer_figures(study)
    pictures = [
        Picture(
            picture_of(arm), f"Layers of {arm}", f"{arm}. {FIGURE_EXPLAINED}", figure, result=_layers_words(arm, study)
        )
        for arm in study.diagnostics
        if (figure := figures[picture_of(arm)]) is not None
    ]
    yield from pictures[: FEW_ARMS + 1]
    if pictures[FEW_ARMS + 1 :]:
        yield Gallery("Pictures of the other arms:", tuple(pictures[FEW_ARMS + 1 :]))


def _layers_words(arm: str, study: StudyFiles) -> str:
    row = overview(study.diagnostics[arm])
    return f"median drift of γ {row['drift %']} %, largest |x̂| {row['max|x̂|']}, median gradient ratio {row['ratio']}"


def provenance(study: StudyFiles) -> Iterator[Block]:
    """Hashes, versions, and the commands that repeat and check the study."""
    last = study.records[-1:]
    plan = study.plan
    space_sha256 = plan.space_sha256 if plan is not None else (last[0].space_sha256 if last else None)
    sealed: tuple[Span, ...] = (NONE,)
    if plan is not None:
        sealed = (Mono(plan.plan_sha256), f" (sha256), locked {plan.created_at}")
    tail: tuple[Span, ...] = (", the last ", Mono(last[0].sha256), " (sha256)") if last else ()
    versions = [f"{name} {listed(found)}" for name, found in versions_of(study).items()]
    yield Heading("Provenance")
    yield Bullets(
        (
            ("space: ", *((Mono(space_sha256), " (sha256)") if space_sha256 else (NONE,))),
            ("plan: ", *sealed),
            (f"records: {len(study.records)} runs", *tail),
            (f"commit: {distinct(record.commit for record in study.records)}",),
            (f"versions: {', '.join(versions) or NONE}",),
            (f"devices: {distinct(_device(record) for record in study.records)}",),
            *_data(study),
        )
    )
    yield from _own_training(study)
    yield paragraph(
        "The verdict is computed from ",
        Mono("plan.json"),
        " and ",
        Mono("records.jsonl"),
        f" alone. To compute it again, in the folder above {study.folder.absolute().parent.name}/:",
    )
    folder = study.folder.absolute()
    yield Code(line_in_report("verify", folder))
    yield paragraph(
        "The study again from its beginning, under another name, with this commit and these versions. Seeds and first "
        "trials are the same; where several trials run at a time, what is proposed next depends on which ends first."
    )
    yield Code(repeat_line(folder))


def _own_training(study: StudyFiles) -> Iterator[Block]:
    """Whose word the seal of the test set is, and what `tune_bn check` found, where the training is the user's own."""
    trainer = study.space.get("trainer")
    if not isinstance(trainer, Mapping):
        return
    what = trainer.get("function") or " ".join(map(str, trainer.get("command") or ()))
    if trainer.get("ask"):
        what = "tune_bn ask"
    yield paragraph(
        "Trained by " if not trainer.get("ask") else "Trained by loops elsewhere, which got their runs by ",
        Mono(str(what)),
        ", code that this package does not know. A test score outside the confirmation makes a run invalid; that the "
        "code has not looked at the test data in secret is the word of whoever wrote it.",
    )
    outcome: Any = None
    with suppress(OSError, ValueError):
        outcome = json.loads((study.folder / CHECK_FILE).read_bytes())
    findings = outcome.get("findings") if isinstance(outcome, Mapping) else None
    if not findings:
        yield paragraph("It was never tried by ", Mono("tune_bn check"), ".")
        return
    yield paragraph("What ", Mono("tune_bn check"), " found:")
    yield Bullets(tuple((f"{one['trap'].strip()}: {one['verdict']}: {one['words']}",) for one in findings))


def _device(record: Record) -> str:
    model = record.environment.get("device_model")
    return record.device if model is None or str(model) in record.device else f"{record.device} ({model})"


def _data(study: StudyFiles) -> Iterator[tuple[Span, ...]]:
    """Which data the runs saw, as the plan locks it or the last run saw it."""
    seen = [record.data for record in study.records if record.data]
    data = (study.plan and study.plan.data) or (seen[-1] if seen else {})
    for split, words in SPLITS.items():
        part = data.get(split)
        if isinstance(part, dict) and "of" in part:
            yield (f"{part.get('count')} {words}, drawn by each run's seed from the pool ", Mono(str(part["of"])))
        elif isinstance(part, dict):
            hashes = Mono(str(part.get("images"))), ", labels ", Mono(str(part.get("labels")))
            yield (f"{part.get('count')} {words}: ", *hashes)
