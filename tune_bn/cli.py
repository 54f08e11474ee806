"""The command line. Verbs only; :mod:`tune_bn.wiring` puts the parts together.

Exit status: 0 done, 1 the verdict is invalid, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tune_bn import __version__
from tune_bn.errors import DataError, Interrupted, RunnerError, StudyError, TrackingError, TuneBNError
from tune_bn.study_folder import STUDY_NAME, StudyFolder, list_studies, new_study, require_writable

app = typer.Typer(
    help="Find the initial batch-norm scale γ and the divisor c of its learning rate, and prove that they are better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SpaceOption = Annotated[
    str, typer.Option("--space", help="Space file: a path, or a name in search_spaces/ or in the package.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as train.epochs=5.")
]
OutputOption = Annotated[Path, typer.Option("--output", help="Folder of all studies.")]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to run on: auto, or HOST[:PORT]. Default: this machine.")
]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study in --output, or its folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

STUDIES = Path("studies")
DEFAULT_SPACE = "digits.yaml"


def _version(value: bool) -> None:
    if value:
        typer.echo(f"tune_bn {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See the application's help."""


@app.command()
def validate(space: SpaceOption = DEFAULT_SPACE, set_: SetOption = None) -> None:
    """Check a space file and its data; say what a search would cost. Starts nothing."""
    from tune_bn.spaces import find_space
    from tune_bn.spec import load_space, source_words
    from tune_bn.validate import describe

    path = find_space(space)
    loaded = load_space(path, set_ or [])
    with _naming(source_words(path, set_ or [])):
        _say(describe(loaded, path))


@app.command()
def search(
    space: SpaceOption = DEFAULT_SPACE,
    trials: Annotated[int | None, typer.Option(help="Trials of the search; short for --set budget.trials=N.")] = None,
    set_: SetOption = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study. Default: the space's name and a number.")
    ] = None,
    output: OutputOption = STUDIES,
    address: AddressOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that was interrupted.")] = False,
) -> None:
    """Search, select, confirm, verify and report: the whole way from a space file to a verdict."""
    from tune_bn.spaces import find_space
    from tune_bn.spec import load_space, source_words

    path = find_space(space)
    overrides = [*(set_ or []), *([] if trials is None else [f"budget.trials={trials}"])]
    loaded, source = load_space(path, overrides), source_words(path, overrides)
    if resume:
        folder = _study(study, output) if study is not None else _latest(output, loaded.name)
        folder.check_resume(loaded)
        _run(lambda: folder.resumed(loaded), loaded, source, address, folder.path)
    elif study is not None:
        folder = StudyFolder(output / _study_name(study))
        require_writable(output)
        folder.check_new()
        _run(lambda: folder.created(loaded), loaded, source, address, folder.path)
    else:
        _run(lambda: new_study(output, loaded.name).created(loaded), loaded, source, address, output)


@app.command()
def confirm(study: StudyArgument, output: OutputOption = STUDIES, address: AddressOption = None) -> None:
    """Select and confirm with the trials that the search has so far, then verify and report."""
    folder = _study(study, output)

    from tune_bn.study import Study

    _run(lambda: folder, folder.space(), str(folder.space_file), address, folder.path, stages=Study.confirm)


def _run(open_folder: Any, space: Any, source: str, address: str | None, place: Path, **stages: Any) -> None:
    """Check at the door, run, and print the verdict; on Ctrl-C print how to go on."""
    from tune_bn.validate import check_surroundings

    require_writable(place)
    with _naming(source):
        check_surroundings(space)

    from tune_bn.console import ConsoleObserver
    from tune_bn.wiring import run_study

    opened: list[StudyFolder] = []

    def opening() -> StudyFolder:
        opened.append(open_folder())
        return opened[-1]

    console = ConsoleObserver()
    try:
        with _naming(source):
            verdict = run_study(opening, space, address=address, console=console, **stages)
    except (Interrupted, KeyboardInterrupt):
        console.close()
        if opened:
            resume = _resume_line(opened[0].path, address)
            typer.echo(f"interrupted; nothing that finished is lost. To go on: {resume}", err=True)
        raise typer.Exit(130) from None
    finally:
        console.close()
    _print_verdict(opened[0], verdict)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Name the space file in errors about its keys: who finds a value wrong does not know where it was written."""
    try:
        yield
    except (DataError, RunnerError, TrackingError) as error:
        if str(error).startswith(("data.", "train.", "resources.", "tracking.")):
            raise type(error)(f"{source}: {error}") from None
        raise


def _say(text: str) -> None:
    """Print; where the reader of a pipe has gone (``| head``) nothing is wrong, and the exit status stays as it is."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _resume_line(folder: Path, address: str | None) -> str:
    words = ["tune_bn", "search", "--space", _shown(folder / "space.yaml"), "--study", folder.name]
    if folder.parent != STUDIES.absolute():
        words += ["--output", _shown(folder.parent)]
    if address is not None:
        words += ["--address", address]
    return shlex.join([*words, "--resume"])


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _print_verdict(folder: StudyFolder, verdict: dict[str, Any]) -> None:
    _say(f"verdict: {verdict['verdict']}")
    _say(verdict["reason"])
    _say(f"report:  {_shown(folder.report_file)}")
    if verdict["verdict"] == "invalid":
        raise typer.Exit(1)


