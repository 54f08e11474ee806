"""Which studies are submitted again, and which are left alone. tests/system has the real job server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tune_bn.driver import BROKEN, FINISHED, LOST, STOPPED, WORKING, DriverState
from tune_bn.identity import settle
from tune_bn.records import write_json
from tune_bn.service.jobs import JOB_FILE, MOST_IN_VAIN, Job, JobServer, read_job, resume_interrupted
from tune_bn.study_folder import StudyFolder


class Client:
    """Takes jobs, as Ray's client does, and says of each that it is over."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def list_jobs(self) -> list[Any]:
        return []

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


def interrupted(study: StudyFolder, *, driver: str | None = WORKING, in_vain: int = 0, records: int = 0) -> None:
    write_json(study.path / JOB_FILE, asdict(Job("tune_bn-one", 1, records, in_vain, "/home/somebody")))
    if driver is not None:
        write_json(study.driver_file, asdict(DriverState(state=driver)))


@pytest.mark.parametrize("driver", [None, WORKING, LOST])
def test_a_study_whose_driver_did_not_end_by_itself_goes_on_where_it_was_started(
    study: StudyFolder, server: JobServer, driver: str | None
) -> None:
    interrupted(study, driver=driver)
    (line,) = resume_interrupted(study.path.parent, server)
    assert line == "one: goes on as the job tune_bn-one-2"
    (job,) = server._client.taken
    assert job["entrypoint"].startswith("cd /home/somebody && exec ")
    assert job["entrypoint"].endswith(" --address auto --resume")
    assert read_job(study) == Job("tune_bn-one-2", 2, len(study.records.read()), 0, "/home/somebody")


@pytest.mark.parametrize("driver", [FINISHED, STOPPED, BROKEN])
def test_a_study_that_ended_is_left_alone(study: StudyFolder, server: JobServer, driver: str) -> None:
    interrupted(study, driver=driver)
    assert resume_interrupted(study.path.parent, server) == []


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
