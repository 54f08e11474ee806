"""The processes of one run that trains on several devices: the first one reports, and all stop at the same step."""

from __future__ import annotations

import os
import sys
from typing import Any

_calls = 0


def _distributed() -> Any:
    """``torch.distributed``, where the script has initialized it."""
    found = sys.modules.get("torch.distributed")
    return found if found is not None and found.is_available() and found.is_initialized() else None


def rank() -> int:
    """This process's place; 0 where there is one process alone."""
    distributed = _distributed()
    if distributed is not None:
        return int(distributed.get_rank())
    try:
        return int(os.environ.get("RANK", "0"))
    except ValueError:
        return 0


def agree(answer: bool) -> bool:
    """The first rank's answer, on every rank.

    The first rank leaves it in the group's store and does not wait, so a script that reports on the first rank alone
    does not hang.
    """
    global _calls
    distributed = _distributed()
    if distributed is None or distributed.get_world_size() == 1:
        return answer
    _calls += 1
    store = distributed.distributed_c10d._get_default_store()
    key = f"tune_bn/answer/{_calls}"
    if distributed.get_rank() == 0:
        store.set(key, b"1" if answer else b"0")
        return answer
    return bytes(store.get(key)) == b"1"
