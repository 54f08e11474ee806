"""``tune_bn ui``: the store beside the studies, or the way to the server that tracks them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tune_bn.cli import app
from tune_bn.errors import ServiceError, TrackingError
from tune_bn.host.ports import foreign
from tune_bn.service import neighbours
from tune_bn.service.head import Settings
from tune_bn.service.neighbours import OtherHead
from tune_bn.service.supervision import Supervisor
from tune_bn.space.loading import load_space
from tune_bn.space.locate import find_space
from tune_bn.study.folder import StudyFolder


class Executed(Exception):
    """What would have become of this process."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNE_BN_HEAD_STATE", str(tmp_path / "head"))
    monkeypatch.setattr(neighbours, "other_heads", list)

    def execute(program: str, command: list[str]) -> None:
        raise Executed(command)

    monkeypatch.setattr(os, "execv", execute)
    (tmp_path / "studies").mkdir()
    yield tmp_path
    for name in ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "PYTHONWARNINGS"):
        os.environ.pop(name, None)


def ui(*arguments: str) -> Result:
    before = Path.cwd()
    try:
        return CliRunner().invoke(app, ["ui", *arguments])
    finally:
        os.chdir(before)


def command(result: Result) -> list[str]:
    assert isinstance(result.exception, Executed), result.exception
    words: list[str] = result.exception.args[0]
    return words


def head(place: Path, monkeypatch: pytest.MonkeyPatch, *, runs: bool, **settings: Any) -> None:
    (place / "head").mkdir(exist_ok=True)
    (place / "head" / "head.json").write_text(json.dumps(asdict(Settings("file:///a", **settings))))
    monkeypatch.setattr(Supervisor, "is_running", lambda self: runs)


def test_on_a_head_it_leads_to_the_head_s_own_server(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head(place, monkeypatch, runs=True, port=5011)
    result = ui()
    assert result.exit_code == 0
    first, where, tunnel, login = result.stdout.splitlines()
    assert first.startswith("the head's own server has its page at the address below")
    assert where.startswith("MLflow: http://127.0.0.1:5011 on this machine, store PostgreSQL")
    assert tunnel.startswith("from yours: ssh -N -L 5011:127.0.0.1:5011 ")
    assert login == f"user admin, password in {place}/head/secrets/mlflow_admin_password"


def test_where_the_server_of_the_head_does_not_run_it_says_how_it_is_started(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head(place, monkeypatch, runs=False)
    tracked = load_space(find_space("digits.yaml"), ["tracking.uri=http://127.0.0.1:5000"])
    StudyFolder(place / "studies" / "one").created(tracked)
    message = str(ui().exception)
    assert message == (
        "--output: studies has no mlflow.db, and the head's MLflow does not run; accepted: tune_bn head start, which "
        "then says where it is, or --uri"
    )
    (place / "head" / "head.json").write_text("{")
    assert isinstance(ui().exception, ServiceError)


def test_a_store_beside_the_studies_is_shown_on_a_head_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "studies" / "mlflow.db").touch()
    head(place, monkeypatch, runs=True, port=5011)
    result = ui("--port", str(free()))
    assert f"sqlite:///{place}/studies/mlflow.db" in command(result)
    assert "MLflow: http://127.0.0.1:5011 on this machine" in result.stderr
    for spoilt in ("{", ""):
        (place / "head" / "head.json").write_text(spoilt)
        assert f"sqlite:///{place}/studies/mlflow.db" in command(ui("--port", str(free())))


def test_another_users_head_is_named_with_whom_to_ask(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [OtherHead("anna", place, "http://127.0.0.1:5000"), OtherHead("bob", place, None)]
    monkeypatch.setattr(neighbours, "other_heads", lambda: others)
    result = ui()
    assert result.exit_code == 0
    where, tunnel, login = result.stdout.splitlines()
    assert where == "MLflow of the head that anna keeps: http://127.0.0.1:5000 on this machine"
    assert tunnel.startswith("from yours: ssh -N -L 5000:127.0.0.1:5000 ")
    assert "anna" in login


def test_the_server_that_the_studies_name_is_said(place: Path) -> None:
    for name, uri in (("one", "https://me:secret@mlflow.example"), ("two", "sqlite:////x.db"), ("three", None)):
        settings = [] if uri is None else [f"tracking.uri={json.dumps(uri)}"]
        StudyFolder(place / "studies" / name).created(load_space(find_space("digits.yaml"), settings))
    (place / "studies" / "spoilt").mkdir()
    (place / "studies" / "spoilt" / "space.yaml").write_text("{")
    result = ui()
    assert result.exit_code == 0
    assert result.stdout == (
        "studies in studies are tracked by the server https://me:***@mlflow.example, which has its own page there\n"
    )


def test_where_there_is_nothing_it_says_so() -> None:
    result = ui()
    assert isinstance(result.exception, TrackingError)
    assert (
        str(result.exception) == "--output: studies has no mlflow.db; accepted: a folder of studies that ran, or --uri"
    )


def test_a_server_that_is_named_has_its_own_page() -> None:
    assert ui("--uri", "http://127.0.0.1:1").stdout == (
        "--uri: the studies are tracked by the server http://127.0.0.1:1, which has its own page at that address\n"
    )


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_port_that_is_taken_is_one_line_or_another_is_taken(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "studies" / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = ui("--port", str(port))
        assert isinstance(result.exception, TrackingError)
        message = str(result.exception)
        assert message.startswith(f"--port: 127.0.0.1:{port} is taken by ")
        assert f"process {os.getpid()}, " in message
        assert "; accepted: a free port, such as " in message

        monkeypatch.setattr("tune_bn.cli.tools.UI_PORT", port)
        result = ui()
        words = command(result)
        chosen = int(words[words.index("--port") + 1])
        assert chosen != port
        assert f"--port: {port} is taken by " in result.stderr
        assert f"; {chosen} is free" in result.stderr
        assert f"http://127.0.0.1:{chosen}/#/experiments" in result.stderr
    result = ui()
    assert command(result)[-1] == str(port)
    assert "--port" not in result.stderr


@pytest.mark.skipif(foreign("::1") is not None, reason="this machine has no IPv6")
def test_an_address_of_ipv6_stands_in_brackets(place: Path) -> None:
    (place / "studies" / "mlflow.db").touch()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        assert str(ui("--host", "::1", "--port", str(port)).exception).startswith(f"--port: [::1]:{port} is taken by ")
    assert f"http://[::1]:{port}/#/experiments" in ui("--host", "::1", "--port", str(port)).stderr
