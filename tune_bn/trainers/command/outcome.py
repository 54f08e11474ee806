"""What the end of a script means for its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tune_bn.records.curves import Point
from tune_bn.records.score import Score
from tune_bn.trainers.command.points import Points
from tune_bn.trainers.command.process import End

PREEMPTED_STATUS = 75
"""EX_TEMPFAIL: the script asks to be started again."""
COMPLETED, STOPPED, DIVERGED, PREEMPTED, FAILED = "completed", "stopped", "diverged", "preempted", "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt, and why."""

    status: str
    reason: str = ""


def outcome_of(end: End, points: Points, *, ends_early: bool, terminated: bool, words: str, log: str) -> Outcome:
    """Judge an attempt that has ended, by the first of these that fits.

    Args:
        end: of the process.
        points: what it has reported, in this attempt and before.
        ends_early: whether the space file allows fewer steps.
        terminated: whether the script stopped for a SIGTERM that nobody here has sent.
        words: what it printed last.
        log: where the rest of that is.
    """
    done, steps = len(points.points), points.steps
    tail = f"{': ' + words if words else ''} (log: {log})"
    if end.survivors:
        return Outcome(FAILED, f"processes {', '.join(map(str, end.survivors))} of it cannot be killed{tail}")
    if points.diverged:
        return Outcome(DIVERGED, f"{points.score.validation} was not finite at step {done}")
    if end.reason == "timeout":
        return Outcome(
            FAILED, f"ended after {end.seconds:.0f} s, as trainer.timeout says, at step {done} of {steps}{tail}"
        )
    if end.reason is not None:
        return Outcome(STOPPED, end.reason)
    if end.status is None:
        return Outcome(FAILED, f"what watched over it was killed, and it was ended at step {done} of {steps}{tail}")
    if end.status == PREEMPTED_STATUS:
        return Outcome(PREEMPTED, f"exit status {PREEMPTED_STATUS} at step {done} of {steps}")
    if end.status == 0 and done >= steps:
        return Outcome(COMPLETED)
    if end.status == 0 and ends_early and points.stopped_early and done:
        return Outcome(COMPLETED)
    if end.status in (0, -15) and terminated:
        return Outcome(PREEMPTED, f"somebody else sent SIGTERM at step {done} of {steps}")
    how = f"signal {-end.status}" if end.status < 0 else f"exit status {end.status}"
    if end.status == 0 and not points.rows:
        return Outcome(FAILED, f"ended with exit status 0, and reported nothing{tail}")
    if end.status == 0:
        what = f"{points.score.validation} " if not done else ""
        accepted = "every step, or trainer.ends_early and finish(stopped_early=True)"
        return Outcome(
            FAILED, f"ended after {done} of {steps} steps {what}with exit status 0; accepted: {accepted}{tail}"
        )
    return Outcome(FAILED, f"{how} after {done} of {steps} steps{tail}")


def reason_of(points: Points, steps: int, *, done: bool, diverged: bool) -> str:
    """Why a run stands after so many steps, in words."""
    if diverged:
        return f"{points.score.validation} was not finite at step {steps}"
    if done and steps < points.steps:
        return f"ended by its own rule after {steps} of {points.steps} steps"
    words = f"all {steps} steps" if done else f"{steps} of {points.steps} steps so far"
    return words if points.inexact is None else f"{words}; did not go on as it was: {points.inexact}"


def scores_of(score: Score, curve: Sequence[Point], *, diverged: bool) -> dict[str, float]:
    """The validation score of a curve, by its name; nothing where there is none."""
    if not curve or (diverged and score.diverged is None):
        return {}
    found = score.objectives([point[score.validation] for point in curve], diverged=diverged)[-1]
    return {score.validation: score.objective(found)}
