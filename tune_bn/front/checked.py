"""Whether the trainer of a space was checked: what ``tune_bn check`` found, asked for before a search."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tune_bn.errors import StudyError
from tune_bn.records.commands import STUDIES
from tune_bn.records.files import write_text, writing

if TYPE_CHECKING:
    from tune_bn.space.space import Space
    from tune_bn.study.folder import StudyFolder

CHECK_FILE = "check.json"


def require_checked(space: Space, source: str, output: Path, *, unchecked: bool) -> str | None:
    """Refuse a trainer of the user's own that was never checked, or failed; returns a remark on what was found.

    Raises:
        StudyError: it was not, and ``unchecked`` does not allow it.
    """
    from tune_bn.trainers.checked import check_file
    from tune_bn.trainers.choose import trainer_of

    if space.trainer is None:
        return None
    path = check_file(output, space, trainer_of(space))
    try:
        outcome = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        outcome = None
    if unchecked:
        found = "was never checked" if outcome is None else "was checked" if outcome["ok"] else "failed its check"
        return f"--unchecked: the trainer of this study {found}"
    file, _, overrides = source.partition(" with ")
    words = ["tune_bn", "check", "--space", file]
    for override in re.split(r" (?=[\w.]+=)", overrides) if overrides else []:
        words += ["--set", override]
    command = shlex.join([*words, *([] if output == STUDIES else ["--output", str(output)])])
    if outcome is None:
        raise StudyError(
            f"{source}: trainer: this code with this space was never checked; accepted: `{os.fspath(command)}` first, "
            "or --unchecked"
        )
    if not outcome["ok"]:
        wrong = next(one for one in outcome["findings"] if one["verdict"] == "WRONG")
        raise StudyError(
            f"{source}: trainer: its check found: {wrong['trap'].strip()}: {wrong['words']}; accepted: a trainer that "
            f"passes `{os.fspath(command)}`, or --unchecked"
        )
    return None


def keep_with_study(space: Space, output: Path, study: StudyFolder) -> None:
    """Copy the outcome of the check into the study, whose report tells it."""
    from tune_bn.trainers.checked import check_file
    from tune_bn.trainers.choose import trainer_of

    try:
        text = check_file(output, space, trainer_of(space)).read_text(encoding="utf-8")
    except OSError:
        text = '{"ok": null, "findings": []}\n'
    with writing(study.path / CHECK_FILE):
        write_text(study.path / CHECK_FILE, text)
