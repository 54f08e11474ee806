"""Studies as Ray jobs: their drivers run on the head, whatever becomes of the connection that submitted them.

A job always *resumes* a study whose folder is there, so that the first driver, and any that follows after the head or a
driver was killed, are started by the same command. ``job.json`` in the folder remembers how often that was done.
A study that was told to stop, by whatever means, is started by nobody again: a request to stop that no driver has seen
yet stays in the folder until a person wants the study to go on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tune_bn.errors import RecordError, RunnerError, TuneBNError, first_line, own_fault
from tune_bn.records.commands import study_command
from tune_bn.records.files import write_json
from tune_bn.records.identity import is_copy
from tune_bn.records.reading import read_as
from tune_bn.study.driver import JOB_VARIABLE, read_driver_state
from tune_bn.study.folder import StudyFolder, list_studies

MOST_IN_VAIN = 5
"""Drivers in a row that may end without a new record before nobody starts another one."""

JOB_FILE = "job.json"
# As Ray names them; its package takes long to load.
_STOPPED = "STOPPED"
_ENDED = (_STOPPED, "SUCCEEDED", "FAILED")

STOP_SECONDS = 60
"""How long Ray lets a driver end that it was told to stop (``ray job stop``), before it kills it; by itself, 3 s."""


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
    driver_before: str = ""
    """When the driver that the study had before this submission was started (UTC)."""
    stopped: bool = False
    """Whether Ray was told to stop it."""


class JobServer:
    """The job server of the Ray cluster whose head this machine is.

    Raises:
        RunnerError: no job server answers, or it does not let us in.
    """

    def __init__(self) -> None:
        from ray.job_submission import JobSubmissionClient

        from tune_bn.runners.ray import compat
        from tune_bn.runners.ray.address import connect_once
        from tune_bn.runners.ray.loopback import on_loopback_alone, stay_on_loopback

        if on_loopback_alone("auto"):
            stay_on_loopback()
        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.CRITICAL)
        try:
            where = compat.address_of_this_machine() or ""
            if "://" not in where and where:
                # Where nothing answers Ray itself tries for a minute, with warnings.
                connect_once(where)
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
        from tune_bn.runners.ray.compat import STOP_WAIT_VARIABLE

        records, before = len(folder.records.read()), read_job(folder)
        count = 1 if before is None else before.submissions + 1
        in_vain = 0 if before is None or records > before.records else before.in_vain + 1
        driver = read_driver_state(folder)
        directory = os.getcwd() if before is None else before.directory
        job = Job("", count, records, in_vain, directory, "" if driver is None else driver.started_at)
        words = [sys.executable, "-P", "-m", "tune_bn", "search", "--space", str(folder.space_file)]
        words += ["--study", folder.name, "--output", str(folder.path.parent), "--address", "auto", "--resume"]
        while True:
            job = replace(job, submission_id=self._free_name(folder.name, count))
            write_json(folder.path / JOB_FILE, asdict(job))
            variable = f"{JOB_VARIABLE}={job.submission_id}"
            try:
                self._client.submit_job(
                    entrypoint=f"cd {shlex.quote(directory)} && {variable} exec {shlex.join(words)}",
                    submission_id=job.submission_id,
                    metadata={"study": folder.name, "folder": str(folder.path)},
                    runtime_env={"env_vars": {STOP_WAIT_VARIABLE: str(STOP_SECONDS)}},
                )
            # Of an HTTP client too.
            except Exception as error:
                if own_fault(error) is not None:
                    raise
                if self._is_of_another(job, folder):
                    continue
                raise RunnerError(
                    f"--job: Ray does not take the job {job.submission_id} ({first_line(error)[:200]}); accepted: a "
                    "healthy head"
                ) from None
            return job

    def _free_name(self, study: str, number: int) -> str:
        """Other studies of this name, of whomever, may have run on this cluster before."""
        taken = {job.submission_id for job in self._jobs()}
        while (name := f"tune_bn-{study}" + ("" if number == 1 else f"-{number}")) in taken:
            number += 1
        return name

    def _is_of_another(self, job: Job, folder: StudyFolder) -> bool:
        """Whether another study of the same name was submitted in the same moment."""
        found = (item.metadata for item in self._jobs() if item.submission_id == job.submission_id)
        owner = next(found, None)
        return owner is not None and owner.get("folder") != str(folder.path)

    def follow(self, job: Job, show: Callable[[str], None]) -> int:
        """Show what the driver prints until it ends, and return its exit status."""

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job.submission_id):
                show(text)

        try:
            asyncio.run(tail())
            details = self._client.get_job_info(job.submission_id)
        # What Ray and its HTTP clients raise for a server that goes away is no family of errors.
        except Exception as error:
            if own_fault(error) is not None:
                raise
            raise RunnerError(
                f"the job server of this machine went away ({first_line(error)[:200]}), and with it the log of the job "
                f"{job.submission_id}; `tune_bn status` says whether the study goes on; accepted: a head whose Ray runs"
            ) from None
        if details.status == _STOPPED:
            return 130
        if details.driver_exit_code is None:
            raise RunnerError(
                f"the job {job.submission_id} ended without its driver ({details.status}: {details.message}); what "
                "finished is kept, --resume goes on"
            )
        code = int(details.driver_exit_code)
        # Of one that a signal ended, as a shell has it.
        return code if code >= 0 else 128 - code

    def is_active(self, job: Job) -> bool:
        """Whether the driver of that submission waits or runs."""
        return self._status(job) not in (None, *_ENDED)

    def was_stopped(self, job: Job) -> bool:
        """Whether Ray was told to stop it, as by ``ray job stop``."""
        return self._status(job) == _STOPPED

    def _status(self, job: Job) -> str | None:
        found = (item.status for item in self._jobs() if item.submission_id == job.submission_id)
        status = next(found, None)
        return None if status is None else str(status.value)

    def _jobs(self) -> list[Any]:
        try:
            return list(self._client.list_jobs())
        # A head may go away at any moment.
        except Exception as error:
            if own_fault(error) is not None:
                raise
            raise RunnerError(
                f"the job server of this machine went away ({first_line(error)[:200]}); accepted: a head whose Ray runs"
            ) from None


def read_job(folder: StudyFolder) -> Job | None:
    """The job of a study; None where it has none, or nothing that makes sense."""
    with suppress(RecordError):
        return read_as(Job, folder.path / JOB_FILE, what="job")
    return None


def may_begin_again(folder: StudyFolder) -> bool:
    """Whether a driver may begin to work on the study without anybody's asking, since its job did not end on purpose.

    True too where a job was submitted and its driver has not begun yet, whether or not it was told to stop meanwhile.
    """
    job, driver = read_job(folder), read_driver_state(folder)
    if job is None or job.stopped or folder.verdict_file.exists() or folder.is_locked:
        return False
    if driver is not None and driver.ended and driver.started_at != job.driver_before:
        return False
    # Nobody asked for a copy to go on, whatever became of its original.
    return not is_copy(folder.path)


def at_work(folder: StudyFolder) -> Callable[[], bool]:
    """Tells whether the study's job waits or runs; that it does not, where this machine is no head that knows of it.

    A head that goes away takes its jobs with it.
    """
    job = read_job(folder)
    try:
        server = JobServer()
    except RunnerError:
        return lambda: False

    def active() -> bool:
        with suppress(RunnerError):
            return job is not None and server.is_active(job)
        return False

    return active


def resume_interrupted(output: Path, server: JobServer) -> list[str]:
    """Submit every study below ``output`` again that was a job and whose driver neither ended nor was told to stop.

    Returns:
        One line for each study that was submitted or given up.
    """
    lines = []
    for folder in list_studies(output):
        job = read_job(folder)
        if job is None or folder.stop_file.exists() or not may_begin_again(folder) or server.is_active(job):
            continue
        if server.was_stopped(job):
            # Ray forgets it with its head.
            write_json(folder.path / JOB_FILE, asdict(replace(job, stopped=True)))
            lines.append(f"{folder.name}: its job was stopped (ray job stop), so no other is started")
            continue
        if job.in_vain >= MOST_IN_VAIN:
            lines.append(
                f"{folder.name}: {MOST_IN_VAIN} drivers in a row recorded nothing, so no other is started; "
                f"{study_command('logs', folder.path)} says more"
            )
            continue
        try:
            lines.append(f"{folder.name}: goes on as the job {server.submit(folder).submission_id}")
        except TuneBNError as error:
            lines.append(f"{folder.name}: {error}")
    return lines
