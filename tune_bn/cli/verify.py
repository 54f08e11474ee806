"""The verb ``verify``: a study's verdict once more, or one on scores that somebody else's tools hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_bn.cli.common import (
    STUDIES,
    JsonOption,
    OutputOption,
    RequireOption,
    app,
    existing_study,
    exit_by,
    looks_of,
    print_verdict,
    say,
    say_verdict,
)
from tune_bn.cli.score_text import verdict_text
from tune_bn.errors import ConfigError, StudyError

if TYPE_CHECKING:
    from tune_bn.analysis.columns import Columns, Scores
    from tune_bn.records.score_verdict import ScoreVerdict
    from tune_bn.records.verdict import Verdict

_TABLE, _MLFLOW, _TEST = "A table of scores", "Runs in MLflow", "The test, for a table or for runs in MLflow"


@app.command()
def verify(
    context: typer.Context,
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Name of a study in --output, its folder, or a bundle.zip.")
    ] = None,
    output: OutputOption = STUDIES,
    as_json: JsonOption = False,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Judge this table instead: .csv, .tsv, .parquet, .jsonl, or what `tune_bn export` wrote.",
            rich_help_panel=_TABLE,
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Column of the arms (default: arm); given again: the columns that are arms, or, beside "
            "--score, that name an arm together. With --mlflow: "
            "params.NAME or tags.NAME.",
            rich_help_panel=_TABLE,
        ),
    ] = None,
    seed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Column whose values make the pairs (default: seed); several columns make a pair together. With "
            "--mlflow: params.NAME or tags.NAME.",
            rich_help_panel=_TABLE,
        ),
    ] = None,
    paired_by: Annotated[
        str | None, typer.Option(metavar="NAME", help="The same as --seed.", rich_help_panel=_TABLE)
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of the scores. Default: score.", rich_help_panel=_TABLE),
    ] = None,
    decimal: Annotated[
        str | None,
        typer.Option(
            metavar="comma|point",
            help="Decimal mark of the numbers, where 1,234 may be read in two ways.",
            rich_help_panel=_TABLE,
        ),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Judge runs in this store instead: sqlite:///PATH, http://HOST:PORT, or a path.",
            rich_help_panel=_MLFLOW,
        ),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name in MLflow.", rich_help_panel=_MLFLOW)
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="The score: a metric of the runs.", rich_help_panel=_MLFLOW)
    ] = None,
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="EXPRESSION",
            help="Only runs that match, in MLflow's words: \"params.model = 'resnet'\".",
            rich_help_panel=_MLFLOW,
        ),
    ] = None,
    write_tags: Annotated[
        bool,
        typer.Option(
            "--write-tags",
            help="Write the verdict to the runs and the experiment, as tags that begin with tune_bn.",
            rich_help_panel=_MLFLOW,
        ),
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(metavar="ARM", help="The arm to compare the others with.", rich_help_panel=_TEST)
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(
            metavar="max|min",
            help="Whether a higher or a lower score is better; asked for where the score's name leaves doubt.",
            rich_help_panel=_TEST,
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(metavar="P", help="Level of the test. Default: 0.05.", rich_help_panel=_TEST)
    ] = None,
    unpaired: Annotated[
        bool,
        typer.Option(
            "--unpaired",
            help="No run of one arm belongs to one of another: Welch's test.",
            rich_help_panel=_TEST,
        ),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Compare with a number, such as a published mean, instead of a baseline.",
            rich_help_panel=_TEST,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="The pairs are folds of K-fold cross-validations: the corrected resampled t-test.",
            rich_help_panel=_TEST,
        ),
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="The scores are judged after so many pairs each, 5,10,15: the group-sequential test.",
            rich_help_panel=_TEST,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What is claimed: superior (default), noninferior or equivalent, by --margin.",
            rich_help_panel=_TEST,
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="The loss or difference that would not matter, in the score's unit; for superior: the gain to exceed.",
            rich_help_panel=_TEST,
        ),
    ] = None,
    correction: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For several arms: holm (default), or max_t, step-down max-t by sign flips.",
            rich_help_panel=_TEST,
        ),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Say, and do not refuse: names, repeats, summaries or units. May be given again.",
            rich_help_panel=_TEST,
        ),
    ] = None,
    require: RequireOption = None,
) -> None:
    """Compute the verdict again, from the plan and the records alone; or judge scores of your own.

    With --scores, or --mlflow, every other arm is compared with --baseline by the
    test of a confirmation, without a plan. Nothing is written but by --write-tags.
    --json prints the verdict. Exit status: 0 a verdict, 1 an invalid one, 2 bad
    input, 3 one that is not supported beside --require supported.
    """
    table_options = {
        "--decimal": decimal,
        "--score": score,
        "--paired-by": paired_by,
    }
    store_options = {
        "--experiment": experiment,
        "--metric": metric,
        "--filter": filter_,
        "--write-tags": write_tags or None,
    }
    shared_options = {
        "--arm": arm,
        "--seed": seed,
        "--baseline": baseline,
        "--goal": goal,
        "--alpha": alpha,
        "--unpaired": unpaired or None,
        "--threshold": threshold,
        "--folds": folds,
        "--looks": looks,
        "--kind": kind,
        "--margin": margin,
        "--correction": correction,
        "--accept": accept,
    }
    sources = {"--scores": scores, "--mlflow": mlflow}
    named = [option for option, value in sources.items() if value is not None]
    if study is not None and named:
        raise StudyError(f"STUDY: got {study!r} beside {named[0]}; accepted: one of the two")
    if len(named) > 1:
        raise StudyError(f"--mlflow: got {mlflow!r} beside --scores; accepted: one of the two")
    if scores is None:
        _require_mode(table_options, "--scores", " alone" if mlflow is not None else " alone, a plan has its own")
    if mlflow is None:
        _require_mode(store_options, "--mlflow", " alone")
    if not named:
        _require_mode(shared_options, "--scores", " alone, a plan has its own")
        if study is None:
            context.fail("Missing argument 'STUDY', or option '--scores' or '--mlflow'.")
        _verify_study(study, output, as_json, require)
        return
    options: dict[str, Any] = {
        "baseline": baseline,
        "alpha": 0.05 if alpha is None else alpha,
        "goal": goal,
        "unpaired": unpaired,
        "threshold": threshold,
        "folds": folds,
        "looks": None if looks is None else looks_of(looks),
        "kind": kind,
        "margin": margin,
        "correction": "holm" if correction is None else correction,
        "accept": accept or (),
    }
    if scores is not None:
        _verify_table(scores, _columns(arm, seed, paired_by, score, decimal, options), options, as_json, require)
    elif mlflow is not None:
        given = {"arm": arm, "seed": seed, "experiment": experiment, "metric": metric, "filter": filter_}
        _verify_runs(mlflow, given, options, write_tags=write_tags, as_json=as_json, require=require)


def _require_mode(options: Mapping[str, Any], mode: str, accepted: str) -> None:
    for option, value in options.items():
        if value not in (None, [], ()):
            shown = value[0] if isinstance(value, list) else value
            got = "it" if shown is True else repr(shown)
            raise StudyError(f"{option}: got {got} without {mode}; accepted: beside {mode}{accepted}")


def _verify_study(study: str, output: Path, as_json: bool, require: str | None) -> None:
    from tune_bn.records.bundle import is_bundle

    if is_bundle(study):
        _verify_bundle(Path(study), as_json, require)
        return
    from tune_bn.analysis.verdict import renew_verdict

    folder = existing_study(study, output)
    verdict = renew_verdict(folder.path)
    if as_json:
        say(_json(verdict))
    else:
        print_verdict(folder, verdict)
    exit_by(verdict, require)


def _verify_bundle(path: Path, as_json: bool, require: str | None) -> None:
    from tune_bn.cli.bundles import beside, verdict_on_bundle

    verdict = verdict_on_bundle(path)
    if as_json:
        say(_json(verdict))
    else:
        say_verdict(verdict)
        say("\n".join(beside(verdict)))
    exit_by(verdict, require)


def _json(verdict: Verdict | ScoreVerdict) -> str:
    return json.dumps(verdict.to_json(), indent=2, ensure_ascii=False)


def _say(verdict: ScoreVerdict, as_json: bool) -> None:
    say(_json(verdict) if as_json else verdict_text(verdict))


def _columns(
    arm: Sequence[str] | None,
    seed: Sequence[str] | None,
    paired_by: str | None,
    score: str | None,
    decimal: str | None,
    options: Mapping[str, Any],
) -> Columns:
    from tune_bn.analysis.columns import Columns

    if seed and paired_by is not None:
        raise StudyError(f"--paired-by: got {paired_by!r} beside --seed; accepted: one of the two")
    needs_no_pairs = options["unpaired"] or options["threshold"] is not None
    return Columns(
        arm=tuple(arm or ()),
        pair=tuple(seed or (() if paired_by is None else (paired_by,))),
        score=score,
        decimal=decimal,
        paired=not needs_no_pairs,
        one_arm=options["threshold"] is not None,
        folds=options["folds"] is not None,
    )


def _verify_table(path: Path, columns: Columns, options: Mapping[str, Any], as_json: bool, require: str | None) -> None:
    from tune_bn.front.score_files import read_scores

    with _options():
        scores = read_scores(path, columns)
        verdict = _judged(scores, options)
    _say(verdict, as_json)
    exit_by(verdict, require)


def _judged(scores: Scores, options: Mapping[str, Any]) -> ScoreVerdict:
    from tune_bn.analysis.scores import verdict_on_scores
    from tune_bn.analysis.table_test import TableTest

    return verdict_on_scores(scores, TableTest(**options))


def _verify_runs(
    uri: str,
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    write_tags: bool,
    as_json: bool,
    require: str | None,
) -> None:
    from tune_bn.observers.mlflow.runs import RunTable

    for name in ("experiment", "arm", "metric"):
        if not given[name]:
            raise StudyError(f"--{name}: missing beside --mlflow; accepted: {_WANTED[name]}")
    if len(given["arm"]) > 1:
        raise StudyError(f"--arm: got {given['arm'][1]!r} again; accepted: {_WANTED['arm']}, once")
    needs_pairs = not options["unpaired"] and options["threshold"] is None
    if needs_pairs and not given["seed"]:
        raise StudyError(f"--seed: missing beside --mlflow; accepted: {_WANTED['seed']}")
    with _options(), RunTable.opened(uri, given["experiment"]) as table:
        scores = table.scores(
            arm=given["arm"][0], seed=tuple(given["seed"] or ()), metric=given["metric"], condition=given["filter"]
        )
        verdict = _judged(scores, options)
        # Said before it is written: a store that takes no tags costs no verdict.
        _say(verdict, as_json)
        if write_tags:
            count = table.write(verdict)
            typer.echo(f"tags tune_bn.* written to {count} runs and the experiment", err=True)
    exit_by(verdict, require)


_WANTED = {
    "experiment": "the name of an experiment in that store",
    "arm": "what tells the arms apart, params.NAME or tags.NAME",
    "seed": "what makes the pairs, params.NAME or tags.NAME; or --unpaired",
    "metric": "the name of a metric of the runs",
}


@contextmanager
def _options() -> Iterator[None]:
    """Name the option in errors about an argument."""
    try:
        yield
    except ConfigError as error:
        key = error.key.removeprefix("--").replace("_", "-")
        raise ConfigError(f"--{key}", error.value, error.accepted) from None
