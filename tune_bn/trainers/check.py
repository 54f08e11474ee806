"""``tune_bn check``: a few short runs against the ways to a wrong verdict.

Nothing here knows more of a trainer than its port tells, but of scripts, whose folders say what they opened, which
keys they asked for, and what the package did in them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tune_bn.errors import listed
from tune_bn.protocols.trainer import Place, PreemptedError, Trainer
from tune_bn.protocols.trainers import BUILTIN
from tune_bn.script.folder import ATTEMPT_VARIABLE
from tune_bn.space.space import Space
from tune_bn.trainers.checked import OK, UNKNOWN, WRONG, Checked, Finding, nuisance_middles
from tune_bn.trainers.command import keeper
from tune_bn.trainers.command.run import ScriptRun
from tune_bn.trainers.command.seal import SealedRun, TestError
from tune_bn.trainers.command.settings import SealedTest
from tune_bn.trainers.command.trainer import CommandSession, CommandTrainer
from tune_bn.trainers.cut_runs import CutRuns, ways_of
from tune_bn.trainers.neighbours import is_accepted, with_other_value
from tune_bn.trainers.opened_files import copies, files_below, is_own, loaded_modules, not_frozen
from tune_bn.trainers.short_runs import Short, ShortRuns, StuckError, alike, results_of, spread_of, too_coarse


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
        self.space, self.trainer, self.place, self._say = space, trainer, place, say
        self.checked = Checked()
        self.base = {**nuisance_middles(space), **space.baseline}
        keys = [*space.search] or sorted(space.scientific & {key for arm in space.claim.arms.values() for key in arm})
        self.keys = {key: config for key in keys if (config := with_other_value(space, self.base, key)) is not None}
        """The keys that are tried, each with a configuration in which it alone is another."""
        arms = [space.arm_config(name) for name in space.claim.arms]
        others = [*self.keys.values(), *(config for config in arms if is_accepted(space, config))]
        self.candidate = next((config for config in others if config != self.base), self.base)
        self._moved: dict[str, Short] = {}
        self.runs = ShortRuns(space, trainer, place, folder.absolute(), self.base)
        # A function has a current folder of its own.
        self.runs.log = None if log is None else log.absolute()

    def run(self) -> Checked:
        """All of it."""
        shutil.rmtree(self.runs.folder, ignore_errors=True)
        try:
            self._commands()
            try:
                first = self.runs.short(self.base, self._seed("search"))
            except (StuckError, PreemptedError) as error:
                self._found("it trains", WRONG, str(error))
                return self.checked
            self._costs(first)
            self._frozen(first)
            self._found("it trains", OK, f"{len(first.values)} steps of {self.trainer.score.validation}")
            for trap in (self._sealed, self._seeds, self._effects, self._resumes, self._apart, self._tests):
                try:
                    trap(first)
                except (StuckError, PreemptedError) as error:
                    self._found(_NAMES[trap.__name__], WRONG, str(error))
            return self.checked
        finally:
            self.runs.session.close()
            shutil.rmtree(self.runs.folder, ignore_errors=True)

    def _found(self, trap: str, verdict: str, words: str) -> None:
        finding = Finding(trap, verdict, words)
        self.checked.findings.append(finding)
        self._say(finding)

    def _seed(self, stage: str) -> int:
        return int(min(getattr(self.space.seeds, stage)))

    # The traps

    def _frozen(self, first: Short) -> None:
        """What runs is the frozen code: what is not could be edited while a study goes on, and is on no other node."""
        if not isinstance(self.trainer, CommandTrainer):
            return
        settings, code = self.trainer.settings, self.trainer.frozen
        reads = loaded_modules() if settings.function and not settings.isolate else first.reads
        if found := not_frozen(reads, code, [self.runs.folder]):
            more = f" and {len(found) - 1} more" * (len(found) > 1)
            words = (
                f"it runs {found[0]}{more} from {code.origin}, and no frozen copy of it; accepted: trainer.code that "
                "holds it, found by a path that begins in the current folder, such as trainer.env: {PYTHONPATH: src}"
            )
            self._found("the code is frozen", WRONG, words)

    def _sealed(self, first: Short) -> None:
        """1. The validation score is the test set."""
        trap = _NAMES["_sealed"]
        score = self.trainer.score
        if not isinstance(self.trainer, CommandTrainer):
            self._sealed_by_its_session(trap)
            return
        sealed = self.trainer.sealed
        if sealed is None or sealed.data is None:
            self._found(trap, UNKNOWN, "trainer.data.test does not say where the test data is: its seal is your word")
            return
        if not first.reads:
            self._found(trap, UNKNOWN, "no Python of it told which files it opens: its seal is your word")
            return
        test = files_below(Path(sealed.data))
        met = sorted(place for place in first.reads if place in test)
        if not met:
            met = [f"{place}, which equals {other}" for place, other in copies(first.reads, test)]
        if met:
            self._found(
                trap, WRONG, f"training reads test data: {met[0]}" + f" and {len(met) - 1} more" * (len(met) > 1)
            )
            return
        words = "; the script itself reports" if not sealed.command else "; the test command gives"
        self._found(trap, OK, f"none of {len(first.reads)} files that training opens is test data{words} {score.test}")

    def _sealed_by_its_session(self, trap: str) -> None:
        """What the port of a trainer promises: without the part that is the test's there is no test score."""
        test = self.trainer.score.test
        try:
            self.runs.session.start(
                self.space.run_config(self.base), self._seed("search"), test=test, name=self.runs.name()
            ).close()
        except ValueError:
            if self.trainer.name == BUILTIN:
                words = "the built-in loop is not given the test images before the confirmation"
                self._found(trap, OK, words)
                return
            words = f"a worker without the test part finds no {test}; what else training reads is the package's word"
            self._found(trap, UNKNOWN, words)
            return
        self._found(trap, WRONG, f"a run that is to find {test} begins in a worker without the test part")

    def _seeds(self, first: Short) -> None:
        """2. The seed does nothing, or not all."""
        trap = _NAMES["_seeds"]
        again = self._again(first)
        others = {stage: self.runs.short(self.base, self._seed(stage)) for stage in ("select", "confirm")}
        if again.values != first.values:
            self._found(trap, WRONG, f"the same seed twice gives {self._differ(first.told(()), again.told(()))}")
            return
        self._results = results_of(first, again, others.values())
        self._spread = spread_of(first, others.values(), self._results)
        for stage, other in others.items():
            if alike(first, other, self._results):
                seeds = f"{self._seed('search')} and {self._seed(stage)}"
                why = self._too_coarse(first) or "the seed does nothing"
                self._found(trap, WRONG, f"seeds {seeds} give the same scores: {why}")
                return
        self._found(trap, OK, f"one seed twice is equal bit for bit; others differ {self._spread}")

    def _again(self, first: Short) -> Short:
        """The baseline's run a second time: beside another, which answers for the last trap too where it is equal
        in all that it tells."""
        if self._may_be_two:
            try:
                self._pair = self.runs.pair((self.base, self.candidate), self._seed("search"))
            except (StuckError, PreemptedError) as error:
                self._pair = error
            else:
                if self._pair[0].rows == first.rows:
                    return self._pair[0]
        return self.runs.short(self.base, self._seed("search"))

    @property
    def _may_be_two(self) -> bool:
        """A worker calls a function once at a time."""
        session = self.runs.session
        return not isinstance(session, CommandSession) or not session.trainer.settings.function

    _spread = "in nothing"
    _results: Sequence[str] = ()
    _pair: Sequence[Short] | Exception | None = None

    def _too_coarse(self, first: Short) -> str:
        if not too_coarse(first, self._results):
            return ""
        name = self.trainer.score.validation
        values = listed([f"{value:.6g}" for value in dict.fromkeys(first.values)])
        return (
            f"{name} was {values} in all {len(first.values)} steps, too coarse to tell; accepted: a finer metric "
            "reported beside it, such as the loss, or more validation data"
        )

    def _effects(self, first: Short) -> None:
        """3. A key is not in effect, or is something else."""
        trap = _NAMES["_effects"]
        wrong: list[str] = []
        coarse = ""
        for key, config in self.keys.items():
            other = self.runs.short(config, self._seed("search"))
            self._moved[str(config)] = other
            if alike(first, other, self._results):
                unasked = first.asked is not None and first.helper and key not in first.asked
                wrong.append(f"{key} changes nothing" + " and was never asked for" * unasked)
                coarse = "" if unasked else self._too_coarse(first)
            if other.evaluations != first.evaluations:
                wrong.append(
                    f"another {key} is evaluated {other.evaluations} times where the baseline is {first.evaluations} "
                    "times: arms that are evaluated at other steps draw other random numbers, and their best step is "
                    "the best of more"
                )
        if isinstance(self.trainer, CommandTrainer):
            wrong += list(self._meanings([first, *self._moved.values()]))
        wrong += [coarse] * bool(coarse)
        if wrong:
            self._found(trap, WRONG, "; ".join(wrong))
            return
        self._found(trap, OK, f"each of {', '.join(self.keys)} alone changes the scores")

    def _meanings(self, shorts: Sequence[Short]) -> Iterator[str]:
        """Whether what is called gamma and c is what the claim takes it for."""
        section = self.space.trainer
        notes = [note for short in shorts for note in short.notes]
        for key, event in (("gamma", "scale_batchnorm"), ("c", "parameter_groups")):
            if section is None or key not in self.space.search or key in section.meaning:
                continue
            if not any(note.get("event") == event for note in notes):
                yield (
                    f"{key} is searched, but the script does not call tune_bn.{event}; accepted: that call, or "
                    f"trainer.meaning.{key} that says what it is"
                )
            elif key == "c" and not any(note.get("event") == "learns" for note in notes):
                yield "no optimizer steps with the groups of tune_bn.parameter_groups"

    def _resumes(self, first: Short) -> None:
        """4. A run that was cut counts as a whole one, or goes on otherwise than it was."""
        trap = _NAMES["_resumes"]
        if self.runs.steps < 3:
            self._found(trap, UNKNOWN, f"a run has {self.runs.steps} steps")
            return
        whole = {self.runs.steps: first}

        def uncut(steps: int) -> list[tuple[float | None, ...]]:
            if steps not in whole:
                whole[steps] = self.runs.short(self.base, self._seed("search"), steps)
            return whole[steps].told(self._results)

        settings = self.trainer.settings if isinstance(self.trainer, CommandTrainer) else None
        scripts = settings is not None and (not settings.function or settings.isolate)
        cuts = CutRuns(self.runs, self.base, self._seed("search"), self._results, uncut, self._differ)
        found = cuts.cut(tuple(ways_of(scripts)))
        if found.wrong:
            self._found(trap, WRONG, f"{'; '.join(found.wrong)} (seeds differ {self._spread})")
            return
        if found.through:
            words = f"the script was through before it could be ended by {', '.join(found.through)}"
            self._found(trap, UNKNOWN, "; ".join([words, *found.told]))
            return
        self._found(trap, OK, f"bit for bit {', '.join(found.told)}")

    def _apart(self, first: Short) -> None:
        """5. Runs touch each other, or leave something behind."""
        trap = _NAMES["_apart"]
        if not self._may_be_two:
            self._found(trap, UNKNOWN, "a worker calls a function once at a time")
            return
        if isinstance(self._pair, Exception):
            raise self._pair
        assert self._pair is not None
        other = self._moved.get(str(self.candidate)) or self.runs.short(self.candidate, self._seed("search"))
        for together, alone in zip(self._pair, (first, other), strict=True):
            values, expected = together.told(self._results), alone.told(self._results)
            if values != expected:
                self._found(trap, WRONG, f"started beside another it gives {self._differ(expected, values)}")
                return
        left = [pid for short in self._pair for mark in short.marks for pid in keeper.marked(ATTEMPT_VARIABLE, mark)]
        if left:
            self._found(trap, WRONG, f"processes {', '.join(map(str, left))} live on")
            return
        env = self.trainer.settings.env if isinstance(self.trainer, CommandTrainer) else {}
        outside = sorted(place for place in first.writes if not is_own(place, self.runs.folder, env))
        words = "two at once are each as they are alone, and nothing lives on"
        if outside:
            self._found(trap, WRONG, f"{words}, but it writes outside its run's folder: {outside[0]}")
            return
        self._found(trap, OK, words)

    def _tests(self, first: Short) -> None:
        """The test looks at the checkpoint that it is given. It is tried on the data of the search."""
        trap = _NAMES["_tests"]
        del first
        if (
            not isinstance(self.trainer, CommandTrainer)
            or self.trainer.sealed is None
            or not self.trainer.sealed.command
        ):
            return
        sealed = SealedTest(self.trainer.sealed.command, self.trainer.settings.search_data)
        found: list[float | str] = []
        for stage in ("search", "confirm", None):
            run = self.runs.start(self.base, self._seed(stage or "search"), self.runs.name())
            assert isinstance(run, ScriptRun)
            try:
                self.runs.go(run, self.runs.steps)
                run.close()
                going_on = run.files.checkpoint()
                if going_on is None:
                    self._found(trap, UNKNOWN, f"after {self.runs.steps} steps there is no whole checkpoint yet")
                    return
                path = going_on.path if stage else run.files.path / "no such checkpoint"
                test = SealedRun(
                    run.settings, sealed, run.files, values=run.values(going_on), checkpoint=path, place=self.place
                )
                while not test.poll(1.0):
                    pass
                try:
                    found.append(test.score())
                except TestError as error:
                    found.append(str(error))
            finally:
                run.close()
        one, other, none = found
        if isinstance(one, str) or isinstance(other, str):
            problem = next(text for text in (one, other) if isinstance(text, str))
            self._found(trap, UNKNOWN, f"on the data of the search it gives no score: {problem}")
        elif one == other:
            self._found(trap, WRONG, f"checkpoints of two seeds give the same score {one:.6g}")
        elif not isinstance(none, str):
            self._found(trap, WRONG, f"without a checkpoint it gives a score, {none:.6g}")
        else:
            self._found(trap, OK, "another checkpoint gives another score, and none fails")

    def _differ(self, one: Sequence[tuple[float | None, ...]], other: Sequence[tuple[float | None, ...]]) -> str:
        """Where two curves part."""
        for step, (these, those) in enumerate(zip(one, other, strict=False), start=1):
            for name, a, b in zip(("", *self._results), these, those, strict=False):
                if a != b:
                    return f"{name} {_number(b)} in place of {_number(a)} at step {step}".lstrip()
        return f"{len(other)} steps in place of {len(one)}"

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
        values = {**self.space.run_config(self.base), "seed": self._seed("search"), "steps": settings.steps}
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


_NAMES = {
    "_sealed": "1 the test set is sealed",
    "_seeds": "2 the seed decides",
    "_effects": "3 the keys are in effect",
    "_resumes": "4 a resume is exact",
    "_apart": "5 runs do not touch",
    "_tests": "  the test command",
}


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.9g}"
