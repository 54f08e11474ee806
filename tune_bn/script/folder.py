"""The folder of a run, as the script and whoever started it both see it: names of files, and how rows are written."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUN_VARIABLE = "TUNE_BN_RUN"
"""Names the folder in the environment of a script; unset: the script was started by hand."""
ATTEMPT_VARIABLE = "TUNE_BN_ATTEMPT"
"""Names the attempt, unlike any other's, in the environment of every process that belongs to it."""
FORMAT = 1
RUN, STOP, LOG, WORK, CHECKPOINT, TEST, MARK = "run.json", "stop", "log", "work", "checkpoint", "test", "whole.json"

NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def metrics_file(folder: Path, attempt: int) -> Path:
    """Where an attempt reports."""
    return folder / f"metrics.{attempt}.jsonl"


def notes_file(folder: Path, attempt: int) -> Path:
    """Where the package notes what the script did with it."""
    return folder / f"notes.{attempt}.jsonl"


def encode_row(row: Mapping[str, Any]) -> bytes:
    """One line of JSON; a number that is not finite becomes ``"nan"``, ``"inf"`` or ``"-inf"``."""
    plain = {
        key: str(float(value)) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return (json.dumps(plain, allow_nan=False, ensure_ascii=False) + "\n").encode()


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row by one write at the end of the file: a reader sees the whole of it, or a line without its newline."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        line = encode_row(row)
        if os.write(descriptor, line) != len(line):
            raise OSError("a row was cut by a full disk")
    finally:
        os.close(descriptor)


def plain_number(value: Any) -> float | None:
    """A metric as a float, be it a number, a tensor or an array of one element; None: it is none of these."""
    if isinstance(value, (str, bytes)) or value is None:
        return None
    try:
        if hasattr(value, "item"):
            value = value.item()
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def write_aside(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(aside, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(aside, path)
