"""The verbs of a study whose runs are trained by loops elsewhere: ask for a run, tell what became of it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_bn.cli.common import (
    STUDIES,
    JsonOption,
    OutputOption,
    SetOption,
    StudyArgument,
    app,
    existing_study,
    say,
    study_name,
)
from tune_bn.errors import StudyError
from tune_bn.records.commands import shown, study_command

if TYPE_CHECKING:
    from tune_bn.front.asking import Asked
    from tune_bn.study.folder import StudyFolder

_POLL_SECONDS = 2.0
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="As `tune_bn ask` called it.")]
LeaseOption = Annotated[
    str,
    typer.Option(
        "--lease",
        metavar="TIME",
        help="How long the run is yours, such as 90s, 30min or 2h; then it is handed out again.",
    ),
]


@app.command()
def ask(
    study: StudyArgument,
    space: Annotated[
        str | None,
        typer.Option("--space", help="Begin the study with this space file, with trainer: {ask: true, …}."),
    ] = None,
    set_: SetOption = None,
    output: OutputOption = STUDIES,
    lease: LeaseOption = "1h",
    worker: Annotated[str, typer.Option(help="Who asks, in words of yours; default: the machine's name.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait while all runs that are due are with others.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Runs that failed for good are due once more.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask for the next run of a study that a loop of your own trains, wherever that is.

    With --json: run, params, seed, steps, and the names of the scores to tell:
    validation, and in the confirmation test (null: the test data is not to be looked
    at); run is null while all runs are with others (state: waiting) and at the end
    (finished, with the verdict). Any number of loops may ask at once. What nobody told of
    within its lease is handed out again. With --space a study that is not there yet is
    begun; where it is there, it goes on, so every loop may be started by the same line.
    """
    from tune_bn.front.asking import WAITING
    from tune_bn.front.asking import ask as ask_for

    folder = _begun(study, space, set_ or [], output)
    seconds = _seconds(lease)
    while True:
        asked = ask_for(folder, lease=seconds, worker=worker, again=again)
        if not (wait and asked.state == WAITING):
            break
        again = False
        time.sleep(min(_POLL_SECONDS, asked.retry_after or _POLL_SECONDS))
    if asked.verdict is not None:
        _mirror(folder)
    say(json.dumps(asked.to_json(), ensure_ascii=False) if as_json else _words(asked, folder))


@app.command()
def tell(
    study: StudyArgument,
    run: RunArgument,
    scores: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Scores, such as val_acc=0.91 test_acc=0.9.")
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(help='File with a row for each step, such as {"step": 1, "val_acc": 0.4}, one a line.'),
    ] = None,
    failed: Annotated[str | None, typer.Option(metavar="REASON", help="It came to nothing, and why.")] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="It still runs: nothing is told, and it is yours for --lease from now on.")
    ] = False,
    lease: LeaseOption = "1h",
    seconds: Annotated[float | None, typer.Option(help="What it took; default: since it was asked for.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="On what it ran: cpu, or a GPU by its name. Default: as resources.gpu of the space has it."),
    ] = None,
    output: OutputOption = STUDIES,
    as_json: JsonOption = False,
) -> None:
    """Tell what became of a run that was asked for.

    The validation score by its name, and the test score where it was asked for; nan is a
    run that diverged. To tell the same again changes nothing; to tell something else is
    refused. A run that failed is handed out again as often as budget.max_failures says.
    """
    from tune_bn.front.asking import renew as keep
    from tune_bn.front.asking import tell as tell_of

    folder = existing_study(study, output)
    if renew:
        if scores or curve or failed is not None:
            raise StudyError("--renew: got it beside scores; accepted: one of the two")
        keep(folder, run, _seconds(lease))
        say(json.dumps({"run": run, "renewed": True}) if as_json else f"{run}: yours for {lease} from now on")
        return
    told = tell_of(
        folder,
        run,
        _scores(scores or []),
        curve=[] if curve is None else _rows(curve),
        failed=failed,
        seconds=seconds,
        device=device,
    )
    if told.verdict is not None:
        _mirror(folder)
    if as_json:
        say(json.dumps(told.to_json(), ensure_ascii=False))
        return
    before = " (as it was before)" if told.again else ""
    words = "failed; it is handed out again" if told.handed_out_again else "taken"
    say(f"{run}: {words}{before}")
    if told.verdict is not None:
        say(f"verdict: {told.verdict}\n{told.reason}\nreport:  {shown(folder.page_file)}")


