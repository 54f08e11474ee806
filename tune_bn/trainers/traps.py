"""The traps of a check: each a way to a wrong verdict that its short runs try.

Nothing here knows more of a trainer than its port tells, but of scripts, whose folders say what they opened, which
keys they asked for, and what the package did in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tune_bn.errors import listed
from tune_bn.protocols.trainers import BUILTIN
from tune_bn.script.folder import ATTEMPT_VARIABLE
from tune_bn.trainers.checked import OK, UNKNOWN, WRONG
from tune_bn.trainers.command import keeper
from tune_bn.trainers.command.run import ScriptRun
from tune_bn.trainers.command.seal import SealedRun, TestError
from tune_bn.trainers.command.settings import SealedTest
from tune_bn.trainers.command.trainer import CommandSession, CommandTrainer
from tune_bn.trainers.neighbours import with_other_value
from tune_bn.trainers.opened_files import copies, files_below, is_own
from tune_bn.trainers.short_runs import Found, Short, Tried, alike, results_of


def sealed(tried: Tried, first: Short) -> Found:
    """1. The validation score is the test set."""
    if not isinstance(tried.trainer, CommandTrainer):
        return _sealed_by_its_session(tried)
    stated = tried.trainer.sealed
    if stated is None or stated.data is None:
        return UNKNOWN, "trainer.data.test does not say where the test data is: its seal is your word"
    if not first.reads:
        return UNKNOWN, "no Python of it told which files it opens: its seal is your word"
    test = files_below(Path(stated.data))
    met = sorted(place for place in first.reads if place in test)
    if not met:
        met = [f"{place}, which equals {other}" for place, other in copies(first.reads, test)]
    if met:
        return WRONG, f"training reads test data: {met[0]}" + f" and {len(met) - 1} more" * (len(met) > 1)
    words = "; the script itself reports" if not stated.command else "; the test command gives"
    return OK, f"none of {len(first.reads)} files that training opens is test data{words} {tried.trainer.score.test}"


def _sealed_by_its_session(tried: Tried) -> Found:
    """What the port of a trainer promises: without the part that is the test's there is no test score."""
    test = tried.trainer.score.test
    try:
        tried.runs.session.start(
            tried.space.run_config(tried.base), tried.seed("search"), test=test, name=tried.runs.name()
        ).close()
    except ValueError:
        if tried.trainer.name == BUILTIN:
            return OK, "the built-in loop is not given the test images before the confirmation"
        words = f"a worker without the test part finds no {test}; what else training reads is the package's word"
        return UNKNOWN, words
    return WRONG, f"a run that is to find {test} begins in a worker without the test part"


def seeds(tried: Tried, first: Short) -> Found:
    """2. The seed does nothing, or not all."""
    again = tried.runs.short(tried.base, tried.seed("search"))
    others = {stage: tried.runs.short(tried.base, tried.seed(stage)) for stage in ("select", "confirm")}
    tried.spread = max(
        abs(a - b) for other in others.values() for a, b in zip(first.values, other.values, strict=False)
    )
    if again.values != first.values:
        return WRONG, f"the same seed twice gives {tried.parted(first.told(()), again.told(()))}"
    tried.results = results_of(first, again, others.values())
    for stage, other in others.items():
        if alike(first, other, tried.results):
            why = tried.too_coarse(first) or "the seed does nothing"
            return WRONG, f"seeds {tried.seed('search')} and {tried.seed(stage)} give the same scores: {why}"
    by = f"by up to {tried.spread:.3g}" if tried.spread else f"in {listed(tried.results)}"
    return OK, f"one seed twice is equal bit for bit; others differ {by}"


def effects(tried: Tried, first: Short) -> Found:
    """3. A key is not in effect, or is something else."""
    wrong: list[str] = []
    coarse = ""
    keys = [*tried.space.search] or sorted(
        tried.space.scientific & {k for a in tried.space.claim.arms.values() for k in a}
    )
    moved: list[Short] = []
    for key in keys:
        config = with_other_value(tried.space, tried.base, key)
        if config is None:
            continue
        other = tried.runs.short(config, tried.seed("search"))
        moved.append(other)
        if alike(first, other, tried.results):
            unasked = first.asked is not None and first.helper and key not in first.asked
            wrong.append(f"{key} changes nothing" + " and was never asked for" * unasked)
            coarse = "" if unasked else tried.too_coarse(first)
        if other.evaluations != first.evaluations:
            wrong.append(
                f"another {key} is evaluated {other.evaluations} times where the baseline is {first.evaluations} "
                "times: arms that are evaluated at other steps draw other random numbers, and their best step is "
                "the best of more"
            )
    if isinstance(tried.trainer, CommandTrainer):
        wrong += list(_meanings(tried, [first, *moved]))
    wrong += [coarse] * bool(coarse)
    if wrong:
        return WRONG, "; ".join(wrong)
    return OK, f"each of {', '.join(keys)} alone changes the scores"


