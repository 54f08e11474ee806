"""What the verbs share: the application, options that mean the same everywhere, and how a study is run and shown."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tune_bn.errors import (
    ConfigError,
    DataError,
    Interrupted,
    MethodError,
    RunnerError,
    StudyError,
    TrackingError,
    TuneBNError,
)
from tune_bn.protocols.stop_request import INTERRUPTED, StopRequest
from tune_bn.study.folder import STUDY_NAME, StudyFolder, list_studies, require_writable

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


def run(open_folder: Any, space: Any, source: str, address: str | None, place: Path, **stages: Any) -> None:
    """Run as :func:`carry_out` does, and print the verdict."""
    print_verdict(*carry_out(open_folder, space, source, address, place, **stages))


def carry_out(
    open_folder: Any,
    space: Any,
    source: str,
    address: str | None,
    place: Path,
    *,
    to_go_on: str | None = None,
    studies_dir: Path | None = None,
    going_on: StudyFolder | None = None,
    **stages: Any,
) -> tuple[StudyFolder, dict[str, Any]]:
    """Check at the door and run: the study's folder and its verdict; where it is to stop, print how to go on."""
    from tune_bn.cli.validate import check_surroundings, power_words
    from tune_bn.observers.mlflow.uri import check_store
    from tune_bn.service.jobs import VARIABLE

    if going_on is not None and not os.environ.get(VARIABLE):
        going_on.forget_stop()
    begun = [] if going_on is None else [going_on]

    def opening() -> StudyFolder:
        begun.append(open_folder())
        # Before anything is spent: a study that cannot find the gain in question need not begin.
        say(f"power  {power_words(space)}")
        return begun[-1]

    stop = StopRequest()
    try:
        with stop.on_signals():
            require_writable(place)
            remarks: list[str] = []
            with naming(source):
                check_store(space.tracking.uri, studies_dir or (place.parent if StudyFolder(place).exists else place))
                data = check_surroundings(space, remarks.append)
            for remark in data.remarks:
                typer.echo(f"data  {remark}", err=True)

            from tune_bn.observers.console.observer import ConsoleObserver
            from tune_bn.wiring import run_study

            stages |= {"going_on": going_on, "remarks": remarks, "stop": stop}
            with naming(source), ConsoleObserver() as console:
                verdict = run_study(opening, space, address=address, console=console, **stages)
    except (Interrupted, KeyboardInterrupt) as error:
        lost = "nothing was begun"
        if begun:
            lost = f"nothing that finished is lost. To go on: {to_go_on or resume_line(begun[-1].path, address)}"
        typer.echo(f"{stop.reason or error or INTERRUPTED}; {lost}", err=True)
        raise typer.Exit(130) from None
    return begun[-1], verdict


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Name the space file in errors about its keys: who finds a value wrong does not know where it was written."""
    try:
        yield
    except (DataError, MethodError, RunnerError, TrackingError) as error:
        if str(error).startswith(("model.", "data.", "train.", "resources.", "tracking.", "search.", "claim.")):
            raise type(error)(f"{source}: {error}") from None
        raise


def say(text: str) -> None:
    """Print; where the reader of a pipe has gone (``| head``) nothing is wrong, and the exit status stays as it is."""
    print(text, flush=True)


def looks_of(text: str) -> list[int]:
    """The numbers of pairs that ``--looks`` names."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,6}", part, re.ASCII) for part in parts):
        raise ConfigError("--looks", text, "whole numbers of pairs, such as 5,10,15")
    return [int(part) for part in parts]


def resume_line(folder: Path, address: str | None) -> str:
    from tune_bn.service.jobs import read_job
    from tune_bn.study.driver import TO_GO_ON_VARIABLE, read_driver_state

    # A batch system's study would train on the login node otherwise.
    state = read_driver_state(StudyFolder(folder))
    if line := os.environ.get(TO_GO_ON_VARIABLE) or (state.to_go_on if state is not None else ""):
        return line
    words = ["tune_bn", "search", "--space", shown(folder / "space.yaml"), "--study", folder.name]
    if folder.parent != STUDIES.absolute():
        words += ["--output", shown(folder.parent)]
    if read_job(StudyFolder(folder)) is not None:
        words += ["--job"]
    elif address := address or (state.address if state is not None else ""):
        words += ["--address", address]
    return shlex.join([*words, "--resume"])


def shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def say_verdict(verdict: dict[str, Any]) -> None:
    """What a verdict says, in words."""
    say(f"verdict: {verdict['headline']}")
    say(verdict["reason"])
    for line in about(verdict):
        say(line)
    for remark in verdict["remarks"]:
        say(f"note:    {remark}.")


def print_verdict(folder: StudyFolder, verdict: dict[str, Any]) -> None:
    say_verdict(verdict)
    say(f"report:  {shown(folder.page_file)}")
    if verdict["verdict"] == "invalid":
        raise typer.Exit(1)


def about(verdict: dict[str, Any]) -> Iterator[str]:
    """What a valid verdict is about, and what it is over test images too."""
    from tune_bn.analysis.wording import images_words

    for arm in verdict["candidates"]:
        if arm.get("over_images"):
            yield f"images:  {arm['arm']}: {images_words(arm['over_images'])}"
    if verdict.get("seal"):
        yield f"seal:    {verdict['seal']}"
    if verdict.get("covers"):
        yield f"about:   {verdict['covers']}"


def study_name(name: str, option: str = "--study") -> str:
    if not re.fullmatch(STUDY_NAME, name):
        raise StudyError(f"{option}: got {name!r}; accepted: letters, digits, '.', '_' and '-', at most 80, no path")
    return name


def existing_study(name: str, output: Path, option: str | None = None) -> StudyFolder:
    """An existing study: by name in ``output``, or by its folder. ``option`` is where the name was given."""
    is_path = "/" in name or name in (".", "..")
    folder = StudyFolder(Path(name) if is_path else output / study_name(name, option or "--study"))
    folder.require(option or "STUDY")
    return folder


def latest_study(output: Path, space_name: str) -> StudyFolder:
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
