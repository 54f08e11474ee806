"""What may be told of a run that was asked for: its curve and its scores, and whether the same was told before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tune_bn.errors import StudyError
from tune_bn.protocols.runner import Point
from tune_bn.records.record import COMPLETED, DIVERGED, FAILED, Record
from tune_bn.records.score import Score


def checked_curve(rows: Sequence[Mapping[str, float]], score: Score, steps: int) -> tuple[Point, ...]:
    """The rows of a curve, in at most so many steps. Raises :class:`StudyError`."""
    points = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping) or row.get("step") != number:
            got = row.get("step") if isinstance(row, Mapping) else row
            raise StudyError(f"curve: row {number} has the step {got!r}; accepted: steps from 1 on, each once")
        metrics = {name: value for name, value in row.items() if name != "step"}
        for name, value in metrics.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise StudyError(f"curve: step {number}: {name}: got {value!r}; accepted: a number")
        if score.validation not in metrics:
            raise StudyError(f"curve: step {number}: no {score.validation}; accepted: it in every row")
        if score.test in metrics:
            accepted = "it at the end of a confirmed run alone"
            raise StudyError(f"curve: step {number}: got {score.test}; accepted: {accepted}")
        if not math.isfinite(metrics[score.validation]) and number < len(rows):
            raise StudyError(f"curve: step {number}: {score.validation} is not finite; accepted: it as the last row")
        value = metrics[score.validation]
        if math.isfinite(value) and not score.holds(value):
            raise StudyError(f"curve: step {number}: {score.validation}: got {value}; accepted: {score.range_words}")
        points.append(Point(number, {name: float(value) for name, value in metrics.items()}))
    if len(points) > steps:
        raise StudyError(f"curve: got {len(points)} rows; accepted: at most {steps}, the steps of a run")
    return tuple(points)


def told_by(record: Record) -> dict[str, Any]:
    """What was told of a run, as far as its record has it."""
    return {"status": record.status, "reason": record.reason, "scores": dict(record.scores)}


def same_answer(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the same is told of a run again."""
    alike = before["status"] == now["status"] and dict(before["scores"]) == dict(now["scores"])
    return alike and (before["status"] != FAILED or before["reason"] == now["reason"])


def answer_words(told: Mapping[str, Any]) -> str:
    """What was told in a few words: ``val_loss=0.4``, ``diverged`` or ``failed (…)``."""
    if told["status"] == COMPLETED:
        return ", ".join(f"{name}={value:g}" for name, value in told["scores"].items())
    return "diverged" if told["status"] == DIVERGED else f"failed ({told['reason']})"


def checked_scores(
    score: Score, run: str, scores: dict[str, float], points: tuple[Point, ...], test: str | None
) -> dict[str, float]:
    """The scores of a run that did not fail.

    Args:
        score: of the study.
        run: its key.
        scores: as they were told.
        points: its curve.
        test: the test score that it was asked for.

    Raises:
        StudyError: one is missing, strange or impossible.
    """
    known = f"accepted: {score.validation}" + (f" and {test}" if test else "")
    for name, value in scores.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float):
            raise StudyError(f"{run}: {name}: got {value!r}; accepted: a number")
    if test is None and score.test in scores:
        raise StudyError(
            f"{run}: got {score.test}, which was not asked for: the confirmation alone may look at the test data; "
            f"{known}"
        )
    if points and all(score.validation in point.metrics for point in points):
        found = score.objective(score.objectives([point[score.validation] for point in points])[-1])
        stated = scores.setdefault(score.validation, found)
        if math.isfinite(found) and not math.isclose(stated, found, rel_tol=1e-6, abs_tol=1e-9):
            raise StudyError(
                f"{run}: {score.validation}: got {stated}, but its curve says {found} ({score.at_words}); "
                "accepted: one of the two"
            )
    if score.validation not in scores:
        raise StudyError(f"{run}: no {score.validation}; {known}, or --failed with a reason")
    diverged = not math.isfinite(scores[score.validation])
    if test is not None and test not in scores and not diverged:
        raise StudyError(f"{run}: no {test}, for which it was asked; {known}")
    for name in () if diverged else (score.validation, *([test] if test else [])):
        if not score.holds(scores[name]):
            raise StudyError(f"{run}: {name}: got {scores[name]}; accepted: {score.range_words}")
    return {name: float(value) for name, value in scores.items() if math.isfinite(value) or name == score.validation}
