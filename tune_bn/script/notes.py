"""What the package notes of itself in a run's folder: keys that were asked for, the γ that was set, its rates.

Nothing is written where a script was started by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from tune_bn.script.folder import RUN, RUN_VARIABLE, append_row, notes_file

_place: tuple[str, Path] | None = None
_said: set[str] = set()


def note(event: str, **facts: Any) -> None:
    """Write a line, once for equal ones. A disk that does not take it is no reason to end the training."""
    folder = os.environ.get(RUN_VARIABLE)
    if not folder or os.environ.get("RANK", "0") != "0":
        return
    row = {"event": event, **facts}
    words = folder + repr(row)
    if words in _said:
        return
    _said.add(words)
    with contextlib.suppress(OSError):
        append_row(_file_of(folder), row)


def forget() -> None:
    """Another run begins in this process."""
    global _place
    _place = None
    _said.clear()


def _file_of(folder: str) -> Path:
    global _place
    if _place is None or _place[0] != folder:
        try:
            attempt = json.loads((Path(folder) / RUN).read_text(encoding="utf-8"))["attempt"]
        except (OSError, ValueError, KeyError):
            attempt = 1
        _place = folder, notes_file(Path(folder), attempt)
    return _place[1]
