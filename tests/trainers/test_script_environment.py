"""What a user's script finds in its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tune_bn.host.process import WAITING
from tune_bn.protocols.trainer import Place
from tune_bn.trainers.command.environment import script_environment


@pytest.mark.parametrize("settled", [True, False], ids=["by the driver", "by nobody"])
@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ({}, WAITING),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": 5}, {"GOMP_SPINCOUNT": "5"}),
    ],
)
def test_a_space_that_states_how_threads_wait_is_not_overruled(
    settled: bool, stated: dict[str, object], found: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in WAITING.items():
        monkeypatch.setenv(name, value) if settled else monkeypatch.delenv(name, raising=False)
    env = script_environment(tmp_path, tmp_path, Place(), stated, origin=str(tmp_path), audit=None)
    assert {name: env[name] for name in WAITING if name in env} == found