def _meanings(tried: Tried, shorts: Sequence[Short]) -> Iterator[str]:
    """Whether what is called gamma and c is what the claim takes it for."""
    section = tried.space.trainer
    notes = [note for short in shorts for note in short.notes]
    for key, event in (("gamma", "scale_batchnorm"), ("c", "parameter_groups")):
        if section is None or key not in tried.space.search or key in section.meaning:
            continue
        if not any(note.get("event") == event for note in notes):
            yield (
                f"{key} is searched, but the script does not call tune_bn.{event}; accepted: that call, or "
                f"trainer.meaning.{key} that says what it is"
            )
        elif key == "c" and not any(note.get("event") == "learns" for note in notes):
            yield "no optimizer steps with the groups of tune_bn.parameter_groups"


def apart(tried: Tried, first: Short) -> Found:
    """5. Runs touch each other, or leave something behind."""
    seed, names = tried.seed("search"), (tried.runs.name(), tried.runs.name())
    if isinstance(tried.runs.session, CommandSession) and tried.runs.session.trainer.settings.function:
        return UNKNOWN, "a worker calls a function once at a time"
    runs = [
        tried.runs.start(config, seed, name) for config, name in zip((tried.base, tried.candidate), names, strict=True)
    ]
    try:
        for step in range(1, tried.runs.steps + 1):
            for run in runs:
                tried.runs.go(run, step)
        together = [tried.runs.told(run, tried.results) for run in runs]
    finally:
        for run in runs:
            run.close()
    alone = [short.told(tried.results) for short in (first, tried.runs.short(tried.candidate, seed))]
    for values, expected in zip(together, alone, strict=True):
        if values != expected:
            return WRONG, f"started beside another it gives {tried.parted(expected, values)}"
    left = [
        pid
        for run in runs
        if isinstance(run, ScriptRun)
        for attempt in run.files.attempts
        for pid in keeper.marked(ATTEMPT_VARIABLE, attempt["mark"])
    ]
    if left:
        return WRONG, f"processes {', '.join(map(str, left))} live on"
    outside = sorted(place for place in first.writes if not is_own(place, tried.runs.folder))
    words = "two at once are each as they are alone, and nothing lives on"
    if outside:
        return WRONG, f"{words}, but it writes outside its run's folder: {outside[0]}"
    return OK, words


def tests(tried: Tried, first: Short) -> Found | None:
    """The test looks at the checkpoint that it is given. It is tried on the data of the search."""
    del first
    if (
        not isinstance(tried.trainer, CommandTrainer)
        or tried.trainer.sealed is None
        or not tried.trainer.sealed.command
    ):
        return None
    sealed = SealedTest(tried.trainer.sealed.command, tried.trainer.settings.search_data)
    found: list[float | str] = []
    for stage in ("search", "confirm", None):
        run = tried.runs.start(tried.base, tried.seed(stage or "search"), tried.runs.name())
        assert isinstance(run, ScriptRun)
        try:
            tried.runs.go(run, tried.runs.steps)
            run.close()
            going_on = run.files.checkpoint()
            if going_on is None:
                return UNKNOWN, f"after {tried.runs.steps} steps there is no whole checkpoint yet"
            path = going_on.path if stage else run.files.path / "no such checkpoint"
            test = SealedRun(
                run.settings, sealed, run.files, values=run.values(going_on), checkpoint=path, place=tried.place
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
        return UNKNOWN, f"on the data of the search it gives no score: {problem}"
    if one == other:
        return WRONG, f"checkpoints of two seeds give the same score {one:.6g}"
    if not isinstance(none, str):
        return WRONG, f"without a checkpoint it gives a score, {none:.6g}"
    return OK, "another checkpoint gives another score, and none fails"
