"""``data.json``: which data a study began with, the names behind its hashes, and what was found in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_bn.records.files import read_bytes

DATA_FILE = "data.json"
REMARKS = "remarks"


def read_data_file(folder: Path) -> Mapping[str, Any]:
    """What the file says; nothing where it is missing or spoilt, since plan and records tell which data it was."""
    try:
        found = json.loads(read_bytes(folder / DATA_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def data_remarks(folder: Path) -> Sequence[str]:
    """What was found in the study's data that whoever reads its verdict must know, such as test images that were
    trained on."""
    found = read_data_file(folder).get(REMARKS)
    return [line for line in found if isinstance(line, str)] if isinstance(found, list) else []
