"""Which studies are submitted again, and which are left alone. tests/system has the real job server."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus
from typer.testing import CliRunner

from tune_bn.cli import app
from tune_bn.errors import RunnerError
from tune_bn.records.files import write_json
from tune_bn.records.identity import settle
from tune_bn.service.jobs import JOB_FILE, MOST_IN_VAIN, Job, JobServer, may_begin_again, read_job, resume_interrupted
from tune_bn.study.driver import BROKEN, FINISHED, LOST, STOPPED, WORKING, DriverState
from tune_bn.study.folder import StudyFolder


class Client:
    """Takes jobs, as Ray's client does, and knows what became of some."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.known: dict[str, JobStatus] = {}
        self.exit_code: int | None = None

    def list_jobs(self) -> list[Any]:
        return [SimpleNamespace(submission_id=name, status=status) for name, status in self.known.items()]

    def get_job_info(self, name: str) -> Any:
        return SimpleNamespace(status=self.known[name], driver_exit_code=self.exit_code, message="so")

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        yield "a line\n"

    def submit_job(self, **job: Any) -> None:
        self.taken.append(job)


@pytest.fixture
def server() -> JobServer:
    made = JobServer.__new__(JobServer)
    made._client = Client()
    return made


@pytest.fixture
def study(tmp_path: Path, synthetic_study: Callable[..., Any]) -> StudyFolder:
    return StudyFolder(synthetic_study(n=3).write(tmp_path / "studies" / "one"))


STARTED = "2026-01-01T00:00:00+00:00"


def interrupted(study: StudyFolder, *, driver: str | None = WORKING, in_vain: int = 0, records: int = 0) -> None:
    write_json(study.path / JOB_FILE, asdict(Job("tune_bn-one", 1, records, in_vain, "/home/somebody")))
    if driver is not None:
        write_json(study.driver_file, asdict(DriverState(state=driver, started_at=STARTED)))


@pytest.mark.parametrize("driver", [None, WORKING, LOST])
def test_a_study_whose_driver_did_not_end_by_itself_goes_on_where_it_was_started(
    study: StudyFolder, server: JobServer, driver: str | None
) -> None:
    interrupted(study, driver=driver)
    (line,) = resume_interrupted(study.path.parent, server)
    assert line == "one: goes on as the job tune_bn-one-2"
    (job,) = server._client.taken
    assert job["entrypoint"].startswith("cd /home/somebody && TUNE_BN_JOB=tune_bn-one-2 exec ")
    assert job["entrypoint"].endswith(" --address auto --resume")
    assert job["runtime_env"] == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}
    before = "" if driver is None else STARTED
    assert read_job(study) == Job("tune_bn-one-2", 2, len(study.records.read()), 0, "/home/somebody", before)


@pytest.mark.parametrize("owner", [{"folder": "/home/other/studies/one"}, {}])
def test_two_studies_of_one_name_that_are_submitted_at_once_get_names_of_their_own(
    study: StudyFolder, server: JobServer, owner: dict[str, str]
) -> None:
    class Contested(Client):
        def list_jobs(self) -> list[Any]:
            return [
                SimpleNamespace(submission_id=name, status=JobStatus.RUNNING, metadata=owner) for name in self.known
            ]

        def submit_job(self, **job: Any) -> None:
            if not self.known:
                self.known = {"tune_bn-one": JobStatus.RUNNING}
                raise RuntimeError("Job with submission_id tune_bn-one already exists.")
            super().submit_job(**job)

    server._client = client = Contested()
    assert server.submit(study).submission_id == "tune_bn-one-2"
    assert [job["submission_id"] for job in client.taken] == ["tune_bn-one-2"]
    assert read_job(study).submission_id == "tune_bn-one-2"
    # What was taken although the answer was lost is no other's.
    client.known, owner["folder"] = {}, str(study.path)
    (study.path / JOB_FILE).unlink()
    with pytest.raises(RunnerError, match="does not take the job tune_bn-one "):
        server.submit(study)


@pytest.mark.parametrize("driver", [FINISHED, STOPPED, BROKEN])
def test_a_study_that_ended_is_left_alone(study: StudyFolder, server: JobServer, driver: str) -> None:
    interrupted(study, driver=driver)
    assert resume_interrupted(study.path.parent, server) == []


def test_a_study_that_was_told_to_stop_is_left_alone_by_whatever_means_it_was_told(
    study: StudyFolder, server: JobServer
) -> None:
    interrupted(study)
    study.request_stop(expected=True)
    assert resume_interrupted(study.path.parent, server) == []
    study.forget_stop()
    # Killed before it had ended.
    write_json(study.driver_file, asdict(DriverState(reason="interrupted by SIGTERM", started_at=STARTED)))
    assert resume_interrupted(study.path.parent, server) == []
    interrupted(study)
    server._client.known = {"tune_bn-one": JobStatus.STOPPED}
    assert resume_interrupted(study.path.parent, server) == [
        "one: its job was stopped (ray job stop), so no other is started"
    ]
    # A head that is started again knows nothing of it.
    server._client.known = {}
    assert resume_interrupted(study.path.parent, server) == []
    assert server._client.taken == []
    # Until a person wants it to go on.
    server.submit(study)
    assert len(resume_interrupted(study.path.parent, server)) == 1


