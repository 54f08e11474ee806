"""Studies as Ray jobs: their drivers run on the head, whatever becomes of the connection that submitted them.

A job always *resumes* a study whose folder is there, so that the first driver, and any that follows after the head or a
driver was killed, are started by the same command. ``job.json`` in the folder remembers how often that was done.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tune_bn.driver import LOST, WORKING, read_driver_state
from tune_bn.errors import RunnerError, TuneBNError, first_line, own_fault
from tune_bn.identity import is_copy
from tune_bn.records import read_bytes, write_json
from tune_bn.study_folder import StudyFolder, list_studies

MOST_IN_VAIN = 5
"""Drivers in a row that may end without a new record before nobody starts another one."""

JOB_FILE = "job.json"


@dataclass(frozen=True)
class Job:
    """The content of ``job.json``."""

    submission_id: str
    submissions: int
    """How often a driver of the study was submitted."""
    records: int
    """Records of the study at the last submission."""
    in_vain: int
    """Submissions in a row before it that brought no record."""
    directory: str
    """Where the search was started: networks of the user's are imported from there."""


class JobServer:
    """The job server of the Ray cluster whose head this machine is.

    Raises:
        RunnerError: no job server answers, or it does not let us in.
    """

    def __init__(self) -> None:
        from ray.job_submission import JobSubmissionClient

        from tune_bn.runners.ray_loopback import on_loopback_alone, stay_on_loopback

        if on_loopback_alone("auto"):
            stay_on_loopback()
        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.CRITICAL)
        try:
            self._client = JobSubmissionClient("auto")
            self._client.list_jobs()
        # What Ray raises for a cluster that is not there, or does not let us in, is no family of errors.
        except Exception as error:
            if own_fault(error) is not None:
                raise
            reason = first_line(error)
            raise RunnerError(
                f"--job: the job server of this machine cannot be used ({reason[:200]}); accepted: the head of a "
                "Ray cluster with its dashboard, started as cluster/config.yaml does"
            ) from None

    def submit(self, folder: StudyFolder) -> Job:
        """Start a driver that goes on with the study in ``folder``. Raises :class:`RunnerError` where Ray refuses."""
        records, before = len(folder.records.read()), read_job(folder)
        count = 1 if before is None else before.submissions + 1
        in_vain = 0 if before is None or records > before.records else before.in_vain + 1
        # Another study of this name may have run on this cluster before.
        taken = {job.submission_id for job in self._client.list_jobs()}
        number = count
        while (name := f"tune_bn-{folder.name}" + ("" if number == 1 else f"-{number}")) in taken:
            number += 1
        job = Job(name, count, records, in_vain, os.getcwd() if before is None else before.directory)
        write_json(folder.path / JOB_FILE, asdict(job))
        words = [sys.executable, "-P", "-m", "tune_bn", "search", "--space", str(folder.space_file)]
        words += ["--study", folder.name, "--output", str(folder.path.parent), "--address", "auto", "--resume"]
        entrypoint = f"cd {shlex.quote(job.directory)} && exec {shlex.join(words)}"
        try:
            self._client.submit_job(entrypoint=entrypoint, submission_id=name, metadata={"study": folder.name})
        except (RuntimeError, ValueError) as error:
            raise RunnerError(f"--job: Ray does not take the job {name} ({error}); accepted: a healthy head") from None
        return job

    def follow(self, job: Job, show: Callable[[str], None]) -> int:
        """Show what the driver prints until it ends, and return its exit status."""

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job.submission_id):
                show(text)

        asyncio.run(tail())
        details = self._client.get_job_info(job.submission_id)
        if details.driver_exit_code is None:
            raise RunnerError(
                f"the job {job.submission_id} ended without its driver ({details.status}: {details.message}); what "
                "finished is kept, --resume goes on"
            )
        return int(details.driver_exit_code)

    def is_active(self, job: Job) -> bool:
        """Whether the driver of that submission waits or runs."""
        return any(
            item.submission_id == job.submission_id and not item.status.is_terminal()
            for item in self._client.list_jobs()
        )


def read_job(folder: StudyFolder) -> Job | None:
    """The job of a study; None where it has none, or nothing that makes sense."""
    try:
        content: Any = json.loads(read_bytes(folder.path / JOB_FILE))
        job = Job(**content)
        sound = all(type(text) is str for text in (job.submission_id, job.directory)) and all(
            type(count) is int for count in (job.submissions, job.records, job.in_vain)
        )
        return job if sound else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def resume_interrupted(output: Path, server: JobServer) -> list[str]:
    """Submit every study below ``output`` again that was a job and whose driver did not end by itself.

    Returns:
        One line for each study that was submitted or given up.
    """
    lines = []
    for folder in list_studies(output):
        job, driver = read_job(folder), read_driver_state(folder)
        ended = driver is not None and driver.state not in (WORKING, LOST)
        if job is None or ended or folder.verdict_file.exists() or folder.is_locked or server.is_active(job):
            continue
        # Nobody asked for a copy to go on, whatever became of its original.
        if is_copy(folder.path):
            continue
        if job.in_vain >= MOST_IN_VAIN:
            lines.append(
                f"{folder.name}: {MOST_IN_VAIN} drivers in a row recorded nothing, so no other is started; "
                f"tune_bn logs {folder.name} says more"
            )
            continue
        try:
            lines.append(f"{folder.name}: goes on as the job {server.submit(folder).submission_id}")
        except TuneBNError as error:
            lines.append(f"{folder.name}: {error}")
    return lines
