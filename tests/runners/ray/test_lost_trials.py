"""Which trials count as lost by the cluster, and which as failed by themselves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, NodeDiedError, RayTaskError, UnserializableException, WorkerCrashedError

from tune_bn.runners.ray.feed import _lost


class OddError(Exception):
    """As users write them: it cannot be made again from its message."""

    def __init__(self, layer: str, shape: int) -> None:
        super().__init__(f"{layer}: {shape}")


def lost(error: BaseException, folder: Path) -> bool:
    path = folder / "error.pkl"
    path.write_bytes(cloudpickle.dumps(error))
    trial: Any = SimpleNamespace(pickled_error_file=str(path))
    return _lost(trial)


@pytest.mark.parametrize("error", [ActorDiedError(), WorkerCrashedError(), NodeDiedError("gone")])
def test_what_the_cluster_did_is_no_fault_of_the_trial(error: BaseException, tmp_path: Path) -> None:
    assert lost(error, tmp_path)


@pytest.mark.parametrize("cause", [ValueError("no"), OddError("conv1", 3)])
def test_what_the_task_raised_is(cause: Exception, tmp_path: Path) -> None:
    assert not lost(RayTaskError("step", "traceback", cause).as_instanceof_cause(), tmp_path)


def test_what_ray_could_not_bring_here_is(tmp_path: Path) -> None:
    assert not lost(UnserializableException("OddError: conv1: 3"), tmp_path)


def test_without_an_error_nothing_was_lost(tmp_path: Path) -> None:
    for path in (None, str(tmp_path / "missing.pkl")):
        trial: Any = SimpleNamespace(pickled_error_file=path)
        assert not _lost(trial)
