import socket

import pytest

from tune_bn.errors import RunnerError
from tune_bn.runners.ray.address import reachable_address


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set and taken back by monkeypatch, so that no other test of this process runs with it.
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "1")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_where_something_listens_is_taken(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert reachable_address(f"{host}:{port}") == f"{host}:{port}"
    with pytest.raises(RunnerError, match="cannot be reached"):
        reachable_address(f"{host}:{port}")


def test_what_ray_resolves_itself_is_left_to_it() -> None:
    assert reachable_address("auto") == "auto"
    assert reachable_address("ray://127.0.0.1:10001") == "ray://127.0.0.1:10001"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "it is empty"),
        (" ", "it is empty"),
        ("127.0.0.1:", "the port '' is not a number from 1 to 65535"),
        ("127.0.0.1:port", "the port 'port' is not a number"),
        ("127.0.0.1:0", "the port '0' is not a number from 1 to 65535"),
        ("127.0.0.1:65536", "the port '65536' is not a number from 1 to 65535"),
        ("127.0.0.1:٣", "the port '٣' is not a number"),
        ("a..b:6379", ""),
        ("x" * 100 + ":6379", ""),
    ],
)
def test_what_is_no_address_is_refused(address: str, reason: str) -> None:
    with pytest.raises(RunnerError) as caught:
        reachable_address(address)
    assert str(caught.value).startswith(f"--address: got {address!r}, which cannot be reached ({reason}")
    assert "; accepted: auto or HOST[:PORT] of a running Ray cluster" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
