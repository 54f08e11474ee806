"""What a run is judged by: the names of its scores, which way is better, their range, and how they are written.

The trainer of a study declares it, the plan keeps it, and whoever reads a study's folder has it from there. Everything
that chooses between runs compares :meth:`Score.objective`, of which higher is better whatever the goal is; everything
that is shown to people is the score itself. Nothing but the standard library.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

from tune_bn.errors import ConfigError, RecordError
from tune_bn.records.files import read_bytes, write_json, writing

MAX, MIN = "max", "min"
GOALS = (MAX, MIN)
BEST, LAST = "best", "last"
MEAN_LAST = re.compile(r"mean_last\(([1-9][0-9]{0,5})\)")
"""``mean_last(k)``: the mean of the last k steps."""
LARGEST_RECORDED = 1e150
"""No score lies beyond it: differences of scores and their squares must be numbers still."""
SCORE_FILE = "score.json"

PERCENT = "%"


@dataclass(frozen=True)
class Score:
    """The score of a study's runs.

    Raises:
        ConfigError: a value is not acceptable.
    """

    validation: str
    """Name of the validation score: of a metric of every step, and of what a record keeps of it (see ``at``)."""
    test: str
    """Name of the score that the confirmation compares."""
    goal: str
    """``max`` or ``min``: which way is better."""
    low: float | None = None
    """The least value that the scores can have; None: there is none."""
    high: float | None = None
    """The largest value."""
    unit: str = ""
    """``%``, or what is written behind a value; empty: nothing."""
    at: str = BEST
    """What of a curve is a run's validation score: ``best``, ``last`` or ``mean_last(k)`` steps."""
    diverged: float | None = None
    """What a run scores, in validation and test, whose score was not finite; None: it has no score then. It counts as
    worse than every other while candidates are chosen, and in the confirmation the verdict is invalid."""
    decimals: int | None = None
    """Decimals of a printed value; None: 2 of a percentage, else as many as a value takes for 4 digits."""
    step: str = "epoch"
    """What a step of its curve is called."""

    def __post_init__(self) -> None:
        for key in ("validation", "test"):
            if not getattr(self, key):
                raise ConfigError(key, getattr(self, key), "a name")
        if self.goal not in GOALS:
            raise ConfigError("goal", self.goal, " | ".join(GOALS))
        if self.at not in (BEST, LAST) and not MEAN_LAST.fullmatch(self.at):
            raise ConfigError("at", self.at, "best | last | mean_last(K)")
        ends = [
            -LARGEST_RECORDED if self.low is None else self.low,
            LARGEST_RECORDED if self.high is None else self.high,
        ]
        if not -LARGEST_RECORDED <= ends[0] < ends[1] <= LARGEST_RECORDED:
            raise ConfigError("range", [self.low, self.high], "two numbers that increase; null: without an end")
        if self.diverged is not None and not self.holds(self.diverged):
            raise ConfigError("diverged", self.diverged, f"{self.range_words}, or null")

    @property
    def higher_is_better(self) -> bool:
        """Whether the goal is ``max``."""
        return self.goal == MAX

    def objective(self, value: float) -> float:
        """The score turned such that higher is better. Its own inverse: an objective becomes a score again."""
        return value if self.goal == MAX else -value

    @property
    def worst(self) -> float:
        """The objective of a run that diverged; below all others where it has no score."""
        return -LARGEST_RECORDED if self.diverged is None else self.objective(self.diverged)

    def holds(self, value: Any) -> bool:
        """Whether a value is a number within the range."""
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and -LARGEST_RECORDED <= value <= LARGEST_RECORDED
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
        )

    def objectives(self, values: Sequence[float], *, diverged: bool = False) -> list[float]:
        """The objective of a run after each of its steps.

        Args:
            values: of the validation score by step, from the first on.
            diverged: the run diverged in its last step.
        """
        found = [self.objective(value) for value in values]
        if self.at == BEST:
            found = list(accumulate(found, _better))
        elif window := MEAN_LAST.fullmatch(self.at):
            k = int(window[1])
            found = [fmean(found[max(0, end - k) : end]) for end in range(1, len(found) + 1)]
        if diverged and found:
            found[-1] = self.worst
        return found

    def objective_of(self, scores: Mapping[str, float]) -> float:
        """The objective of a run that did not fail, by what its record keeps; :attr:`worst` where it has no score."""
        value = scores.get(self.validation)
        return self.worst if value is None else self.objective(value)

    def has(self, scores: Mapping[str, float]) -> bool:
        """Whether a record keeps the validation score; that of a run that diverged may not."""
        return self.validation in scores

    @property
    def words(self) -> str:
        """``val_accuracy`` as ``validation accuracy``."""
        return f"{self.validation.replace('_', ' ')} ".replace("val ", "validation ", 1).strip()

    @property
    def at_words(self) -> str:
        """What of a curve the validation score is: ``best epoch``, ``mean of the last 5 epochs``."""
        window = MEAN_LAST.fullmatch(self.at)
        return f"{self.at} {self.step}" if window is None else f"mean of the last {window[1]} {self.step}s"

    @property
    def range_words(self) -> str:
        """``a number from 0 to 100``."""
        if self.low is None and self.high is None:
            return "a finite number"
        if self.low is None or self.high is None:
            return f"a number ≤ {self.high:g}" if self.low is None else f"a number ≥ {self.low:g}"
        return f"a number from {self.low:g} to {self.high:g}"

    def value_words(self, value: float) -> str:
        """``97.16 %``, or ``0.4031`` of a score without a unit."""
        return f"{self.number_words(value)} {self.unit}" if self.unit else self.number_words(value)

    def number_words(self, value: float) -> str:
        """The value without its unit."""
        return f"{value:.{self.decimals_of(value)}f}" if math.isfinite(value) else str(value)

    def decimals_of(self, value: float) -> int:
        """How many decimals a value is printed with."""
        if self.decimals is not None:
            return self.decimals
        if self.unit == PERCENT:
            return 2
        size = abs(value)
        return 4 if not 0 < size < math.inf else min(12, max(0, 3 - math.floor(math.log10(size))))

    @property
    def difference_unit(self) -> str:
        """The unit of a difference: percentage points of percentages."""
        return "pp" if self.unit == PERCENT else self.unit

    @property
    def difference_unit_words(self) -> str:
        """The same, written out."""
        return "percentage points" if self.unit == PERCENT else self.unit

    @property
    def axis_words(self) -> str:
        """``validation accuracy, %``, for an axis."""
        return f"{self.words}, {self.unit}" if self.unit else self.words

    def to_json(self) -> dict[str, Any]:
        """As a plan keeps it."""
        return {
            "validation": self.validation,
            "test": self.test,
            "goal": self.goal,
            "range": [self.low, self.high],
            "unit": self.unit,
            "at": self.at,
            "diverged": self.diverged,
            "decimals": self.decimals,
            "step": self.step,
        }


