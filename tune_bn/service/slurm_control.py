"""What Slurm tells of a job and its nodes, by ``scontrol``."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence

from tune_bn.errors import RunnerError
from tune_bn.runners.ray.words import last_words

RUNNING, PREEMPTED, QUEUED = "running", "preempted", "queued again by Slurm"
OUT_OF_TIME, CANCELLED = "its time limit is over", "cancelled"
"""What Slurm does with a start of a job. Who is preempted has its GraceTime yet."""


def scontrol(*arguments: str) -> str:
    """What ``scontrol`` prints. Raises :class:`RunnerError` where it fails."""
    try:
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise RunnerError(f"scontrol {' '.join(arguments)}: {last_words(said.encode())}") from None
    return done.stdout


def _fields(text: str) -> dict[str, str]:
    return dict(re.findall(r"(?:^|\s)(\w[\w:/-]*)=(\S*)", text))


def job_fields(number: str) -> dict[str, str]:
    """What Slurm tells of the job; empty where it does not answer."""
    try:
        return _fields(scontrol("show", "job", number, "--oneliner"))
    except RunnerError:
        return {}


def script_of(number: str, arguments: Sequence[str]) -> str:
    """The batch script of a job, which Slurm tells in one breath with its arguments; empty where it does not answer."""
    try:
        told = scontrol("show", "job", number, "--oneliner")
    except RunnerError:
        return ""
    command = told.partition(" Command=")[2].partition(" WorkDir=")[0].strip()
    return command.removesuffix(" ".join(arguments)).strip()


def fate_of(told: Mapping[str, str], restarts: int) -> str:
    """What Slurm does with this start of a job, from what it tells of the job (``scontrol show job``).

    Args:
        told: its fields.
        restarts: ``$SLURM_RESTART_COUNT`` of this start.
    """
    if told.get("Restarts", "").isdigit() and int(told["Restarts"]) > restarts:
        return QUEUED
    when = told.get("PreemptTime", "")
    # A job that was queued again keeps the time of an earlier preemption.
    preempted = when[:1].isdigit() and when >= told.get("StartTime", "")
    if told.get("JobState", "RUNNING") in ("RUNNING", "CONFIGURING", "SUSPENDED", "SIGNALING"):
        return PREEMPTED if preempted else RUNNING
    if preempted:
        return QUEUED
    limit, spent = _seconds(told.get("TimeLimit", "")), _seconds(told.get("RunTime", ""))
    return OUT_OF_TIME if limit is not None and spent is not None and spent >= limit else CANCELLED


def _seconds(text: str) -> int | None:
    """``[days-]hours:minutes:seconds``; None for anything else, such as no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((24 * days + hours) * 60 + minutes) * 60 + seconds


def node_addresses(names: Sequence[str]) -> dict[str, str]:
    """The name or address by which Slurm reaches each node."""
    lines = scontrol("show", "node", ",".join(names), "--oneliner").splitlines()
    told = [_fields(line) for line in lines]
    return {fields["NodeName"]: fields.get("NodeAddr", fields["NodeName"]) for fields in told if "NodeName" in fields}


def kill_wait() -> float:
    """Seconds between SIGTERM and SIGKILL of a job that Slurm ends."""
    try:
        found = re.search(r"^KillWait\s*=\s*(\d+)", scontrol("show", "config"), re.MULTILINE)
    except RunnerError:
        found = None
    return float(found[1]) if found else 30.0
