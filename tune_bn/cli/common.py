"""What the verbs share: the application, options that mean the same everywhere, and how a study is run and shown."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_bn.cli.completion import InOrder, known_keys, known_spaces, known_studies
from tune_bn.cli.which_study import existing_study as existing_study
from tune_bn.cli.which_study import latest_study as latest_study
from tune_bn.cli.which_study import study_name as study_name
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
from tune_bn.records.commands import (
    IN_PROCESS,
    place_words,
    search_command,
)
from tune_bn.records.commands import STUDIES as STUDIES
from tune_bn.records.commands import shown as shown
from tune_bn.records.data_file import data_remarks
from tune_bn.study.folder import StudyFolder, require_writable

if TYPE_CHECKING:
    from tune_bn.observers.console.observer import ConsoleObserver
    from tune_bn.records.verdict import AnyVerdict, Verdict

app = typer.Typer(
    cls=InOrder,
    help="Find the initial batch-norm scale γ and the divisor c of its learning rate, and prove that they are better.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

SpaceOption = Annotated[
    str,
    typer.Option(
        "--space",
        help="Space file: a path, or a name in search_spaces/ or in the package.",
        autocompletion=known_spaces,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, such as train.epochs=5.", autocompletion=known_keys
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", help="Folder of all studies.")]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to run on: auto, or HOST[:PORT]. Default: this machine.")
]
LocalOption = Annotated[
    bool,
    typer.Option(
        "--local", help="Without Ray: one run after the other, in this process. For debugging, and where no Ray starts."
    ),
]
StudyArgument = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="Name of a study in --output, or its folder.", autocompletion=known_studies),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
RequireOption = Annotated[
    str | None,
    typer.Option(
        "--require",
        metavar="supported",
        help="Exit with 3 where the verdict is not supported; for scripts.",
        callback=lambda value: _required(value),
    ),
]

DEFAULT_SPACE = "digits.yaml"


def _required(requirement: str | None) -> str | None:
    if requirement is None:
        return None
    # Only now, since it loads numpy.
    from tune_bn.analysis.gate import required

    return required(requirement)


def exit_by(verdict: AnyVerdict, require: str | None = None) -> None:
    """End as :func:`tune_bn.analysis.gate.exit_status` says: 1 for an invalid verdict, 3 for one that falls short."""
    from tune_bn.analysis.gate import exit_status

    if status := exit_status(verdict, require):
        raise typer.Exit(status)


def run(
    open_folder: Any,
    space: Any,
    source: str,
    address: str | None,
    place: Path,
    *,
    require: str | None = None,
    **stages: Any,
) -> None:
    """Run as :func:`carry_out` does, and print the verdict."""
    going_on = stages.get("going_on")
    known = None if going_on is None else finished(going_on)
    if going_on is None or known is None:
        folder, verdict = carry_out(open_folder, space, source, address, place, **stages)
        print_verdict(folder, verdict)
        exit_by(verdict, require)
        return
    print_verdict(going_on, known)

    from tune_bn.wiring import catch_up

    catch_up(going_on, space, known, lambda line: typer.echo(f"warning: {line}", err=True))
    exit_by(known, require)


def carry_out(
    open_folder: Any,
    space: Any,
    source: str,
    address: str | None,
    place: Path,
    *,
    to_go_on: list[str] | None = None,
    studies_dir: Path | None = None,
    going_on: StudyFolder | None = None,
    console: ConsoleObserver | None = None,
    **stages: Any,
) -> tuple[StudyFolder, Verdict]:
    """Check at the door and run: the study's folder and its verdict; where it is to stop, print how to go on."""
    from tune_bn.extras import require

    require("a study", "train", *([] if address == IN_PROCESS else ["ray"]), "mlflow")

    from tune_bn.cli.validate import check_surroundings
    from tune_bn.observers.mlflow.uri import check_store
    from tune_bn.process import without_empty_caches
    from tune_bn.service.jobs import VARIABLE

    if going_on is not None:
        if (known := finished(going_on)) is not None:
            return going_on, known
        require_budget(going_on, space)
        if not os.environ.get(VARIABLE):
            going_on.forget_stop()
    begun = [] if going_on is None else [going_on]

    def opening() -> StudyFolder:
        begun.append(open_folder())
        return begun[-1]

    stop = StopRequest()
    try:
        with stop.on_signals(), without_empty_caches():
            require_writable(place)
            sign_of_life(f"{source}: looking at data, networks, and where runs are tracked …")
            remarks: list[str] = []
            with naming(source):
                check_store(space.tracking.uri, studies_dir or (place.parent if StudyFolder(place).exists else place))
                on_data = check_surroundings(space, remarks.append)
            for remark in on_data:
                typer.echo(f"data  {remark}", err=True)

            from tune_bn.observers.console.observer import ConsoleObserver
            from tune_bn.wiring import run_study

            stages |= {"going_on": going_on, "remarks": remarks, "stop": stop}
            with naming(source), console or ConsoleObserver() as told:
                verdict = run_study(opening, space, address=address, console=told, **stages)
    except (Interrupted, KeyboardInterrupt) as error:
        lost = "nothing was begun"
        if begun:
            line = resume_line(begun[-1].path, address)
            if to_go_on is not None:
                line = shlex.join([*to_go_on, *raised_words(begun[-1].path)])
            lost = f"nothing that finished is lost. To go on: {line}"
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
            raise type(error)(f"{source}: {error}{_module_beside(source, str(error))}") from None
        raise


