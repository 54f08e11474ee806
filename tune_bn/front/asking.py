"""The ask/tell door: a study whose runs are trained by loops elsewhere, one call after the other.

A call takes the study's lock, opens it from its records, does one thing (hands out a run, or takes the answer), and
lets go. Stages, plan and verdict are those of every other study. Loads neither torch nor Ray nor MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tune_bn.analysis.verdict import renew_verdict
from tune_bn.errors import StudyError, listed
from tune_bn.protocols.sampler import Outcome
from tune_bn.protocols.trainer import FAILED
from tune_bn.records.identity import identity_of
from tune_bn.records.score import MAX, Score
from tune_bn.records.verdict import Verdict
from tune_bn.runners.ask.answers import answer_words, checked_curve, checked_scores, same_answer, told_by
from tune_bn.runners.ask.ledger import Entry, Ledger, Out
from tune_bn.runners.ask.runner import Advanced, AskRunner, Paused, told_of
from tune_bn.samplers.optuna.sampler import OptunaSampler
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.trainers.ask import AskTrainer, ask_trainer
from tune_bn.training.versions import commit

LEASE = 3600.0
"""Seconds after which a run that nobody told of is handed out again."""
PATIENCE = 60.0
"""Seconds that a call waits for others to let go of the study."""
RUN, WAITING, FINISHED = "run", "waiting", "finished"


@dataclass(frozen=True)
class Asked:
    """The answer to an ask; false where there is no run in it."""

    state: str
    """``run``; ``waiting``: all runs that are due are with others, and more may come; ``finished``."""
    study: str
    run: str | None = None
    """What the run is called; :func:`tell` wants it back."""
    stage: str = ""
    arm: str = ""
    trial: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    """A value for every parameter of the space."""
    seed: int = 0
    steps: int = 0
    """Of a whole run."""
    validation: str = ""
    """Name of the validation score to tell."""
    test: str | None = None
    """Name of the test score to tell; None: the test data is not to be looked at."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Where the data is, as far as the space says: ``search``, and in the confirmation ``test``."""
    attempt: int = 0
    """The first time that it is handed out is 1."""
    lease_until: str = ""
    """When it is handed out again, if nothing was told (UTC)."""
    retry_after: float | None = None
    """While ``waiting``: seconds until the first lease of others ends."""
    verdict: str | None = None
    """Once ``finished``."""
    reason: str = ""

    def __bool__(self) -> bool:
        return self.run is not None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Told:
    """The answer to a tell."""

    run: str
    again: bool = False
    """Whether the same was told before."""
    state: str = WAITING
    """``finished`` where it was the last run of the study."""
    verdict: str | None = None
    reason: str = ""
    handed_out_again: bool = False
    """Whether it failed, and is tried again."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def ask(
    folder: StudyFolder, *, lease: float = LEASE, worker: str = "", again: bool = False, clock: Any = time.time
) -> Asked:
    """The next run of a study, leased to whoever asks.

    Args:
        folder: of the study.
        lease: seconds until it is handed out again.
        worker: who asks, in their own words.
        again: runs that had failed for good are due again.
        clock: seconds since 1970.

    Raises:
        StudyError: the study is not one whose runs are asked for, or another process works on it for long.
    """
    if not 0 < lease <= 10**8:
        raise StudyError(f"--lease: got {lease:g} s; accepted: a time above 0, such as 30 min")
    with _opened(folder, clock) as door:
        if again and door.ledger.given_up:
            door.ledger.given_up.clear()
            door.ledger.save()
        elif (known := door.verdict()) is not None:
            return Asked(FINISHED, folder.name, verdict=known.verdict, reason=known.reason)
        runner = door.advance(lease=lease, worker=worker)
        if runner is None:
            verdict = conclude(folder)
            return Asked(FINISHED, folder.name, verdict=verdict.verdict, reason=verdict.reason)
        if runner.handed is None:
            return Asked(WAITING, folder.name, retry_after=door.ledger.soonest())
        key, run = runner.handed
        entry = next(entry for entry in door.ledger.entries.values() if key in entry.runs)
        return door.asked(key, run, entry)


def tell(
    folder: StudyFolder,
    run: str,
    scores: Mapping[str, float] | None = None,
    *,
    curve: Sequence[Mapping[str, float]] = (),
    failed: str | None = None,
    seconds: float | None = None,
    device: str | None = None,
    clock: Any = time.time,
) -> Told:
    """What became of a run. Telling the same again changes nothing; telling something else is refused.

    Args:
        folder: of the study.
        run: as :func:`ask` called it.
        scores: by name: the validation score, the test score where it was asked for, and whatever else is to be kept.
        curve: metrics by step, such as ``[{"step": 1, "val_acc": 0.4}, …]``; the validation score may come from it.
        failed: why it came to nothing; it is handed out again as often as ``budget.max_failures`` says.
        seconds: that it took; None: since it was handed out.
        device: on what it ran: ``cpu``, or the name of a GPU; None: a kind of device as ``resources.gpu`` of the space
            has it. The runs of a pair must be alike.
        clock: seconds since 1970.

    Raises:
        StudyError: no such run is out, a score is missing, strange or impossible, or another one was told before.
    """
    with _opened(folder, clock) as door:
        told = door.checked(run, dict(scores or {}), curve, failed, seconds, device)
        if (before := door.before(run)) is not None:
            if same_answer(before, told):
                return Told(run, again=True)
            raise StudyError(
                f"RUN: {run} was told before as {answer_words(before)}, now as {answer_words(told)}; accepted: the "
                "same again"
            )
        entry, out = door.out(run)
        reason = told["reason"] if told["status"] == FAILED else None
        if reason is not None and not out.until and out.failures[-1:] == (reason,):
            return Told(run, again=True, handed_out_again=True, reason=reason)
        tries = door.space.budget.max_failures + 1
        failures = (*out.failures, reason) if reason is not None else out.failures
        if reason is not None and len(failures) < tries:
            entry.runs[run] = Out(out.seed, out.attempts, out.began, 0.0, "", failures)
            door.ledger.save()
            return Told(run, handed_out_again=True, reason=reason)
        entry.runs[run] = Out(out.seed, out.attempts, out.began, 0.0, out.worker, failures, told)
        door.ledger.save()
        if door.advance() is not None:
            return Told(run)
        verdict = conclude(folder)
        return Told(run, state=FINISHED, verdict=verdict.verdict, reason=verdict.reason)


def renew(folder: StudyFolder, run: str, lease: float = LEASE, *, clock: Any = time.time) -> None:
    """Keep a run for so many seconds from now on.

    Raises:
        StudyError: no such run is out.
    """
    with _opened(folder, clock) as door:
        entry, out = door.out(run)
        if not out.until or out.told is not None:
            raise StudyError(f"RUN: {run} is with nobody; accepted: a run that was handed out")
        entry.runs[run] = Out(out.seed, out.attempts, out.began, clock() + lease, out.worker, out.failures)
        door.ledger.save()


class _Door:
    """A study, opened for one call; the caller holds its lock."""

    def __init__(self, folder: StudyFolder, space: Space, trainer: AskTrainer, clock: Any) -> None:
        self.folder, self.space, self.trainer, self.clock = folder, space, trainer, clock
        self.ledger = Ledger(folder.path, clock)

    @property
    def score(self) -> Score:
        return self.trainer.score

    def advance(self, *, lease: float | None = None, worker: str = "") -> AskRunner | None:
        """Do what the records and the answers allow; None: the study has nothing left to run."""
        while True:
            runner = AskRunner(self.ledger, self.trainer, self.space.run_config, lease=lease, worker=worker)
            study = Study(
                self.folder,
                self.space,
                runner=runner,
                make_sampler=lambda arm, outcomes: sampler_of(self.space, self.folder, arm, outcomes, self.score.goal),
                observer=_Nobody(),
                trainer=self.trainer,
                commit=commit(),
            )
            study.recorder.given_up = frozenset(self.ledger.given_up)
            try:
                study.run()
            except Advanced:
                continue
            except Paused:
                return runner
            return None

    def verdict(self) -> Verdict | None:
        from tune_bn.study.done import final_verdict

        return final_verdict(self.folder)

    def asked(self, key: str, run: Out, entry: Entry) -> Asked:
        task = entry.task
        places = self.trainer.places if task["test_metric"] else self.trainer.without_test().places
        return Asked(
            RUN,
            self.folder.name,
            run=key,
            stage=task["stage"],
            arm=task["arm"],
            trial=task["trial"],
            params=self.space.run_config(task["overrides"]),
            seed=run.seed,
            steps=self.trainer.course,
            validation=self.score.validation,
            test=task["test_metric"],
            data=places,
            attempt=run.attempts,
            lease_until=datetime.fromtimestamp(run.until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )

    def out(self, run: str) -> tuple[Entry, Out]:
        found = self.ledger.find(run)
        if found is None or not found[1].attempts:
            names = listed([key for key, _ in self.ledger.out()]) or "none now"
            raise StudyError(f"RUN: got {run!r}; accepted: a run that was handed out ({names})")
        return found

    def before(self, run: str) -> Mapping[str, Any] | None:
        """What was told of a run before, in this form."""
        found = self.ledger.find(run)
        if found is not None:
            return found[1].told
        record = next((one for one in reversed(self.folder.records.read()) if one.key == run), None)
        return None if record is None else told_by(record)

    def checked(
        self,
        run: str,
        scores: dict[str, float],
        curve: Sequence[Mapping[str, float]],
        failed: str | None,
        seconds: float | None,
        device: str | None,
    ) -> dict[str, Any]:
        test, began, worker = self._about(run)
        points = checked_curve(curve, self.score, self.trainer.course)
        if failed is not None and scores:
            names = listed(list(scores))
            raise StudyError(f"{run}: got scores ({names}) of a run that failed; accepted: one of the two")
        if failed is None:
            scores = checked_scores(self.score, run, scores, points, test)
        taken = max(0.0, self.clock() - began) if seconds is None else float(seconds)
        if not 0 <= taken < 10**9:
            raise StudyError(f"seconds: got {seconds}; accepted: a number ≥ 0")
        return told_of(
            self.score,
            steps=self.trainer.course,
            test=test,
            scores=scores,
            curve=points,
            failed=None if failed is None else (" ".join(failed.split())[:500] or "no reason was given"),
            seconds=round(taken, 3),
            device=device or ("cuda" if self.space.resources.gpu else "cpu"),
            worker=worker,
        )

    def _about(self, run: str) -> tuple[str | None, float, str]:
        """Test score that a run is asked for, when it began, and who has it."""
        found = self.ledger.find(run)
        if found is not None and found[1].attempts:
            began = datetime.fromisoformat(found[1].began).timestamp() if found[1].began else self.clock()
            return found[0].task["test_metric"], began, found[1].worker
        record = next((one for one in reversed(self.folder.records.read()) if one.key == run), None)
        if record is None:
            self.out(run)  # which says that there is none
            raise AssertionError
        return (self.score.test if record.stage == "confirm" else None), self.clock(), ""


@contextmanager
def _opened(folder: StudyFolder, clock: Any) -> Iterator[_Door]:
    space = folder.space()
    trainer = ask_trainer(space)
    deadline = time.monotonic() + PATIENCE
    while True:
        # Others who ask or tell hold it for a second or so.
        lock = folder.locked()
        try:
            lock.__enter__()
            break
        except StudyError:
            if not folder.is_locked or time.monotonic() > deadline:
                raise
    try:
        yield _Door(folder, space, trainer, clock)
    finally:
        lock.__exit__(None, None, None)


class _Nobody:
    """An observer for whom nothing is worth a word: who asks and tells hears the answer."""

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None


def sampler_of(
    space: Space, folder: StudyFolder, arm: str, outcomes: Mapping[int, Outcome], goal: str = MAX
) -> OptunaSampler:
    """The Optuna sampler of an arm. The baseline searches the nuisance keys alone."""
    return OptunaSampler(
        folder.journal,
        f"{identity_of(folder.path).name}/{arm}",
        space.searched_by(arm).distributions,
        name=space.sampler_of(arm),
        seed=space.sampler.seed,
        points=space.start_points(arm),
        goal=goal,
        finished=outcomes,
    )


def write_report(folder: Path) -> list[Path]:
    """See :func:`tune_bn.report.write_report`, which is loaded at its first use: it takes as long as a run."""
    from tune_bn.report import write_report

    return write_report(folder)


def conclude(folder: StudyFolder) -> Verdict:
    """Verify the study and write its report, from its folder alone."""
    verdict = renew_verdict(folder.path)
    write_report(folder.path)
    return verdict
