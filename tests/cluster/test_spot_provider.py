"""Instances at the full price where there are no spot ones. A class plays Ray's provider, which needs boto3."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from ray.autoscaler.node_launch_exception import NodeLaunchException

MODULE = "tune_bn.service.spot"
SPOT = {"InstanceType": "g5.xlarge", "InstanceMarketOptions": {"MarketType": "spot"}}
FULL_PRICE = {"InstanceType": "g5.xlarge"}


class _Amazon:
    """Refuses the kinds of instances that are named; writes down what it was asked for."""

    def __init__(self, *none_left: str) -> None:
        self.none_left = none_left
        self.asked: list[dict[str, Any]] = []

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        self.asked.append(node_config)
        kind = "spot" if "InstanceMarketOptions" in node_config else "on-demand"
        if kind in self.none_left:
            raise NodeLaunchException("InsufficientInstanceCapacity", f"no {kind}", None)
        return {f"{kind}-{number}": tags for number in range(count)}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    played = ModuleType("ray.autoscaler._private.aws.node_provider")
    played.AWSNodeProvider = _Amazon  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, played.__name__, played)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield importlib.import_module(MODULE).SpotFirstProvider
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize(
    ("none_left", "created", "asked"),
    [
        ([], ["spot-0", "spot-1"], [SPOT]),
        (["spot"], ["on-demand-0", "on-demand-1"], [SPOT, FULL_PRICE]),
    ],
)
def test_a_spot_instance_where_there_is_one_and_else_the_same_at_the_full_price(
    provider: Any, none_left: list[str], created: list[str], asked: list[dict[str, Any]]
) -> None:
    amazon = provider(*none_left)
    assert list(amazon.create_node(SPOT, {"name": "worker"}, 2)) == created
    assert amazon.asked == asked
    assert "InstanceMarketOptions" in SPOT, "the next worker asks for a spot instance again"


@pytest.mark.parametrize(("config", "tries"), [(SPOT, 2), (FULL_PRICE, 1)])
def test_nothing_left_at_any_price_is_the_failure_that_ray_knows(provider: Any, config: Any, tries: int) -> None:
    amazon = provider("spot", "on-demand")
    with pytest.raises(NodeLaunchException, match="no on-demand"):
        amazon.create_node(config, {}, 1)
    assert len(amazon.asked) == tries
