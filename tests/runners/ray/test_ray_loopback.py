from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
import ray

from tune_bn.runners.ray.compat import ray_constants, services
from tune_bn.runners.ray.loopback import VARIABLE, leave_loopback, on_loopback_alone, stay_on_loopback

ELSEWHERE = "127.0.0.2"
"""Another address of this machine, which the test says is one of the network."""


@pytest.fixture(autouse=True)
def second_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(services, "node_ip_address_from_perspective", lambda address=None: "10.77.0.1")
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: ELSEWHERE)
    monkeypatch.setattr("tune_bn.runners.ray.loopback._is_loopback", lambda host: host in ("127.0.0.1", "localhost"))
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    monkeypatch.delenv(VARIABLE, raising=False)
    yield
    leave_loopback()


@pytest.mark.parametrize("before", [None, "1", "0"])
def test_what_ray_takes_for_this_machine_is_loopback_until_it_is_left(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is not None:
        monkeypatch.setenv(VARIABLE, before)
    assert services.resolve_ip_for_localhost("127.0.0.1") == "10.77.0.1", "what Ray does with it"
    for _ in range(2):
        stay_on_loopback()
        assert services.get_node_ip_address() == "127.0.0.1"
        assert services.resolve_ip_for_localhost("127.0.0.1") == "127.0.0.1"
        assert os.environ[VARIABLE] == "0", "for the processes that Ray starts"
    for _ in range(2):
        leave_loopback()
        assert services.get_node_ip_address() == "10.77.0.1"
        assert os.environ.get(VARIABLE) == before


@pytest.mark.parametrize(("host", "alone"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_a_head_on_loopback_alone_is_told_from_one_on_all_addresses(
    host: str, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((host, 0)) as server:
        port = server.getsockname()[1]
        assert on_loopback_alone(f"127.0.0.1:{port}") is alone
        monkeypatch.setattr(services, "get_ray_address_from_environment", lambda *given: f"127.0.0.1:{port}")
        assert on_loopback_alone("auto") is alone
        assert not on_loopback_alone(f"10.77.0.1:{port}")
        assert not on_loopback_alone(f"ray://127.0.0.1:{port}")


def test_where_there_is_no_cluster_there_is_none_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*given: object) -> str:
        raise ConnectionError("no cluster")

    monkeypatch.setattr(services, "get_ray_address_from_environment", none)
    assert not on_loopback_alone("auto")
