"""The commands that lines and pages name: whole, quoted, and of use where they were printed."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

STUDIES = Path("studies")
"""Where the verbs look for studies unless ``--output`` says otherwise."""

IN_PROCESS = "in-process"
"""In place of a cluster's address: the runs of a study are trained in its own process, without Ray (``--local``)."""


def shown(path: Path) -> str:
    """A path as the current folder sees it; whole where that is none any more."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def in_output(folder: Path) -> list[str]:
    """``--output`` for the folder of a study, or no words where the verbs look there by themselves."""
    with suppress(OSError):
        if folder.parent == STUDIES.absolute():
            return []
    return ["--output", shown(folder.parent)]


def line_in_report(verb: str, folder: Path) -> str:
    """The line that asks a verb about a study, for a page that others read too: typed in the folder that holds the
    folder of studies, and naming no folder above it.
    """
    return shlex.join(["tune_bn", verb, folder.name, *output_by_name(folder)])


def repeat_line(folder: Path) -> str:
    """The line that runs a study again from its beginning; see :func:`line_in_report`."""
    space = str(Path(folder.parent.name) / folder.name / "space.yaml")
    return shlex.join(["tune_bn", "search", "--space", space, *output_by_name(folder)])


def output_by_name(folder: Path) -> list[str]:
    """``--output`` for the folder of a study by the name of its parent alone; no words where that is the usual one."""
    return [] if folder.parent.name == STUDIES.name else ["--output", folder.parent.name]


def study_command(verb: str, folder: Path, *options: str) -> str:
    """The line that asks a verb about the study in a folder, to be pasted into a shell.

    Args:
        verb: ``report``, ``logs``, …; it takes the study as its argument.
        folder: of the study, absolute.
        options: words that follow.
    """
    return shlex.join(["tune_bn", verb, folder.name, *in_output(folder), *options])


def place_words(address: str | None) -> list[str]:
    """The options by which a study runs where it ran; none on a Ray that it starts by itself."""
    if address == IN_PROCESS:
        return ["--local"]
    return ["--address", address] if address else []


def search_command(folder: Path, *options: str) -> str:
    """The line that goes on with the study in a folder; see :func:`study_command`."""
    return shlex.join(["tune_bn", "search", "--study", folder.name, *in_output(folder), *options, "--resume"])


def new_study_command(folder: Path, *settings: str, warm: bool = True) -> str:
    """The line that begins a new study from the space of the one in a folder; see :func:`study_command`.

    Args:
        folder: of the first study, absolute.
        settings: ``KEY=VALUE``, what is other in the new one.
        warm: begin with the best of the first.
    """
    words = ["tune_bn", "search", "--space", shown(folder / "space.yaml")]
    words += ["--warm-start", folder.name] if warm else []
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join([*words, *in_output(folder)])
