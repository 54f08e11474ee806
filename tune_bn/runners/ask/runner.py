"""A runner whose workers are elsewhere: one call hands out a run, or takes what was told of one, and ends.

Every call opens the study anew from its records, as a resume does: what is out comes from its feed again, unchanged,
and is passed over as long as its lease holds.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping
from typing import Any

from tune_bn.protocols.runner import Feed, History, Listener, RunResult, SchedulerConfig
from tune_bn.protocols.trainer import COMPLETED, DIVERGED, FAILED, Trainer
from tune_bn.records.curves import Point
from tune_bn.records.score import Score
from tune_bn.runners.ask.ledger import Ledger, Out, task_of


class Paused(Exception):
    """The stage is not done, and this call is: nothing is left that it could do."""


class Advanced(Exception):
    """A task became records: the study is to be opened anew."""


class AskRunner:
    """A :class:`tune_bn.protocols.runner.Runner` that does one thing.

    Args:
        ledger: which runs are out.
        trainer: of the study.
        config_of: the configuration under overrides.
        lease: seconds for which a run is handed out; None: none is asked for.
        worker: who asks.
    """

    def __init__(
        self,
        ledger: Ledger,
        trainer: Trainer,
        config_of: Callable[[Mapping[str, Any]], Any],
        *,
        lease: float | None = None,
        worker: str = "",
    ) -> None:
        self.ledger, self.trainer, self.config_of = ledger, trainer, config_of
        self.lease, self.worker = lease, worker
        self.handed: tuple[str, Out] | None = None

    def run(
        self, feed: Feed, listener: Listener, *, scheduler: SchedulerConfig | None = None, history: History = ()
    ) -> None:
        """See :meth:`tune_bn.protocols.runner.Runner.run`. Nothing is stopped early: runs come back whole.

        Raises:
            Advanced: a task that was told became records.
            Paused: the stage waits for others, or a run of it was handed out.
        """
        del listener, scheduler, history
        # What is out is not done, so the first stage that has anything to do is the one that it belongs to.
        if feed.exhausted:
            return
        for key, entry in list(self.ledger.entries.items()):
            if entry.whole:
                task = task_of(entry, self.config_of(entry.task["overrides"]))
                results = [result_of(run, self.trainer) for run in entry.runs.values()]
                feed.finished(task, results)
                if any(result.status == FAILED for result in results):
                    self.ledger.given_up.add(key)
                    if (give_up := getattr(feed, "give_up", None)) is not None:
                        give_up()
                del self.ledger.entries[key]
                self.ledger.save()
                raise Advanced
        while self.lease is not None and (following := feed.next()) is not None:
            self.handed = self.ledger.hand_out(following, self.lease, self.worker)
            if self.handed is not None:
                self.ledger.save()
                break
        raise Paused

    def close(self) -> None:
        """Nothing is held."""


def result_of(run: Out, trainer: Trainer) -> RunResult:
    """What was told of a run, as a runner gives it."""
    assert run.told is not None
    told = run.told
    curve = tuple(
        Point(step, {name: math.nan if value is None else value for name, value in metrics.items()})
        for step, metrics in told["curve"]
    )
    return RunResult(
        seed=run.seed,
        status=told["status"],
        reason=told["reason"],
        epochs=told["steps"],
        scores=dict(told["scores"]),
        curve=curve,
        attempts=run.attempts,
        started_at=run.began,
        duration_seconds=told["seconds"],
        device=told["device"],
        versions=trainer.versions(),
        environment=told["environment"],
    )


def told_of(
    score: Score,
    *,
    steps: int,
    test: str | None,
    scores: Mapping[str, float],
    curve: tuple[Point, ...],
    failed: str | None,
    seconds: float,
    device: str,
    worker: str,
) -> dict[str, Any]:
    """What is told of a run, in the form in which it is kept; :mod:`tune_bn.front.asking` has checked it.

    Args:
        score: of the study.
        steps: of a whole run.
        test: name of the test score that was to be found; None: none was.
        scores: by name, of the whole run.
        curve: by step, as far as it was told.
        failed: why it came to nothing.
        seconds: that it took.
        device: on what it ran, in words.
        worker: who had it.
    """
    place = worker or socket.gethostname()
    about = {"seconds": seconds, "device": device, "environment": {"worker": place}}
    # JSON has no NaN.
    points = [
        (point.step, {name: value if math.isfinite(value) else None for name, value in point.metrics.items()})
        for point in curve
    ]
    if failed is not None:
        kept = {"status": FAILED, "reason": failed, "steps": len(points), "scores": {}, "curve": points}
        return about | kept
    value = scores[score.validation]
    # Neither nan nor an infinity is between the two.
    if not abs(value) < float("inf"):
        names = [score.validation, *([test] if test is not None else [])]
        kept_scores = {} if score.diverged is None else dict.fromkeys(names, score.diverged)
        reason = f"{score.validation} was not finite"
        return about | {"status": DIVERGED, "reason": reason, "steps": steps, "scores": kept_scores, "curve": points}
    done = {
        "status": COMPLETED,
        "reason": f"all {steps} steps",
        "steps": steps,
        "scores": dict(scores),
        "curve": points,
    }
    return about | done
