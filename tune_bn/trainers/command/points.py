"""From a script's rows to the points of a learning curve: steps from 1 on, without a gap, each with its score."""

from __future__ import annotations

import math

from tune_bn.records.curves import Point
from tune_bn.records.score import Score
from tune_bn.trainers.command.rows import Row, RowError


class GapError(RowError):
    """An attempt went on beyond what was told of."""


class Points:
    """The curve of a run, over its attempts.

    Scripts count from 0 or from 1; the first step that a run reports tells. Between two evaluations the last score
    stands.

    Args:
        score: what the runs are scored by.
        steps: of a full run.
    """

    def __init__(self, score: Score, steps: int) -> None:
        self.score, self.steps = score, steps
        self.base: int | None = None
        self.points: list[Point] = []
        self.diverged = False
        self.inexact: str | None = None
        """Which step two attempts report differently, in words."""
        self.final: dict[str, float] = {}
        self.stopped_early = False
        self.rows = 0
        self.told = 0
        """The step that was told of last, by a row with the score or without it."""
        self._before: dict[int, float] = {}
        self._pending: dict[int, dict[str, float]] = {}
        self._last = 0
        self._stride = 1
        self._unsure = 0
        self._seen: dict[int, float] = {}

    def next_attempt(self, start: int | None) -> None:
        """Another attempt goes on after ``start`` steps; None: only the script knows after how many."""
        self._before = {point.step: point.metrics[self.score.validation] for point in self.points}
        # A checkpoint of the script's own may be of a step that it was killed before telling of.
        self._unsure = len(self.points) if start is None else 0
        if start is not None:
            del self.points[start:]
            self.told = start
        self._pending, self._seen = {}, {}
        self._last = 0
        self.final, self.stopped_early = {}, False

    @property
    def idle(self) -> bool:
        """Whether the present attempt has told of no step."""
        return self._last == 0

    def evaluations(self, steps: int) -> int:
        """At how many of the first ``steps`` steps of the present attempt the score was reported."""
        return sum(done <= steps for done in self._seen)

    def take(self, row: Row, *, may_test: bool) -> None:
        """A row of the present attempt.

        Raises:
            RowError: it contradicts another, or tells the test score where the test set is sealed.
        """
        if self.score.test in row.metrics and not (may_test and row.step is None):
            raise RowError(
                f"it reports {self.score.test!r}, the test score, "
                + (f"at step {row.step}" if row.step is not None else "at its end")
                + "; accepted: a test score from the test command alone, or by finish() where run.wants_test says so: "
                "this run has seen the test set and is invalid"
            )
        self.rows += 1
        if self.diverged:
            return  # What comes after is of no run.
        if row.step is None:
            self.final |= row.metrics
            self.stopped_early = self.stopped_early or row.stopped_early
            return
        if self.base is None:
            self.base = min(row.step, 1)
        done = row.step + 1 - self.base
        if done < self._last:
            raise RowError(f"step {row.step} was reported after step {self._last - 1 + self.base}")
        if done > self.steps + 1 - self.base:
            last = self.steps - 1 + self.base
            raise RowError(
                f"step {row.step} was reported; accepted: at most {last}, as trainer.steps: {self.steps} says"
            )
        self._last = done
        done = self.told = min(done, self.steps)
        value = row.metrics.get(self.score.validation)
        if value is None:
            self._pending.setdefault(done, {}).update(row.metrics)
            return
        if done in self._seen and row.step + 1 - self.base <= self.steps:
            if self._seen[done] != value and not (math.isnan(value) and math.isnan(self._seen[done])):
                raise RowError(
                    f"step {row.step} was reported twice, with {self.score.validation} {self._seen[done]:.6g} and then "
                    f"{value:.6g}"
                )
            return
        if not self._before:
            self._stride = max(self._stride, done - max(self._seen, default=0))
        self._seen[done] = value
        self._add(done, value, row.metrics)

    def _add(self, done: int, value: float, metrics: dict[str, float]) -> None:
        before = self._before.get(done)
        if before is not None and before != value and self.inexact is None:
            self.inexact = f"step {done} gave {before:.9g} in one attempt and {value:.9g} in another"
        if not math.isfinite(value):
            self.diverged = True
        elif not self.score.holds(value):
            raise RowError(f"{self.score.validation} is {value:.6g}; accepted: {self.score.range_words}")
        if done <= len(self.points):
            # The script has gone on from an earlier step than the last one that was known.
            del self.points[done - 1 :]
        elif self._unsure and len(self.points) <= self._unsure and done - len(self.points) > self._stride:
            raise GapError(f"it went on at step {done}, but the steps after {len(self.points)} are missing")
        name = self.score.validation
        while len(self.points) < done - 1:
            step = len(self.points) + 1
            held = self.points[-1].metrics[name] if self.points else value
            if not math.isfinite(held):
                held = 0.0
            self.points.append(Point(step, {**_finite(self._pending.pop(step, {})), name: held}))
        extra = {**self._pending.pop(done, {}), **metrics}
        finite = _finite(extra)
        self.points.append(Point(done, {**finite, name: value}))


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
