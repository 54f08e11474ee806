"""The run that a script is in: what it is asked for, and how it reports."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tune_bn.script import signals
from tune_bn.script.checkpoints import Checkpoints
from tune_bn.script.folder import (
    CHECKPOINT,
    FORMAT,
    RUN,
    RUN_VARIABLE,
    STOP,
    append_row,
    metrics_file,
    plain_number,
)
from tune_bn.script.notes import note
from tune_bn.script.ranks import agree, rank


class Params(Mapping[str, Any]):
    """The configuration by name. Which names a script asks for is noted."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        note("asked", key=name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Run:
    """One run of a study, or a stand-in for it where a script was started by hand.

    The configuration is read as attributes, ``run.gamma``, or by ``run.params["gamma"]``.
    """

    def __init__(self, params: Mapping[str, Any], seed: int, steps: int, facts: Mapping[str, Any], folder: Path | None):
        self.params = Params(params)
        self.seed = seed
        """The seed of everything that is random."""
        self.steps = steps
        """Steps (epochs) of a full run."""
        self.folder = folder
        """The run's folder; None where the script was started by hand."""
        self.start: int = int(facts.get("start") or 0)
        """Steps that lie behind the checkpoint; 0 where there is none."""
        found = facts.get("checkpoint")
        self.checkpoint: Path | None = None if found is None else Path(found)
        """Where to go on from; None: from the beginning."""
        data = facts.get("data")
        self.data: Path | None = None if data is None else Path(data)
        """Where the data of the search is, in every stage, as far as the space file says so; in a test command, where
        the test data is."""
        self.wants_test: bool = bool(facts.get("wants_test"))
        """Whether the test score is to be reported, by :meth:`finish`: in the confirmation alone, and only where no
        test command does it."""
        sealed = facts.get("test_data")
        self.test_data: Path | None = None if sealed is None else Path(sealed)
        """Where the test data is, as far as the space file says so; None unless :attr:`wants_test`."""
        self.attempt: int = int(facts.get("attempt") or 1)
        self._facts = facts
        self._saved = time.monotonic()
        self._last: int | None = None
        self._base: int | None = facts.get("first")
        self._best: float | None = None
        self._stopped = False
        self._finished = False
        self._told = False
        self._gate: Callable[[], bool] | None = None

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            params = self.__dict__["params"]
            if name in params:
                return params[name]
        raise AttributeError(f"the run has no {name!r}; it has the parameters {', '.join(self.__dict__['params'])}")

    @property
    def should_stop(self) -> bool:
        """Whether it was asked to stop. :meth:`report` says so too, and on all ranks at the same step."""
        if self.folder is None:
            return False
        return self._stopped or signals.asked() or (self.folder / STOP).exists()

    def report(self, step: int, *, save: Callable[[Path], Any] | None = None, **metrics: Any) -> bool:
        """Report a step as the last act of it, and hear whether to go on.

        Args:
            step: counts up; a full run of ``steps`` of them ends at ``steps − 1``, or at ``steps`` if the first is 1.
            save: writes a checkpoint to the path that it is given, a file or a folder; called where one is due. What
                it saves is the state after everything that this step does, evaluation included.
            metrics: numbers by name. One that is not finite is told as such.

        Returns:
            Whether to go on; where not, leave the loop. With ``torch.distributed``, call it on every rank: all
            get the first one's answer, and only the first one's numbers count.

        Raises:
            ValueError: ``step`` is no integer that is larger than the last one, or a metric is no number.
        """
        step = _step(step, self._last)
        numbers = _numbers(metrics)
        if self.folder is None:
            self._last = step
            return True
        if self._finished:
            raise ValueError("report: the run has been finished; accepted: a report before finish()")
        first = rank() == 0
        goes_on = True
        if first:
            if self._base is None:
                self._base = min(step, 1)
            score = self._facts.get("score")
            diverged = score in numbers and not math.isfinite(numbers[score])
            stop = self.should_stop
            if save is not None and not diverged:
                self._save(save, step, numbers, stop)
            if step != self._last or numbers:
                append_row(metrics_file(self.folder, self.attempt), {"step": step, **numbers})
            if self._facts.get("hold") == step + 1 - self._base:
                self._hold()
                stop = True
            if self._gate is not None:
                stop = not self._gate() or stop
            if signals.asked():
                note("terminated")
            goes_on = not (stop or diverged)
        self._last = step
        goes_on = agree(goes_on)
        self._stopped = self._stopped or not goes_on
        return goes_on

    def finish(self, *, stopped_early: bool = False, **metrics: Any) -> None:
        """Report what is known at the end alone, such as the test score where :attr:`wants_test` says so.

        Args:
            stopped_early: the script has ended before its last step on purpose, as ``ends_early`` allows.
            metrics: numbers by name.
        """
        numbers = _numbers(metrics)
        if self.folder is None or rank() != 0:
            return
        self._finished = True
        row = {"final": True, **({"stopped_early": True} if stopped_early else {}), **numbers}
        append_row(metrics_file(self.folder, self.attempt), row)

    def _hold(self) -> None:
        """Under ``tune_bn check`` a script waits here to be ended, so that it is cut at a step that is known."""
        end = time.monotonic() + 60
        while not self.should_stop and time.monotonic() < end:
            time.sleep(0.02)

    def _save(self, write: Callable[[Path], Any], step: int, numbers: Mapping[str, float], stop: bool) -> None:
        assert self.folder is not None
        done = step + 1 - (self._base or 0)
        best = self._is_best(numbers)
        keep = self._facts.get("keep")
        due = time.monotonic() - self._saved >= float(self._facts.get("save_every", 60))
        last = done >= self.steps and keep is not None
        if not (due or stop or last or (best and keep == "best")):
            return
        store = Checkpoints(self.folder / CHECKPOINT, str(self._facts.get("run", "")))
        try:
            store.save(write, step=step, done=done, attempt=self.attempt, best=best)
        # A full disk is an OSError here and a RuntimeError of torch's there; the training is worth more.
        except (OSError, RuntimeError) as error:
            note("not_saved", why=f"{type(error).__name__}: {error}"[:300])
            if not self._told:
                self._told = True
                print(f"tune_bn: no checkpoint could be written ({error}); the training goes on", file=sys.stderr)
        self._saved = time.monotonic()

    def _is_best(self, numbers: Mapping[str, float]) -> bool:
        value = numbers.get(str(self._facts.get("score")))
        if value is None or not math.isfinite(value):
            return False
        value = -value if self._facts.get("goal") == "min" else value
        if self._best is not None and value <= self._best:
            return False
        self._best = value
        return True