@pytest.mark.parametrize("driver", [None, STOPPED, BROKEN, LOST])
def test_a_job_whose_driver_never_began_goes_on_whatever_the_driver_before_it_did(
    study: StudyFolder, server: JobServer, driver: str | None
) -> None:
    interrupted(study, driver=driver)
    server.submit(study)
    assert may_begin_again(study)
    (line,) = resume_interrupted(study.path.parent, server)
    assert line.startswith("one: goes on as the job")
    state = DriverState(state=STOPPED, started_at="2026-01-01T00:00:01+00:00")
    write_json(study.driver_file, asdict(state))
    assert not may_begin_again(study)


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.RUNNING])
def test_a_job_that_waits_or_runs_is_not_submitted_again(
    study: StudyFolder, server: JobServer, status: JobStatus
) -> None:
    interrupted(study)
    server._client.known = {"tune_bn-one": status}
    assert resume_interrupted(study.path.parent, server) == []


def test_who_follows_a_job_learns_that_it_was_stopped(study: StudyFolder, server: JobServer) -> None:
    interrupted(study)
    job, said = read_job(study), list[str]()
    assert job is not None
    server._client.known = {job.submission_id: JobStatus.STOPPED}
    assert server.follow(job, said.append) == 130
    assert said == ["a line\n"]
    server._client.known = {job.submission_id: JobStatus.FAILED}
    with pytest.raises(RunnerError, match="ended without its driver"):
        server.follow(job, said.append)
    for server._client.exit_code, status in ((0, 0), (2, 2), (-9, 137)):
        assert server.follow(job, said.append) == status
    server._client.known = {}
    with pytest.raises(RunnerError, match=r"the job server of this machine went away \('tune_bn-one'\)"):
        server.follow(job, said.append)


@pytest.mark.parametrize("active", [None, 2])
def test_stop_reaches_a_job_that_does_not_run_or_has_not_begun(
    study: StudyFolder, server: JobServer, active: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its head it waits for a job that has not begun; elsewhere there is none that it could ask."""
    interrupted(study)
    looks = iter([True] * (active or 0) + [False] * 9)

    def made() -> JobServer:
        if active is None:
            raise RunnerError("no head")
        monkeypatch.setattr(server, "is_active", lambda job: next(looks))
        return server

    monkeypatch.setattr("tune_bn.service.jobs.JobServer", made)
    arguments = ["stop", "one", "--output", str(study.path.parent)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith("one does not run, and no driver of it begins again by itself. To go on: tune_bn ")
    assert result.stdout.endswith(" --job --resume\n")
    assert resume_interrupted(study.path.parent, server) == []
    if active is not None:
        looks = iter([True] * 999)
        result = CliRunner().invoke(app, [*arguments, "--timeout", "0"])
        assert "was told to stop and has not ended after 0 s" in str(result.exception)


def test_a_head_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's client would try for a minute, and print warnings of its own meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr("tune_bn.runners.ray.compat.address_of_this_machine", lambda: address)
        monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda given: pytest.fail("was asked"))
        with pytest.raises(RunnerError, match=r"--job: the job server of this machine cannot be used \(.*refused"):
            JobServer()


def test_a_head_that_goes_away_is_said_in_a_line(
    study: StudyFolder, server: JobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*given: object, **named: object) -> None:
        raise ConnectionError("connection refused")

    interrupted(study)
    job = read_job(study)
    assert job is not None
    monkeypatch.setattr("tune_bn.service.jobs.JobServer", lambda: server)
    monkeypatch.setattr(server._client, "submit_job", away)
    assert resume_interrupted(study.path.parent, server) == [
        "one: --job: Ray does not take the job tune_bn-one-2 (connection refused); accepted: a healthy head"
    ]
    monkeypatch.setattr(server._client, "list_jobs", away)
    for ask in (lambda: server.is_active(job), lambda: resume_interrupted(study.path.parent, server)):
        with pytest.raises(RunnerError, match=r"went away \(connection refused\); accepted"):
            ask()
    result = CliRunner().invoke(app, ["head", "resume", "--output", str(study.path.parent)])
    assert isinstance(result.exception, RunnerError)
    # Its jobs went with it.
    result = CliRunner().invoke(app, ["stop", "one", "--output", str(study.path.parent)])
    assert (result.exit_code, result.stdout.partition(".")[0]) == (
        0,
        "one does not run, and no driver of it begins again by itself",
    )


def test_a_study_that_was_no_job_or_runs_or_has_a_verdict_is_left_alone(study: StudyFolder, server: JobServer) -> None:
    assert resume_interrupted(study.path.parent, server) == []
    interrupted(study)
    with study.locked():
        assert resume_interrupted(study.path.parent, server) == []
    study.verdict_file.write_text("{}")
    assert resume_interrupted(study.path.parent, server) == []
    assert server._client.taken == []


def test_a_copy_of_a_job_is_no_job_that_was_interrupted(study: StudyFolder, server: JobServer) -> None:
    settle(study.path)
    interrupted(study)
    shutil.copytree(study.path, study.path.parent / "copy")
    (line,) = resume_interrupted(study.path.parent, server)
    assert line.startswith(f"{study.name}: goes on as the job")


def test_drivers_that_record_nothing_are_not_started_for_ever(study: StudyFolder, server: JobServer) -> None:
    interrupted(study)
    for number in range(MOST_IN_VAIN + 1):
        (line,) = resume_interrupted(study.path.parent, server)
        assert ("recorded nothing" in line) == (number > MOST_IN_VAIN), line
    (line,) = resume_interrupted(study.path.parent, server)
    assert "5 drivers in a row recorded nothing" in line
    assert len(server._client.taken) == MOST_IN_VAIN + 1


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"submission_id": 3})])
def test_a_spoilt_file_is_no_job(study: StudyFolder, content: str) -> None:
    (study.path / JOB_FILE).write_text(content)
    assert read_job(study) is None
