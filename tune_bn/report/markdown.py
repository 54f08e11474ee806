"""``report.md``: the verdict first, then what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tune_bn.analysis.evidence import listed
from tune_bn.analysis.verdict import INVALID, NOT_SUPPORTED, SUPPORTED
from tune_bn.analysis.wording import config_keys, metric_words, spread_words, symbol, value_words
from tune_bn.errors import StudyError
from tune_bn.records import BASELINE, CANDIDATE, CONFIRM, FAILED, SEARCH, SELECT, STAGES, STATUSES, write_text
from tune_bn.report.layers import FIGURE_EXPLAINED, OVERVIEW_EXPLAINED, overview, picture_of
from tune_bn.report.plots import FEW_ARMS, write_plots
from tune_bn.report.study import StudyFiles, Trial, load, trials_of

REPORT_FILE = "report.md"
PLOTS = "plots"
NONE = "–"

_HEADINGS = {SUPPORTED: "Supported", NOT_SUPPORTED: "Not supported", INVALID: "Invalid"}
_PICTURES = {
    "paired.png": (
        "Paired scores",
        "Confirmation. Left: each line is one seed under both arms, the thick one their mean. Right: the paired "
        "differences, their mean, and its one-sided lower confidence bound.",
    ),
    "landscape.png": (
        "Landscape of the search",
        "Search: each point is one trial. The score of a trial that was stopped early is not comparable, so it has no "
        "colour.",
    ),
    "curves.png": (
        "Learning curves",
        "Confirmation: validation accuracy by epoch, mean ± standard deviation over seeds.",
    ),
}
"""Title and caption of each plot."""


def write_report(folder: Path) -> list[Path]:
    """Write ``report.md`` and ``plots/*.png`` into the study ``folder``, from the files that lie there.

    A study that is not confirmed yet gets a report that says so. Each file is written whole or not at all.

    Returns:
        The files written, the report first.

    Raises:
        StudyError: there is no study in ``folder``, or nothing can be written there.
        RecordError: ``verdict.json`` cannot be read.
    """
    study = load(folder)
    report = folder / REPORT_FILE
    try:
        plots = write_plots(study, folder / PLOTS)
        write_text(report, render(study, plots))
    except OSError as error:
        raise StudyError(f"{folder}: cannot be written ({error.strerror}); accepted: a folder that can") from None
    return [report, *plots]


def render(study: StudyFiles, plots: Sequence[Path] = ()) -> str:
    """The text of the report, with links to ``plots``, which lie in the folder ``plots`` beside it."""
    pictures = {
        name: f"![{title}]({PLOTS}/{name})\n\n*{caption}*"
        for name, (title, caption) in _PICTURES.items()
        if name in {path.name for path in plots}
    }
    sections = [
        f"# {_escape(study.name)}",
        *_headline(study),
        *_result(study),
        pictures.get("paired.png"),
        *_stages(study),
        pictures.get("landscape.png"),
        *_finalists(study),
        pictures.get("curves.png"),
        *_layers(study, plots),
        *_scores(study),
        *_provenance(study),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _headline(study: StudyFiles) -> list[str]:
    verdict = study.verdict
    lines = [f"**Damaged file:** {_escape(problem)}" for problem in study.problems]
    if verdict is None:
        progress = ""
        if study.plan is not None:
            done = sum(record.status != FAILED for record in study.records if record.stage == CONFIRM)
            planned = len(study.plan["seeds"]) * (1 + len(study.plan["candidates"]))
            progress = f" {done} of {planned} confirmation runs are done; `tune_bn confirm {study.name}` goes on."
        return [
            f"**Not confirmed yet:** there is no verdict, and scores of the search are no evidence.{progress}",
            *lines,
        ]
    problems = verdict.get("problems", [])
    listing = "\n".join(f"- {_escape(problem)}" for problem in problems) if len(problems) > 1 else ""
    return [f"**{_HEADINGS[verdict['verdict']]}:** {_escape(verdict['reason'])}", listing, *lines]


def _result(study: StudyFiles) -> list[str]:
    verdict = study.verdict
    if verdict is None or not verdict.get("baseline"):
        return []
    arms = [verdict["baseline"], *verdict["candidates"]]
    keys = config_keys([arm["config"] for arm in arms])
    several = len(arms) > 2
    level = f"{100 * (1 - verdict['alpha']):g} %"
    header = [
        "arm",
        *(symbol(key) for key in keys),
        f"{metric_words(verdict['metric'])}, %",
        "effect, pp",
        f"{level} lower bound, pp",
        "p",
        *(["p, adjusted (Holm)"] if several else []),
        "d_z",
    ]
    rows = []
    for arm in arms:
        bold = arm.get("supported", False)
        numbers = [
            _number(arm.get("effect"), "+.2f"),
            _number(arm.get("ci_low"), "+.2f"),
            _number(arm.get("p_value"), ".2g"),
            *([_number(arm.get("p_adjusted"), ".2g")] if several else []),
            _number(arm.get("d_z"), ".2f"),
        ]
        mean = NONE if arm["mean"] is None else f"{arm['mean']:.2f}"
        if arm["std"] is not None:
            mean = spread_words(arm["mean"], arm["std"])
        # As in the paper's tables, bold is what is significantly better than the baseline.
        cells = [f"**{cell}**" if bold else cell for cell in (mean, *numbers)]
        rows.append([arm["arm"], *_config_cells(arm["config"], keys), *cells])
    notes = [
        f"Mean ± standard deviation over n = {verdict['n']} seeds; effect: mean of the paired differences from the "
        f"baseline in percentage points (pp); p: one-sided paired t-test, α = {verdict['alpha']:g}; d_z: effect "
        "divided by the standard deviation of the differences; bold: significantly better than the baseline."
    ]
    for what, runs in (("Diverged, scored by the plan's rule", verdict["diverged"]), ("Retried", verdict["retried"])):
        if runs:
            notes.append(f"{what}: {', '.join(f'`{run}`' for run in runs)}.")
    return ["## Result", table(header, rows), " ".join(notes)]


def _stages(study: StudyFiles) -> list[str]:
    header = ["stage", "configurations", *STATUSES, "runs", "seeds", "minutes of training"]
    rows = []
    for stage in STAGES:
        records = [record for record in study.records if record.stage == stage]
        if records:
            trials = trials_of(records, stage)
            counts = [sum(trial.status == status for trial in trials) for status in STATUSES]
            seeds = _ranges(record.seed for record in records)
            minutes = sum(record.duration_seconds for record in records) / 60
            rows.append([stage, len(trials), *counts, len(records), seeds, f"{minutes:.1f}"])
    if not rows:
        return ["## Stages", "No run is finished yet."]
    return ["## Stages", table(header, rows), "A configuration counts by the worst of its runs."]


def _finalists(study: StudyFiles) -> list[str]:
    """Search, selection and confirmation of the same configurations side by side, so that the winner's luck shows."""
    selected = sorted(trials_of(study.records, SELECT), key=lambda trial: -(trial.val_accuracy or 0))
    if not selected:
        return []
    searched = {(trial.arm, trial.number): trial for trial in trials_of(study.records, SEARCH)}
    confirmed = {trial.arm: trial for trial in trials_of(study.records, CONFIRM)}
    names: dict[tuple[str, int | None], str] = {}
    if study.plan is not None:
        names = {(CANDIDATE, arm["trial"]): arm["arm"] for arm in study.plan["candidates"]}
        names[(BASELINE, study.plan["baseline"]["trial"])] = BASELINE
    rows: list[list[Any]] = []
    keys = config_keys([*(trial.config for trial in selected), study.baseline_config])
    for trial in selected:
        name = names.pop((trial.arm, trial.number), None)
        stages = (searched.get((trial.arm, trial.number)), trial, confirmed.get(name) if name else None)
        rows.append([name or NONE, trial.number, *_config_cells(trial.config, keys), *map(_accuracies, stages)])
    if (BASELINE, None) in names:
        rows.append(
            [
                BASELINE,
                NONE,
                *_config_cells(study.baseline_config, keys),
                NONE,
                NONE,
                _accuracies(confirmed.get(BASELINE)),
            ]
        )
    header = ["arm", "trial", *(symbol(key) for key in keys), *STAGES]
    return [
        "## Finalists",
        "Validation accuracy of the same configurations in each stage, in percent. What won the search was lucky "
        "there, so its score tends to fall on fresh seeds; only the confirmation counts.",
        table(header, rows),
    ]


def _layers(study: StudyFiles, plots: Sequence[Path]) -> list[str]:
    """A look inside the BN layers of one run per arm."""
    if not study.diagnostics:
        return []
    seen = [found for found in study.diagnostics.values() if found.layers]
    rows = [
        [arm, *(overview(found).values() if found.problem is None else [NONE] * len(overview(found)))]
        for arm, found in study.diagnostics.items()
    ]
    header = ["arm", *overview(next(iter(study.diagnostics.values())))]
    problems = [f"{arm}: {_escape(found.problem)}" for arm, found in study.diagnostics.items() if found.problem]
    drawn = {path.name for path in plots}
    arms = [arm for arm in study.diagnostics if picture_of(arm) in drawn]
    shown, linked = arms[: FEW_ARMS + 1], arms[FEW_ARMS + 1 :]
    pictures = [f"![Layers of {arm}]({PLOTS}/{picture_of(arm)})" for arm in shown]
    links = ", ".join(f"[{arm}]({PLOTS}/{picture_of(arm)})" for arm in linked)
    return [
        "## Inside the layers",
        "The BN layers of one run per arm"
        + (f", seed {seen[0].seed}, with the weights of its last epoch." if seen else "."),
        table(header, rows),
        OVERVIEW_EXPLAINED,
        *(["Not known: " + "; ".join(problems) + "."] if problems else []),
        *([*pictures, f"*{FIGURE_EXPLAINED}*"] if pictures else []),
        *([f"The other arms: {links}."] if linked else []),
    ]


def _scores(study: StudyFiles) -> list[str]:
    verdict = study.verdict
    if verdict is None or not verdict.get("baseline"):
        return []
    baseline, candidates = verdict["baseline"], verdict["candidates"]
    header = ["seed", BASELINE]
    for arm in candidates:
        header += [arm["arm"], "difference"]
    rows = []
    for seed in map(str, verdict["seeds"]):
        before = baseline["scores"].get(seed)
        row = [seed, _number(before, ".2f")]
        for arm in candidates:
            after = arm["scores"].get(seed)
            row += [_number(after, ".2f"), _number(None if None in (before, after) else after - before, "+.2f")]
        rows.append(row)
    return [
        "## Scores by seed",
        f"{metric_words(verdict['metric']).capitalize()} in percent; differences in percentage points.",
        table(header, rows),
    ]


def _provenance(study: StudyFiles) -> list[str]:
    last = study.records[-1:]
    plan = study.plan or {}
    space_sha256 = plan.get("space_sha256") or (last[0].space_sha256 if last else NONE)
    versions = {
        name: sorted({str(record.versions.get(name)) for record in study.records})
        for name in sorted({name for record in study.records for name in record.versions})
    }
    facts = {
        "space": f"`{space_sha256}` (sha256)",
        "plan": f"`{plan['plan_sha256']}` (sha256), sealed {plan['created_at']}" if plan else NONE,
        "records": f"{len(study.records)} runs" + (f", the last `{last[0].sha256}` (sha256)" if last else ""),
        "commit": _distinct(record.commit for record in study.records),
        "versions": ", ".join(f"{name} {listed(found)}" for name, found in versions.items()) or NONE,
        "devices": _distinct(record.device for record in study.records),
    }
    return [
        "## Provenance",
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        "The verdict is computed from `plan.json` and `records.jsonl` alone. To compute it again:",
        f"```\ntune_bn verify {study.name}\n```",
    ]


def _accuracies(trial: Trial | None) -> str:
    if trial is None or trial.val_accuracy is None:
        return NONE
    return f"{fmean(trial.val_accuracies):.2f} (n = {len(trial.val_accuracies)})"


def _config_cells(config: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [value_words(config[key]) if key in config else NONE for key in keys]


def _number(value: float | None, spec: str) -> str:
    return NONE if value is None else format(value, spec)


def _distinct(values: Iterable[Any]) -> str:
    found = list(dict.fromkeys("unknown" if value is None else str(value) for value in values))
    return ", ".join(found) or NONE


def _ranges(seeds: Iterable[int]) -> str:
    """``1–15, 101`` for 1, 2, …, 15, 101."""
    runs: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in runs)


def _escape(text: Any) -> str:
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, the first column to the left, the others to the right."""
    first, *others = ([_escape(cell) for cell in row] for row in (header, *rows))
    lines = [first, ["---", *["---:"] * (len(header) - 1)], *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
