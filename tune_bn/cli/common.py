"""What the verbs share: the application, options that mean the same everywhere, and how a study is run and shown."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_bn.cli.completion import InOrder, known_keys, known_spaces, known_studies
from tune_bn.errors import ConfigError, Interrupted, StudyError, TuneBNError
from tune_bn.front.which_study import existing_study as existing_study
from tune_bn.front.which_study import latest_study as latest_study
from tune_bn.front.which_study import study_name as study_name
from tune_bn.records.commands import IN_PROCESS, place_words, search_command
from tune_bn.records.commands import STUDIES as STUDIES
from tune_bn.records.commands import shown as shown
from tune_bn.records.data_file import data_remarks
from tune_bn.study.folder import StudyFolder

if TYPE_CHECKING:
    from tune_bn.records.verdict import AnyVerdict, Verdict
    from tune_bn.space.space import Space

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
    open_folder: Callable[[], StudyFolder],
    space: Space,
    source: str,
    address: str | None,
    place: Path,
    *,
    require: str | None = None,
    **stages: Any,
) -> None:
    """Run as :func:`carry_out` does, and print the verdict."""
    from tune_bn.front.carrying_out import finished

    going_on = stages.get("going_on")
    known = None if going_on is None else finished(going_on)
    if going_on is None or known is None:
        folder, verdict = carry_out(open_folder, space, source, address, place, **stages)
        print_verdict(folder, verdict)
        exit_by(verdict, require)
        return
    print_verdict(going_on, known)

    from tune_bn.front.wiring import catch_up

    catch_up(going_on, space, known, lambda line: typer.echo(f"warning: {line}", err=True))
    exit_by(known, require)


def carry_out(
    open_folder: Callable[[], StudyFolder],
    space: Space,
    source: str,
    address: str | None,
    place: Path,
    *,
    to_go_on: list[str] | None = None,
    going_on: StudyFolder | None = None,
    **stages: Any,
) -> tuple[StudyFolder, Verdict]:
    """As :func:`tune_bn.front.carrying_out.carry_out`; where it was told to stop, print how to go on and end with 130.

    ``to_go_on`` is the line to type then, where it is not the study's own.
    """
    from tune_bn.front.carrying_out import carry_out

    begun = [] if going_on is None else [going_on]

    def opening() -> StudyFolder:
        begun.append(open_folder())
        return begun[-1]

    try:
        return carry_out(opening, space, source, address, place, going_on=going_on, **stages)
    except Interrupted as error:
        lost = "nothing was begun"
        if begun:
            line = resume_line(begun[-1].path, address)
            if to_go_on is not None:
                line = shlex.join([*to_go_on, *raised_words(begun[-1].path)])
            lost = f"nothing that finished is lost. To go on: {line}"
        typer.echo(f"{error}; {lost}", err=True)
        raise typer.Exit(130) from None


def place_of(local: bool, address: str | None, job: bool = False) -> str | None:
    """Where the runs are trained, by these options; see :class:`tune_bn.front.runners.Runners`.

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