_current: Run | None = None


def current_run(*, seed: int = 1, steps: int = 10, data: str | None = None, **params: Any) -> Run:
    """The run that this process is in. By hand it is a stand-in with these values, whose reports go nowhere.

    Args:
        seed: the seed by hand.
        steps: the steps by hand.
        data: where the data is, by hand and where the space file does not say so.
        params: the script's parameters with the values that they have by hand. Where the study has a value it counts;
            an integer becomes a float where the default is one.

    Raises:
        ValueError: the run's folder cannot be read.
    """
    global _current
    if _current is not None:
        return _with_defaults(_current, params, data)
    folder = os.environ.get(RUN_VARIABLE)
    if not folder:
        return Run(params, seed, steps, {"data": data}, None)
    signals.listen()
    _current = open_run(Path(folder))
    return _with_defaults(_current, params, data)


def open_run(folder: Path) -> Run:
    """The run of a folder.

    Raises:
        ValueError: it cannot be read, or is of another format.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{RUN_VARIABLE}={folder}: {RUN} cannot be read ({error})") from None
    if facts.get("format") != FORMAT:
        raise ValueError(f"{folder / RUN}: got format {facts.get('format')!r}; accepted: {FORMAT}, of this tune_bn")
    return Run(facts["params"], facts["seed"], facts["steps"], facts, folder)


def enter(run: Run | None) -> None:
    """Make a run the current one of this process, which trains one after the other; None: there is none any more."""
    global _current
    _current = run


def _with_defaults(run: Run, params: Mapping[str, Any], data: str | None) -> Run:
    values = dict(run.params._values)
    for name, default in params.items():
        if name in values:
            note("asked", key=name)
            if isinstance(default, float) and type(values[name]) is int:
                values[name] = float(values[name])
        else:
            values[name] = default
    run.params = Params(values)
    if run.data is None and data is not None:
        run.data = Path(data)
    return run


def _step(step: Any, last: int | None) -> int:
    if hasattr(step, "item"):
        step = step.item()
    if isinstance(step, bool) or not isinstance(step, int) or step < 0 or (last is not None and step < last):
        accepted = "an integer ≥ 0" if last is None else f"an integer ≥ {last}, the last step"
        raise ValueError(f"report: step: got {step!r}; accepted: {accepted}")
    return step


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    numbers = {}
    for name, value in metrics.items():
        number = plain_number(value)
        if number is None or name in ("step", "final", "stopped_early"):
            raise ValueError(f"report: {name}: got {value!r}; accepted: a number under a name of its own")
        numbers[name] = number
    return numbers