def _module_beside(source: str, problem: str) -> str:
    """Where a module that was not found lies beside the space file: it is looked for in the current folder."""
    folder = Path(source.partition(" with ")[0]).parent
    found = re.search(r"there is no module (\w+)", problem)
    if found is None or folder.resolve() == Path.cwd():
        return ""
    names = [name for name in (f"{found[1]}.py", found[1]) if (folder / name).exists()]
    return (
        f"; {folder / names[0]} is one: type the line in that folder (cd {shlex.quote(str(folder))})" if names else ""
    )


def place_of(local: bool, address: str | None, job: bool = False) -> str | None:
    """Where the runs are trained, by these options; see :func:`tune_bn.wiring.run_study`.

    Raises:
        StudyError: they contradict each other.
    """
    if not local:
        return address
    if job or address is not None:
        beside = "--job" if job else f"--address {address}"
        raise StudyError(f"--local: got it beside {beside}; accepted: one of the two: --local trains in this process")
    return IN_PROCESS


def say(text: str) -> None:
    """Print; where the reader of a pipe has gone (``| head``) nothing is wrong, and the exit status stays as it is."""
    print(text, flush=True)


def say_words(text: str, indent: int = 0) -> None:
    """Print lines of prose: on a terminal broken between words, below their first word, elsewhere as they are.

    A line that holds something to be typed stays whole, so that it can be copied.
    """
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(
            line
            if "`" in line or len(line) <= width
            else textwrap.fill(
                line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
            )
            for line in text.split("\n")
        )
    say(text)


def sign_of_life(text: str) -> None:
    """Tell a person who waits what is being done; a file or a program would take it for a result or an error."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def looks_of(text: str) -> list[int]:
    """The numbers of pairs that ``--looks`` names."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,6}", part, re.ASCII) for part in parts):
        raise ConfigError("--looks", text, "whole numbers of pairs, such as 5,10,15")
    return [int(part) for part in parts]


def resume_line(folder: Path, address: str | None) -> str:
    """The line by which a study goes on, with limits raised that it has used up; to be pasted where it is printed."""
    from tune_bn.service.jobs import read_job
    from tune_bn.study.driver import TO_GO_ON_VARIABLE, read_driver_state

    # A batch system's study would train on the login node otherwise.
    state = read_driver_state(StudyFolder(folder))
    if line := os.environ.get(TO_GO_ON_VARIABLE) or (state.to_go_on if state is not None else ""):
        return " ".join([line, *map(shlex.quote, raised_words(folder))])
    options = raised_words(folder)
    if read_job(StudyFolder(folder)) is not None:
        options += ["--job"]
    else:
        options += place_words(address or (state.address if state is not None else ""))
    return search_command(folder, *options)


def raised_words(folder: Path) -> list[str]:
    """The options that raise what the study in a folder has used up of its budget; none where it may go on so."""
    from tune_bn.study.driver import raised_limits, read_driver_state

    study = StudyFolder(folder)
    try:
        space = study.space()
    except TuneBNError:
        return []
    return raised_limits(read_driver_state(study), space.budget, space.resources)


def finished(folder: StudyFolder) -> Verdict | None:
    """The verdict of a study that has nothing left to run, which is said; None where it goes on."""
    from tune_bn.study.done import final_verdict

    if folder.is_locked or (verdict := final_verdict(folder)) is None:
        return None
    say(f"{folder.name} is finished: nothing is left to run")
    return verdict


def require_budget(folder: StudyFolder, space: Any) -> None:
    """Refuse to go on with a study whose driver would stop at once, before anything is started for it."""
    from tune_bn.study.driver import DriverState, raised_limits, read_driver_state, used_up

    state = read_driver_state(folder) or DriverState()
    if reason := used_up(state, space.budget, space.resources):
        options = raised_limits(state, space.budget, space.resources)
        raise StudyError(f"{folder.name}: {reason}; accepted: more, as in {search_command(folder.path, *options)}")


def say_verdict(verdict: Verdict) -> None:
    """What a verdict says, in words."""
    from tune_bn.analysis.wording import spoken
    from tune_bn.cli.score_text import arms_table

    say_words(f"verdict: {spoken(verdict)}", 9)
    say_words(verdict.reason)
    for line in about(verdict):
        say_words(line, 9)
    for remark in verdict.remarks:
        say_words(f"note:    {remark}.", 9)
    judged = [arm for arm in verdict.candidates if arm.effect is not None]
    if len(judged) > 1:
        say("\n".join(["", *arms_table(verdict, verdict.every_tuning), ""]))


def print_verdict(folder: StudyFolder, verdict: Verdict) -> None:
    """What a verdict says, where its report is, and what may be done next."""
    from tune_bn.cli.next_steps import next_steps

    say_verdict(verdict)
    for line in data_remarks(folder.path):
        say_words(f"data:    {line}.", 9)
    say(f"report:  {shown(folder.page_file)}")
    for line in next_steps(folder, verdict):
        say(f"next:    {line}")
    if verdict.is_invalid:
        raise typer.Exit(1)


def about(verdict: Verdict) -> Iterator[str]:
    """What a valid verdict is about, and what it is over test images too."""
    from tune_bn.analysis.wording import images_words, score_of_verdict

    for arm in verdict.candidates:
        if arm.over_images is not None:
            yield f"images:  {arm.arm}: {images_words(arm.over_images, score_of_verdict(verdict))}"
    if verdict.seal:
        yield f"seal:    {verdict.seal}"
    if verdict.covers:
        yield f"about:   {verdict.covers}"