def _begun(study: str, space: str | None, overrides: list[str], output: Path) -> StudyFolder:
    from tune_bn.space.loading import load_space, source_words
    from tune_bn.space.locate import find_space
    from tune_bn.study.folder import StudyFolder, require_writable
    from tune_bn.trainers.ask import ask_trainer

    if space is None:
        if overrides:
            raise StudyError(f"--set: got {overrides[0]} without --space; accepted: it where a study is begun")
        return existing_study(study, output)
    path = find_space(space)
    loaded = load_space(path, overrides)
    folder = existing_study(study, output) if "/" in study else StudyFolder(output / study_name(study, "STUDY"))
    if not folder.exists:
        ask_trainer(loaded)
        require_writable(output)
        try:
            return folder.created(loaded)
        except StudyError:
            # Another loop, started by the same line at the same moment.
            if not folder.exists:
                raise
    if folder.space().sha256 != loaded.sha256:
        raise StudyError(
            f"--space: got {source_words(path, overrides)}, but {folder.name} was begun with another space; accepted: "
            "the same, or another name"
        )
    return folder


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|m|h|d)?", text.strip())
    if found is None or not 0 < (seconds := float(found[1]) * _UNITS[found[2] or ""]) <= 10**8:
        raise StudyError(f"--lease: got {text!r}; accepted: a time such as 90s, 30min or 2h")
    return seconds


def _scores(texts: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        # Python's own numbers may have an underscore, or digits of any script.
        if not (sign and name and _NUMBER.fullmatch(value)):
            raise StudyError(f"NAME=VALUE: got {text!r}; accepted: a name and a number, such as val_acc=0.91")
        if name in found:
            raise StudyError(f"NAME=VALUE: got {name} twice; accepted: each name once")
        found[name] = float(value)
    return found


def _rows(path: Path) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not in UTF-8"
        raise StudyError(f"--curve: {path} cannot be read ({reason}); accepted: a file with a row a line") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line, object_pairs_hook=_each_once))
        except _TwiceError as error:
            raise StudyError(f"--curve: {path}:{number}: got {error} twice; accepted: each name once") from None
        except (ValueError, RecursionError):
            accepted = 'an object such as {"step": 1, "val_acc": 0.4}'
            raise StudyError(f"--curve: {path}:{number}: no JSON; accepted: {accepted}") from None
    return rows


class _TwiceError(ValueError):
    pass


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError(next(name for name in found if [key for key, _ in pairs].count(name) > 1))
    return found


def _mirror(folder: StudyFolder) -> None:
    """Show a finished study to MLflow, where it is installed."""
    from tune_bn.host.extras import installed

    if not all(map(installed, ("mlflow", "ray", "torch"))):
        return
    from tune_bn.study.done import final_verdict

    verdict = final_verdict(folder)
    if verdict is not None:
        from tune_bn.front.wiring import catch_up

        catch_up(folder, folder.space(), verdict, lambda line: typer.echo(f"warning: {line}", err=True))


def _words(asked: Asked, folder: StudyFolder) -> str:
    if asked.verdict is not None:
        return (
            f"{asked.study} is finished\nverdict: {asked.verdict}\n{asked.reason}\nreport:  {shown(folder.page_file)}"
        )
    if asked.run is None:
        when = "" if asked.retry_after is None else f"; the first lease ends in {asked.retry_after:.0f} s"
        return f"{asked.study}: every run that is due is with others{when}"
    params = " ".join(f"{name}={value}" for name, value in asked.params.items())
    wanted = [f"{name}=…" for name in (asked.validation, asked.test) if name]
    lines = [
        f"run        {asked.run}",
        f"params     {params}",
        f"seed       {asked.seed}",
        f"steps      {asked.steps}",
        f"test       {asked.test or 'not to be looked at'}",
        f"yours      until {asked.lease_until} (attempt {asked.attempt})",
        *(f"data       {key}: {place}" for key, place in asked.data.items()),
        f"then       {study_command('tell', folder.path, asked.run, *wanted)}",
    ]
    return "\n".join(lines)
