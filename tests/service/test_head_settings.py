from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tune_bn.errors import ServiceError, TuneBNError
from tune_bn.service import head as head_module
from tune_bn.service import tracking_uri
from tune_bn.service.head import Head, Settings, default_state, uri_of
from tune_bn.service.supervision import Program, Supervisor


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    if made.is_running():
        made.stop()


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNE_BN_HEAD_STATE", str(tmp_path / "head"))
    return tmp_path / "head"


@pytest.mark.long
def test_a_program_comes_back_when_it_is_killed_and_goes_with_the_supervisor(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    assert supervisor.states() == {}
    code = "import sys, time; print('100% up', sys.argv, flush=True); time.sleep(600)"
    supervisor.start([Program("one", [sys.executable, "-c", code, "a b", "50%; x"], environment={"NAME": "%,v"})])
    wait_for(lambda: supervisor.states() == {"one": "RUNNING"})
    assert "'a b', '50%; x'" in supervisor.last_line("one")
    first = supervisor.pids()["one"]
    assert "NAME=%,v" in Path(f"/proc/{first}/environ").read_text().split("\0")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: supervisor.pids().get("one", first) != first and supervisor.states() == {"one": "RUNNING"})

    second = supervisor.pids()["one"]
    os.kill(int((tmp_path / "supervisord.pid").read_text()), signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{second}").exists())
    assert not supervisor.is_running()
    supervisor.start([Program("one", [sys.executable, "-c", code])])
    assert supervisor.is_running()
    supervisor.stop()
    assert not supervisor.is_running()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"host": "0.0.0.0"},
            "--host: got '0.0.0.0', which others reach, without --allowed-hosts; accepted: 127.0.0.1",
        ),
        ({"host": "head.example"}, "--host: got 'head.example'"),
        ({"host": "0.0.0.0", "allowed_hosts": ("*",)}, r"--allowed-hosts: got '\*'; accepted: names"),
        ({"store": "file:///tmp/x"}, "tracking.uri: got 'file:///tmp/x'"),
        ({"store": "postgresql://me:secret@/x?host=1&port=y", "host": "0.0.0.0"}, "--host"),
    ],
)
def test_settings_are_checked_before_anything_starts(
    own_state: Path, tmp_path: Path, wanted: dict[str, Any], message: str
) -> None:
    said: list[str] = []
    with pytest.raises(TuneBNError, match=message):
        Head(own_state).start(tmp_path, said.append, **wanted)
    assert said == []
    assert {path.name for path in own_state.iterdir()} <= {".lock"}


def test_a_port_that_is_taken_is_an_error(own_state: Path, tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ServiceError,
            match=rf"--port: 127.0.0.1:{port} is taken by .*process {os.getpid()}, user .*; accepted: a free port",
        ):
            Head(own_state).start(tmp_path, print, port=port, store="sqlite:////x.db")


def test_a_state_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match=r"--state: .*/file/head cannot be made"):
        Head(tmp_path / "file" / "head").start(tmp_path, print)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"port": 1}', '{"artifacts": "x", "allowed_hosts": [], "odd": 1}'])
def test_spoilt_settings_are_an_error_that_names_the_file(own_state: Path, tmp_path: Path, text: str) -> None:
    own_state.mkdir()
    (own_state / "head.json").write_text(text)
    with pytest.raises(ServiceError, match=r"head\.json: cannot be read"):
        Head(own_state).start(tmp_path, print)


def test_nothing_runs_where_nothing_was_started(own_state: Path) -> None:
    head = Head(own_state)
    assert tracking_uri() is None
    assert head.status() == []
    assert not head.stop()
    with pytest.raises(ServiceError, match="has no services; accepted: what tune_bn head start made"):
        head.settings()


@pytest.mark.parametrize(
    ("host", "uri"),
    [
        ("127.0.0.1", "http://127.0.0.1:5000"),
        ("0.0.0.0", "http://127.0.0.1:5000"),
        ("10.0.0.7", "http://10.0.0.7:5000"),
        ("::1", "http://[::1]:5000"),
    ],
)
def test_the_uri_is_one_that_this_machine_reaches(host: str, uri: str) -> None:
    assert uri_of(Settings("file:///x", host=host)) == uri


def test_the_state_of_root_is_where_another_user_can_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNE_BN_HEAD_STATE", raising=False)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setattr(head_module.os, "geteuid", lambda: 1000)
    assert default_state() == home / "state" / "tune_bn" / "head"
    monkeypatch.setattr(head_module.os, "geteuid", lambda: 0)
    assert default_state() == Path("/var/lib/tune_bn/head")
