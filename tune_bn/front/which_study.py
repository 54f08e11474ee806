"""Which study a verb is asked about: by its name, by its folder, or the newest one."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from tune_bn.errors import StudyError, TuneBNError
from tune_bn.records.bundle import is_bundle
from tune_bn.study.folder import STUDY_NAME, StudyFolder, list_studies


def study_name(name: str, option: str = "--study") -> str:
    if not re.fullmatch(STUDY_NAME, name):
        raise StudyError(f"{option}: got {name!r}; accepted: letters, digits, '.', '_' and '-', at most 80, no path")
    return name


def existing_study(name: str, output: Path, option: str | None = None) -> StudyFolder:
    """An existing study: by name in ``output``, or by its folder. ``option`` is where the name was given.

    A bare name is that of a study in ``output`` before it is that of a folder here.
    """
    option_words, here = option or "STUDY", StudyFolder(Path(name))
    is_path = "/" in name or name in (".", "..")
    in_output = StudyFolder(output / name) if not is_path and re.fullmatch(STUDY_NAME, name) else None
    if name and here.exists and (in_output is None or not in_output.exists):
        return here
    if is_bundle(name) and os.path.isfile(name) and (in_output is None or not in_output.exists):
        unzip = shlex.join(["unzip", name, "-d", name.removesuffix(".zip")])
        raise StudyError(
            f"{option_words}: got {name}, a bundle; accepted: a study or its folder. `tune_bn verify`, `tune_bn gate` "
            f"and `tune_bn replicate` read a bundle; for the others unpack it: `{unzip}`"
        )
    folder = here if is_path else StudyFolder(output / study_name(name, option or "--study"))
    folder.require(option_words)
    return folder


def latest_study(output: Path, space_name: str | None) -> StudyFolder:
    """The newest study, of that space where one is named, for ``--resume`` without ``--study``."""
    names = [(folder, _space_name(folder)) for folder in list_studies(output)]
    found = [folder for folder, name in names if name is not None and space_name in (None, name)]
    if not found:
        of = "" if space_name is None else f" of the space {space_name}"
        raise StudyError(f"--resume: {output} has no study{of}; accepted: --study NAME")
    return found[-1]


def _space_name(folder: StudyFolder) -> str | None:
    try:
        return folder.space().name
    except TuneBNError:
        return None  # another study, whose file was spoilt, is no concern of this one
