"""Runs that are cut and gone on with, as a check tries them: by a stop, by SIGTERM, by SIGKILL."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tune_bn.protocols.trainer import PreemptedError, Run
from tune_bn.trainers.command.run import ScriptRun
from tune_bn.trainers.short_runs import ShortRuns, StuckError

STOP, TERM, KILL = "a stop", "SIGTERM", "SIGKILL"
Told = list[tuple[float | None, ...]]


@dataclass
class Cuts:
    """What became of the runs that were cut."""

    told: list[str] = field(default_factory=list)
    """Of each cut: where it was, and from where it went on."""
    wrong: list[str] = field(default_factory=list)
    through: list[str] = field(default_factory=list)
    """The ways that came too late."""


class CutRuns:
    """Cuts runs of the baseline, and compares them with one that was not.

    Args:
        runs: starts them.
        config, seed: of each.
        results: the metrics that are compared beside the score.
        whole: the curve of so many steps of a run that was never cut.
        differ: where two curves part, in words.
    """

    def __init__(
        self,
        runs: ShortRuns,
        config: Mapping[str, Any],
        seed: int,
        results: Sequence[str],
        whole: Callable[[int], Told],
        differ: Callable[[Told, Told], str],
    ) -> None:
        self.runs, self.config, self.seed, self.results = runs, config, seed, results
        self.whole, self.differ = whole, differ
        self.total = runs.trainer.steps(runs.space.run_config(config))

    def cut(self, ways: Sequence[str]) -> Cuts:
        """All ways in one run, one after the other; each in a run of its own where that is not exact, so that it can be
        said which it was."""
        if len(ways) > 1 and self.runs.steps > len(ways):
            found = Cuts()
            with suppress(StuckError, PreemptedError):
                self._cut_one(ways, found)
                if not found.wrong and not found.through:
                    return found
        found = Cuts()
        for way in ways:
            self._cut_one([way], found)
        return found

    def _cut_one(self, ways: Sequence[str], found: Cuts) -> None:
        name, state, cut, tried = self.runs.name(), None, 0, list[str]()
        at = 1 if len(ways) > 1 else 2
        for way in ways:
            step = max(at, cut + 1)
            run = self.runs.start(self.config, self.seed, name, state, hold=step)
            try:
                self._begun(run, found, cut, tried)
                self.runs.go(run, step)
                state = self.runs.kept(run)
                if way != STOP and not self._send(way, run):
                    return  # a function of this process
            finally:
                run.close()
            cut = run.reported if isinstance(run, ScriptRun) else run.steps
            if cut >= self.total:
                found.through.append(way)
                return
            tried.append(way)
        # A script that was ahead is compared beyond the step at which it was cut.
        target = max(self.runs.steps, min(self.total, cut + at))
        again = self.runs.start(self.config, self.seed, name, state)
        try:
            self._begun(again, found, cut, tried)
            self.runs.go(again, target)
            values = self.runs.told(again, self.results, target)
            inexact = again.points.inexact if isinstance(again, ScriptRun) else None
        finally:
            again.close()
        expected = self.whole(target)
        if values != expected or inexact is not None:
            found.wrong.append(
                f"after {' and '.join(tried)} it goes on otherwise: {inexact or self.differ(expected, values)}"
            )

    def _begun(self, run: Run, found: Cuts, cut: int, tried: Sequence[str]) -> None:
        """Note from where it went on after the last cut."""
        if not tried:
            return
        known = isinstance(run, ScriptRun) and run.goes_on
        place = f"from step {run.steps}" if run.steps else "from its checkpoint" if known else "from the beginning"
        found.told.append(f"after {tried[-1]} at step {cut} {place}")

    @staticmethod
    def _send(way: str, run: Run) -> bool:
        """Whether there was a process to end."""
        if not isinstance(run, ScriptRun) or not run.leader:
            return False
        with suppress(OSError):
            os.kill(run.leader, signal.SIGTERM if way == TERM else signal.SIGKILL)
        run.wait_for_end()
        return True


def ways_of(scripts: bool) -> Iterable[str]:
    """Ways to end a run. Of a trainer that starts no scripts nobody knows the processes."""
    return (STOP, TERM, KILL) if scripts else (STOP,)
