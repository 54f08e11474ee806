"""The environment of clusters whose workers count what they train, and a cluster of a study's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.faults.harness import Workplace


@pytest.fixture(scope="module")
def counting(warm_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment of every cluster of this module; the folder in which the network counts."""
    folder = tmp_path_factory.mktemp("counting")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in Workplace(folder, counting=folder).environment.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture
def one_machine(counting: Path) -> Iterator[None]:
    """A Ray of the study's own, with a GPU that is one in name."""
    yield
    ray.shutdown()
