"""Notices of a cloud that takes a node away, against a metadata service on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tune_bn.runners.ray import compat
from tune_bn.service import preemption
from tune_bn.service.preemption import amazon_takes_it, google_takes_it


class _Metadata(BaseHTTPRequestHandler):
    """Both clouds' services, as they document them: each refuses a request without its header."""

    noticed = False

    def do_PUT(self) -> None:
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self._answer(200 if self.path == "/latest/api/token" and seconds else 400, "a token")

    def do_GET(self) -> None:
        if self.path == "/latest/meta-data/spot/instance-action":
            known = self.headers.get("X-aws-ec2-metadata-token") == "a token"
            self._answer((200 if self.noticed else 404) if known else 401, '{"action": "terminate"}')
        elif self.path == "/computeMetadata/v1/instance/preempted":
            known = self.headers.get("Metadata-Flavor") == "Google"
            self._answer(200 if known else 403, "TRUE\n" if self.noticed else "FALSE\n")
        else:
            self._answer(500, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setattr(_Metadata, "noticed", False)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("takes_it", [amazon_takes_it, google_takes_it])
def test_a_notice_is_understood(takes_it: Any, metadata: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert takes_it(metadata) is False
    monkeypatch.setattr(_Metadata, "noticed", True)
    assert takes_it(metadata) is True


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    here = {"node-1"}
    monkeypatch.setattr(compat.services, "find_node_ids", lambda: set(here))
    return here


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[str], int]]:
    calls: list[tuple[set[str], int]] = []
    monkeypatch.setattr(preemption, "drain", lambda node_ids, seconds: calls.append((node_ids, seconds)))
    return calls


def test_the_nodes_of_the_machine_are_drained_once_it_is_taken_away_whatever_was_answered_before(
    nodes: set[str], drained: list[tuple[set[str], int]], capsys: pytest.CaptureFixture[str]
) -> None:
    answers: Iterator[bool | Exception] = iter([False, TimeoutError("no answer"), True])

    def takes_it() -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        assert not drained
        return answer

    preemption.watch(takes_it, 120, poll_seconds=0)
    assert drained == [({"node-1"}, 120)]
    assert "no answer" in capsys.readouterr().out


def test_it_ends_with_the_nodes_that_it_watches_over(nodes: set[str], drained: list[tuple[set[str], int]]) -> None:
    def takes_it() -> bool:
        nodes.clear()
        nodes.add("another")
        return False

    preemption.watch(takes_it, 120, poll_seconds=0)
    assert drained == []
