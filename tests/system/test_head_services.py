"""The services of a head: secrets that only their owner reads, and doors that open to nobody without one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

NODE = "10.77.0.1"

# What MLflow answers to anybody: whether it is there, what it looks like, and which features it has.
OPEN = re.compile(r"/health|/static-files/.*|(/ajax-api|/api)/3\.0/mlflow/server-info")


@pytest.mark.system
def test_nobody_enters_a_head_without_its_secrets(run_sandboxed: Callable[..., Path]) -> None:
    run = run_sandboxed("head_services.sh", tools=["ss", "pgrep", "setpriv"], NODE=NODE)
    _services_say_where_they_are(run)
    _secrets_are_seen_nowhere(run)
    doors = json.loads((run / "doors.json").read_text(encoding="utf-8"))
    _mlflow_is_shut(doors["mlflow"])
    _ray_is_shut(doors["ray"])
    assert not doors["intruded"]
    assert (run / "let_in").exists()
    _only_ray_listens_to_others(run)


def _services_say_where_they_are(run: Path) -> None:
    started = (run / "logs" / "start").read_text()
    assert "MLflow: http://127.0.0.1:5000 on this machine, store PostgreSQL" in started
    assert "ssh -N -L 5000:127.0.0.1:5000 " in started
    assert (run / "logs" / "again").read_text() == started, "a second start changes nothing"
    assert (run / "other.status").read_text().strip() == "2"
    assert re.fullmatch(
        r"error: --state: .* run with other settings; accepted: .*\n", (run / "logs" / "other").read_text()
    )
    status = (run / "logs" / "status").read_text()
    assert {"mlflow: running", "postgres: running"} < set(status.splitlines())
    assert "5000 answers" in status, "with the new password"
    assert ((run / "logs" / "lost").read_text(), (run / "lost.status").read_text()) == ("nothing runs\n", "1\n")


def _secrets_are_seen_nowhere(run: Path) -> None:
    (folder,) = (run / "home").glob("**/secrets")
    secrets = [path.read_text().strip() for path in folder.iterdir() if path.suffix != ".ini"]
    secrets.append((run / "home" / ".ray" / "auth_token").read_text().strip())
    assert len(secrets) == 4
    assert min(map(len, secrets)) >= 43
    seen = [run / "command_lines", *(run / "logs").iterdir(), *(run / "service_logs").iterdir()]
    texts = {path.name: path.read_text(errors="replace") for path in seen}
    assert "uvicorn" in texts["command_lines"]
    assert not [(name, secret) for name, text in texts.items() for secret in secrets if secret in text]

    modes = [line.split(" ", 3) for line in (run / "modes").read_text().splitlines()]
    private = {path.removeprefix("/run/home/"): mode for mode, _, kind, path in modes if kind in "fs"}
    assert {".ray/auth_token", ".mlflow/credentials"} < set(private)
    assert {name: mode for name, mode in private.items() if mode not in ("600", "700") and name != ".bashrc"} == {}
    assert {user for mode, user, _, path in modes if "/head/postgres" in path} == {"postgres"}, (
        "not even where it is root's"
    )


def _mlflow_is_shut(doors: dict) -> None:
    assert len(doors["without"]) > 500
    assert {path.split("/")[1] for _, path, *_ in doors["without"]} >= {"api", "ajax-api", "graphql", "gateway", "v1"}
    assert [door for door in doors["without"] if door[2] != 401 and not OPEN.fullmatch(door[1])] == []
    assert len(doors["wrong"]) > 15
    assert [door for door in doors["wrong"] if door[2] != 401 and not OPEN.fullmatch(door[1])] == []
    expected = {
        "right": 200,
        "right, allowed name": 200,
        "right, name through a tunnel": 200,
        "right, foreign name": 403,
        "right, private address": 403,
        "right, foreign page": 403,
        "somebody signs up": 401,
        "a reader is added": 200,
        "an experiment is made": 200,
        "a reader reads": 200,
        "a reader writes": 403,
        "a reader adds users": 403,
    }
    assert {name: status for name, (status, _) in doors["named"].items()} == expected


def _ray_is_shut(doors: dict) -> None:
    for name, status in (("without", 401), ("wrong", 403)):
        # The page itself is the same for everybody; it asks the reader for the token.
        answers = {f"{method} {path}": got for method, path, got, _ in doors["http"][name]}
        assert answers == dict.fromkeys(answers, status) | {"GET /": 200}
    assert doors["right"] == [200, "[]"]
    assert {door: status for door, (status, _) in doors["agent"].items()} == dict.fromkeys(doors["agent"], 401)
    # Numbers for Prometheus, which Ray shows to whoever reaches the node.
    assert all(status == 200 and text.startswith("# HELP") for status, text in doors["metrics"].values())
    assert len(doors["drivers"]) == 6
    for name, (code, said) in doors["drivers"].items():
        assert (code == 0) == name.startswith("right"), (name, said)


def _only_ray_listens_to_others(run: Path) -> None:
    listening = [line.split() for line in (run / "listening").read_text().splitlines()]
    addresses = {columns[3]: columns[-1].split('"')[1] for columns in listening}
    assert {"127.0.0.1:5000", "127.0.0.1:8265"} <= set(addresses)
    assert "postgres" not in addresses.values()
    assert "*:6379" in addresses, "Ray's nodes must be able to come in"
    assert not {"5000", "8265"} & {address.rpartition(":")[2] for address in addresses if "127.0.0.1" not in address}