@app.command()
def verify(study: StudyArgument, output: OutputOption = STUDIES, as_json: JsonOption = False) -> None:
    """Compute the verdict again, from the plan and the records alone."""
    from tune_bn.analysis.verdict import write_verdict

    folder = _study(study, output)
    verdict = write_verdict(folder.path)
    if as_json:
        _say(json.dumps(verdict, indent=2, ensure_ascii=False))
        if verdict["verdict"] == "invalid":
            raise typer.Exit(1)
    else:
        _print_verdict(folder, verdict)


@app.command()
def report(study: StudyArgument, output: OutputOption = STUDIES) -> None:
    """Write report.md and its plots again, from the study's folder."""
    from tune_bn.report.markdown import write_report

    for path in write_report(_study(study, output).path):
        _say(_shown(path))


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="One study; default: all.")] = None,
    output: OutputOption = STUDIES,
    as_json: JsonOption = False,
) -> None:
    """Show the studies: stage, progress, best so far, verdict."""
    from tune_bn.status import describe_study, table

    folders = [_study(study, output)] if study is not None else list_studies(output)
    rows = [describe_study(folder) for folder in folders]
    if as_json:
        _say(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _say(table(rows, output))


@app.command()
def train(
    space: SpaceOption = DEFAULT_SPACE,
    gamma: Annotated[float | None, typer.Option(help="Initial γ; default: the space's.")] = None,
    c: Annotated[float | None, typer.Option(help="Divisor of γ's learning rate; default: the space's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    set_: SetOption = None,
) -> None:
    """Train one run in this process and print its curve, on validation data. For debugging; nothing is recorded."""
    from tune_bn.spaces import find_space
    from tune_bn.spec import load_space, source_words
    from tune_bn.train_command import train_once

    path = find_space(space)
    loaded = load_space(path, set_ or [])
    given = {key: value for key, value in (("gamma", gamma), ("c", c)) if value is not None}
    with _naming(source_words(path, set_ or [])):
        for line in train_once(loaded, given, seed):
            _say(line)


@app.command()
def ui(
    output: OutputOption = STUDIES,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    uri: Annotated[
        str | None, typer.Option(help="Tracking store to show; default: the one beside the studies.")
    ] = None,
) -> None:
    """Open the MLflow UI on the store of the studies. Ends with Ctrl-C."""
    from tune_bn.tracking.mlflow_uri import check_tracking_uri, default_tracking_uri, shown

    store = default_tracking_uri(output) if uri is None else uri
    with _naming("--uri"):
        check_tracking_uri(store)
    if uri is None and not (output / "mlflow.db").exists():
        raise TrackingError(f"--output: {output} has no mlflow.db; accepted: a folder of studies that ran, or --uri")
    # MLflow opens on its view of language-model traces; experiments with training runs are one page further.
    page = f"http://{host}:{port}/#/experiments"
    typer.echo(f"MLflow UI of {shown(store)} on {page} (Ctrl-C ends it)", err=True)
    # Its job service would start a pool of processes that nothing here uses.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--artifacts-destination", (output.absolute() / "mlartifacts").as_uri(), "--workers", "1"]
    os.execv(sys.executable, [*command, "--host", host, "--port", str(port)])


def _study_name(name: str) -> str:
    if not re.fullmatch(STUDY_NAME, name):
        raise StudyError(f"--study: got {name!r}; accepted: letters, digits, '.', '_' and '-', at most 80, no path")
    return name


def _study(name: str, output: Path) -> StudyFolder:
    """An existing study: by name in ``output``, or by its folder."""
    is_path = "/" in name or name in (".", "..")
    folder = StudyFolder(Path(name) if is_path else output / _study_name(name))
    folder.require()
    return folder


def _latest(output: Path, space_name: str) -> StudyFolder:
    """The newest study of that space, for ``--resume`` without ``--study``."""
    found = [folder for folder in list_studies(output) if _space_name(folder) == space_name]
    if not found:
        raise StudyError(f"--resume: {output} has no study of the space {space_name}; accepted: --study NAME")
    return found[-1]


def _space_name(folder: StudyFolder) -> str | None:
    try:
        return folder.space().name
    except TuneBNError:
        return None  # another study, whose file was spoilt, is no concern of this one


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: errors that tune_bn raises on purpose become one line and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # γ and ± are no reason to end with a traceback on a terminal that lacks them.
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments, prog_name="tune_bn")
    except TuneBNError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
