"""Why Ray does not start: the line that names the cause, and none of those around it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tune_bn.runners.ray.words import last_words, logged_cause, tight_limits


def test_last_words_have_no_colours() -> None:
    assert last_words(b"one\n\x1b[31mtwo \x1b[0m\n\n----\n") == "two"
    assert last_words(b"\n") == "it said nothing"


LOGGED = "2026-11-30 10:20:57,096\tINFO scripts.py:1043 -- Local node IP: 10.77.0.12\n"
RAISED = 'Traceback (most recent call last):\n  File "node.py", line 440\n    raise Exception(\nException: so\n'


@pytest.mark.parametrize(
    ("said", "words"),
    [
        # Ray's own lines come last where its output was kept back while it raised.
        (RAISED + LOGGED, "Exception: so"),
        (LOGGED + RAISED, "Exception: so"),
        (LOGGED + "2026-11-30 10:20:57,096\tERROR node.py:1 -- no port is free\n" + LOGGED, "no port is free"),
        (
            "RuntimeError: Failed to start GCS.  Last 1 lines of error files:\n"
            "[2026-11-30 10:20:16,730 C 12 12] (gcs_server) gcs_server.cc:55:  Check failed: no room\n"
            ".Please check gcs_server.out for details.\n",
            "Check failed: no room",
        ),
        ("[2026-11-30 10:20:16,730 E 12 12] a.cc:5: torn\n[2026-11-30 10:20:17,730 I 12 12] a.cc:6: ends\n", "torn"),
        (
            "[2026-11-30 10:20:16,730 C 12 12] (raylet) main.cc:55:  An unexpected system state has occurred. You have "
            "likely discovered a bug in Ray. Check failed: status.has_value() Timed out waiting for file /tmp/r\n",
            "Check failed: status.has_value() Timed out waiting for file /tmp/r",
        ),
        (
            "terminate called after throwing an instance of 'std::system_error'\n"
            "  what():  Resource temporarily unavailable\nFatal Python error: Aborted\n",
            "what():  Resource temporarily unavailable",
        ),
        (LOGGED, "Local node IP: 10.77.0.12"),
        ("srun: error: n1: task 0: Killed\n", "srun: error: n1: task 0: Killed"),
    ],
)
def test_last_words_name_the_cause(said: str, words: str) -> None:
    assert last_words(said.encode()) == words


def test_the_first_error_of_a_daemon_is_its_cause_and_what_follows_is_where_it_was(tmp_path: Path) -> None:
    """As Ray 2.60 wrote it where a user may have 20 processes."""
    logs = tmp_path / "session_2026-11-30_10-25-22_194946_12231" / "logs"
    logs.mkdir(parents=True)
    assert logged_cause(tmp_path) == ""
    begin = "[2026-11-30 10:25:22,470 {} 12375 12375] (gcs_server) "
    lines = [
        begin.format("I") + "event.cc:332: Set ray event level to warning",
        begin.format("E") + "logging.cc:118: Unhandled exception: St12system_error. what(): Resource temporarily "
        "unavailable /opt/ray/core/src/ray/gcs/gcs_server(+0x14c3daa) [0x55f0edeebdaa] ray::operator<<()",
        "/opt/ray/core/src/ray/gcs/gcs_server(+0x14c484c) [0x55f0edeec84c] ray::RayLog::operator<< <>()",
        begin.format("E") + "logging.cc:474: *** SIGABRT received at time=1796034274 on cpu 0 ***",
        begin.format("E") + "logging.cc:474: PC: @     0x7fcfab6a8eec  (unknown)  (unknown)",
    ]
    (logs / "gcs_server.err").write_text("\n".join(lines))
    (logs / "gcs_server.out").write_text("\n".join(lines))
    cause = "Unhandled exception: St12system_error. what(): Resource temporarily unavailable"
    assert logged_cause(tmp_path) == f"gcs_server: {cause}"


def test_limits_that_ray_may_not_fit_in_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NPROC: 60, resource.RLIMIT_FSIZE: 1024, resource.RLIMIT_NOFILE: 1024}
    monkeypatch.setattr(
        "resource.getrlimit", lambda kind: (limits.get(kind, resource.RLIM_INFINITY), resource.RLIM_INFINITY)
    )
    assert tight_limits() == "ulimit -u: 60 processes and threads of this user, ulimit -f: 1024 bytes of a file"
    limits.clear()
    assert tight_limits() == ""
