from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tune_bn.cli import app
from tune_bn.errors import ServiceError, TrackingError
from tune_bn.host.ports import free_port, problem


@pytest.mark.parametrize("there", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("here", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_that_is_taken_names_who_holds_it(there: str, here: str) -> None:
    with socket.create_server((there, 0)) as server:
        port = server.getsockname()[1]
        said = problem(here, port)
    assert said is not None
    assert said.startswith("taken by ")
    assert f"(process {os.getpid()}, user {getpass.getuser()})" in said
    assert problem(here, port) is None, "as soon as it is free"


def test_what_is_no_address_of_this_machine_is_said_so() -> None:
    assert (problem("203.0.113.7", 5000) or "").startswith("no address of this machine (")
    assert (problem("no.such.host.invalid", 5000) or "").startswith("no address of this machine (")


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", ""])
@pytest.mark.parametrize(
    "verb", [["head", "ports", "5000", "5001"], ["ui", "--uri", "sqlite:///mlflow.db"], ["ui", "--port", "5000"]]
)
def test_an_address_of_another_machine_is_no_fault_of_the_port(
    verb: list[str], host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mlflow.db").touch()
    done = CliRunner().invoke(app, [*verb, "--host", host])
    assert isinstance(done.exception, ServiceError | TrackingError)
    assert str(done.exception).startswith(f"--host: {host!r} is no address of this machine (")


def test_one_that_is_asleep_on_the_port_holds_it_by_its_user_alone_where_its_process_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tune_bn.host.ports._owners", lambda inodes: iter(()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert problem("127.0.0.1", server.getsockname()[1]) == f"taken by a process of user {getpass.getuser()}"
        monkeypatch.setattr("tune_bn.host.ports._TABLES", ())
        assert problem("127.0.0.1", server.getsockname()[1]) == "taken by another process"


def test_the_next_port_that_is_free_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port < free_port("127.0.0.1", port) < port + 100
        assert free_port("127.0.0.1", port, 1) == port


@pytest.mark.long
def test_ports_that_are_taken_are_one_line_before_ray_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [one.getsockname()[1], other.getsockname()[1]]
        done = CliRunner().invoke(app, ["head", "ports", *map(str, [*ports, ports[0]])])
    assert isinstance(done.exception, ServiceError)
    message = str(done.exception)
    assert message.startswith(f"PORT: {ports[0]} is taken by ")
    assert message.count(f"process {os.getpid()}, ") == 2
    assert f"; {ports[1]} is taken by " in message
    assert "; accepted: free ports" in message
    assert CliRunner().invoke(app, ["head", "ports", *map(str, ports)]).exit_code == 0
