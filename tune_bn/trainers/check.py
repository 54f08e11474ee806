"""``tune_bn check``: a few short runs against the ways to a wrong verdict, which are :mod:`tune_bn.trainers.traps`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tune_bn.protocols.trainer import Place, PreemptedError, Trainer
from tune_bn.space.space import Space
from tune_bn.trainers import cut_runs, traps
from tune_bn.trainers.checked import OK, WRONG, Checked, Finding, nuisance_middles
from tune_bn.trainers.command.trainer import CommandTrainer
from tune_bn.trainers.neighbours import is_accepted, with_other_values
from tune_bn.trainers.short_runs import Found, Short, ShortRuns, StuckError, Tried


class Checker:
    """Tries a trainer.

    Args:
        space: what is asked.
        trainer: of the space.
        place: where its runs are trained.
        folder: for the runs; emptied before and after.
        say: hears a finding as soon as it is there.
        log: where the words of a script that failed are kept; None: nowhere.
    """

    def __init__(
        self,
        space: Space,
        trainer: Trainer,
        place: Place,
        folder: Path,
        say: Callable[[Finding], None] = lambda _: None,
        log: Path | None = None,
    ) -> None:
        if isinstance(trainer, CommandTrainer):
            # Each step can be gone on from, so that a run that is killed has something to go on from.
            trainer = replace(trainer, settings=replace(trainer.settings, save_every=1e-9))
        self.space, self.trainer, self._say = space, trainer, say
        self.checked = Checked()
        self.base = {**nuisance_middles(space), **space.baseline}
        arms = [space.arm_config(name) for name in space.claim.arms]
        moved = [with_other_values(space, self.base, space.scientific), *arms] if space.search else arms
        candidate = next((config for config in moved if is_accepted(space, config)), self.base)
        self.runs = ShortRuns(space, trainer, place, folder.absolute(), self.base)
        self.runs.log = log
        self.tried = Tried(space, trainer, place, self.base, candidate, self.runs)

    def run(self) -> Checked:
        """All of it."""
        shutil.rmtree(self.runs.folder, ignore_errors=True)
        try:
            self._commands()
            try:
                first = self.runs.short(self.base, self.tried.seed("search"))
            except (StuckError, PreemptedError) as error:
                self._found("it trains", WRONG, str(error))
                return self.checked
            self._costs(first)
            self._found("it trains", OK, f"{len(first.values)} steps of {self.trainer.score.validation}")
            for name, trap in _TRAPS.items():
                try:
                    found = trap(self.tried, first)
                except (StuckError, PreemptedError) as error:
                    found = WRONG, str(error)
                if found is not None:
                    self._found(name, *found)
            return self.checked
        finally:
            self.runs.session.close()
            shutil.rmtree(self.runs.folder, ignore_errors=True)

    def _found(self, trap: str, verdict: str, words: str) -> None:
        finding = Finding(trap, verdict, words)
        self.checked.findings.append(finding)
        self._say(finding)

    # What it costs

    def _costs(self, first: Short) -> None:
        later = max(1, len(first.values) - 1)
        self.checked.seconds_per_step = first.rest / later if len(first.values) > 1 else first.first
        self.checked.seconds_to_start = max(0.0, first.first - self.checked.seconds_per_step)

    def _commands(self) -> None:
        if not isinstance(self.trainer, CommandTrainer):
            return
        from tune_bn.trainers.command.placeholders import fill

        settings, sealed = self.trainer.settings, self.trainer.sealed
        if settings.function:
            self.checked.commands.append(f"{settings.function}(run)")
            return
        values = {**self.space.run_config(self.base), "seed": self.tried.seed("search"), "steps": settings.steps}
        run = "RUN"
        checkpoint = "RUN/checkpoint/STEP" if settings.checkpoint is None else f"RUN/work/{settings.checkpoint}"
        told = {**values, "run": run, "checkpoint": checkpoint, "data": settings.search_data or ""}
        lines = [("search", settings.command, told)]
        if settings.resume:
            lines.append(("resume", (*settings.command, *settings.resume), told))
        if sealed is not None and sealed.command:
            lines.append(("test", sealed.command, {**told, "data": sealed.data or ""}))
        self.checked.commands += [
            f"{name:<7} {' '.join(fill(word, given) for word in words)}" for name, words, given in lines
        ]


_TRAPS: Mapping[str, Callable[[Tried, Short], Found | None]] = {
    "1 the test set is sealed": traps.sealed,
    "2 the seed decides": traps.seeds,
    "3 the keys are in effect": traps.effects,
    "4 a resume is exact": cut_runs.resumes,
    "5 runs do not touch": traps.apart,
    "  the test command": traps.tests,
}
"""In this order: from the second on each knows by what two seeds differ."""