def _better(best: float, value: float) -> float:
    # A value that is not finite is no best one.
    return value if value > best else best


def read_score(folder: Path) -> Score:
    """The score of the study in a folder: as its ``score.json`` has it, and accuracy where there is none, as in studies
    from before there were others.

    Raises:
        RecordError: the file cannot be read, or holds no score.
    """
    path = folder / SCORE_FILE
    accepted = "the file as the study wrote it"
    try:
        return score_from(json.loads(read_bytes(path)))
    except FileNotFoundError:
        return accuracy()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); accepted: {accepted}") from None
    except (ConfigError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a score ({error}); accepted: {accepted}") from None


def write_score(folder: Path, score: Score) -> None:
    """Write ``score.json`` where it does not say so already. Raises ``StudyError``."""
    path = folder / SCORE_FILE
    with suppress(RecordError):
        if path.exists() and read_score(folder) == score:
            return
    with writing(path):
        write_json(path, score.to_json())


def accuracy(test: str = "test_accuracy", diverged: float | None = None) -> Score:
    """The score of studies from before there were others: accuracy in percent, of the best epoch."""
    return Score("val_accuracy", test, MAX, 0.0, 100.0, PERCENT, BEST, diverged)


def score_problem(content: Any) -> str | None:
    """What is wrong with the JSON of a score, as ``key: got …; accepted: …``; None where nothing is."""
    try:
        score_from(content)
    except ConfigError as error:
        return str(error)
    return None


def score_from(content: Any) -> Score:
    """The inverse of :meth:`Score.to_json`. Raises :class:`ConfigError` where it is none."""
    keys = accuracy().to_json()
    if not isinstance(content, Mapping) or set(content) != set(keys):
        raise ConfigError("score", content, f"an object with exactly the keys {', '.join(keys)}")
    for key in ("validation", "test", "goal", "unit", "at", "step"):
        if not isinstance(content[key], str):
            raise ConfigError(key, content[key], "text")
    ends = content["range"]
    if not isinstance(ends, Sequence) or isinstance(ends, str) or len(ends) != 2:
        raise ConfigError("range", ends, "two numbers or null")
    for key, value in (("range", ends[0]), ("range", ends[1]), ("diverged", content["diverged"])):
        if value is not None and type(value) not in (int, float):
            raise ConfigError(key, value, "a number or null")
    decimals = content["decimals"]
    if decimals is not None and not (type(decimals) is int and 0 <= decimals <= 12):
        raise ConfigError("decimals", decimals, "an integer from 0 to 12, or null")
    low, high = ends
    named = {key: content[key] for key in ("validation", "test", "goal", "unit", "at", "diverged", "decimals", "step")}
    return Score(low=low, high=high, **named)
