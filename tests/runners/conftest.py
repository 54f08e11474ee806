"""What tests of checkpoints share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tune_bn.runners.checkpoint import CheckpointStore


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """Two checkpoints: of epoch 2, and of epoch 1 before it."""
    # They load torch, which not every test here needs.
    from tests.runners.stored_states import state
    from tune_bn.runners.checkpoint import CheckpointStore

    store = CheckpointStore(tmp_path / "deep" / "task")
    store.save(state(1))
    store.save(state(2))
    return store
