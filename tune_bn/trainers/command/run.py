"""One run of a script: its attempts, its curve, what became of it, and the test on what it has trained."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tune_bn.protocols.trainer import Place, PreemptedError, RunResult
from tune_bn.records.curves import Point
from tune_bn.records.diagnostics import Diagnostics
from tune_bn.records.record import COMPLETED, DIVERGED
from tune_bn.records.times import utc_now
from tune_bn.trainers.command import outcome
from tune_bn.trainers.command.assignment import Assignment
from tune_bn.trainers.command.attempt import Attempt, begin
from tune_bn.trainers.command.code import FrozenCode
from tune_bn.trainers.command.folder import GoOn, RunFolder
from tune_bn.trainers.command.points import GapError, Points
from tune_bn.trainers.command.process import End, Process
from tune_bn.trainers.command.rows import HelperRows, RowError
from tune_bn.trainers.command.seal import SealedRun, TestError
from tune_bn.trainers.command.settings import ANY, EXACT, RESTART, CommandSettings, SealedTest, tap_on_files
from tune_bn.trainers.command.taps import Rows, tap_rows

ADVANCE_SECONDS = 0.5
"""Longest wait for a step before the worker may hear whether to stop."""
POLL_SECONDS = 0.02
LINGER_SECONDS = 300.0
"""Least time that a script has to end after its last step, be it to write a model or to test it."""
IDLE_ATTEMPTS = 3
"""Attempts in a row that ask to be started again without a step in between, after which the run fails."""
FRESH = "fresh"
"""A file in the run's folder: the next attempt begins at the beginning."""


class RunError(Exception):
    """A run failed; the first line says why."""


class ScriptRun:
    """A :class:`tune_bn.protocols.trainer.Run` of a command or a function."""

    def __init__(
        self,
        settings: CommandSettings,
        code: FrozenCode,
        params: Mapping[str, Any],
        seed: int,
        *,
        folder: Path,
        run: str,
        sealed: SealedTest | None,
        place: Place,
        versions: Mapping[str, str],
        alone: bool = True,
        audit: Path | None = None,
        hold: int | None = None,
    ) -> None:
        self.settings, self.code, self._seed = settings, code, seed
        self.sealed, self.place, self.versions = sealed, place, versions
        self.assignment = Assignment(settings, params, seed, sealed)
        self.alone, self.audit, self.hold = alone, audit, hold
        self.files = RunFolder(folder, run, settings, code)
        self.points = Points(settings.score, settings.steps)
        self._delivered = 0
        self._done = False
        self._began = time.monotonic()
        self._started_at = utc_now()
        self._last_step_at: float | None = None
        self._test: SealedRun | None = None
        self._scores: dict[str, float] = {}
        self._attempt: Attempt | None = None
        if left := self.files.end_earlier():
            raise RunError(f"processes {', '.join(map(str, left))} of an earlier attempt cannot be killed")
        self._launch()

    # What it is asked for

    def _launch(self) -> None:
        files, settings = self.files, self.settings
        if not (files.path / FRESH).exists():
            self._replay()
        going_on = self._checkpoint()
        self.goes_on = going_on is not None
        """Whether it goes on from a checkpoint."""
        if going_on is None:
            files.fresh()
            self.points.next_attempt(0)
        else:
            self.points.next_attempt(going_on.done)
        (files.path / FRESH).unlink(missing_ok=True)
        self._delivered = len(self.points.points) if going_on is not None and going_on.done is not None else 0
        number = len(files.attempts) + 1
        mark = os.urandom(8).hex()
        facts = self.assignment.facts(number, going_on, first=self.points.base, hold=self.hold)
        values = self.values(going_on)
        files.fill_files(files.work, values)
        files.begin(number, mark, facts)
        since = files.attempts[-1]["at"]
        self._rows: Rows = self._rows_of(number, since)
        self._number = number
        self._attempt = begin(
            settings, self.code, files, self.place, values, going_on, mark=mark, alone=self.alone, audit=self.audit
        )

    def values(self, going_on: GoOn | None = None) -> dict[str, Any]:
        """What placeholders stand for."""
        return self.assignment.values(self.files.path, going_on)

    def _checkpoint(self) -> GoOn | None:
        confirming = self.sealed is not None
        if not self.files.attempts or (self.files.path / FRESH).exists():
            return None
        if confirming and self.settings.confirm_resume == RESTART:
            return None
        if self.settings.checkpoint is not None and not self.settings.resume:
            return None  # nothing tells the script to go on from it
        return self.files.checkpoint(told=self.points.told)

    def _rows_of(self, number: int, since: float) -> Rows:
        tap = tap_on_files(self.settings.metrics)
        return HelperRows(self.files.metrics(number)) if tap is None else tap_rows(tap, self.files.work, since)

    def _replay(self) -> None:
        """The points of earlier attempts. A tap's files tell of themselves; what was known of them is gone."""
        if (tap := tap_on_files(self.settings.metrics)) is not None:
            self._take(tap_rows(tap, self.files.work, 0.0), last=True, replay=True)
            return
        for attempt in self.files.attempts:
            self.points.next_attempt(attempt.get("start"))
            self._take(HelperRows(self.files.metrics(attempt["number"])), last=True, replay=True)

    def _take(self, rows: Rows, *, last: bool, replay: bool = False) -> bool:
        """Whether there was anything new."""
        before = self.points.rows
        try:
            for row in rows.read(last=last):
                self.points.take(row, may_test=self.sealed is not None and not self.sealed.command)
        except RowError:
            if replay:
                return True
            raise
        return self.points.rows > before

    # The port

    @property
    def seed(self) -> int:
        """See :class:`tune_bn.protocols.trainer.Run`, as for all that follows."""
        return self._seed

    @property
    def curve(self) -> Sequence[Point]:
        """As far as the worker has heard of it: the script itself may be ahead."""
        return self.points.points[: self._delivered]

    @property
    def steps(self) -> int:
        """Points of the curve."""
        return self._delivered

    @property
    def diverged(self) -> bool:
        """Whether its validation score was not finite, in a step that the worker has heard of."""
        return self.points.diverged and self._delivered == len(self.points.points)

    @property
    def done(self) -> bool:
        """Whether its script has ended as it should, and the test too where one is due."""
        return self._done

    def advance(self) -> Point | None:
        """Wait for the next step, but not long."""
        end = time.monotonic() + ADVANCE_SECONDS
        while not self._done:
            if self._delivered < len(self.points.points):
                return self._deliver()
            if self._test is not None:
                if self._test.poll(max(0.0, end - time.monotonic())):
                    self._tested(self._test)
                return None
            assert self._attempt is not None
            found = self._attempt.poll()
            try:
                new = self._take(self._rows, last=found is not None)
            except RowError as error:
                self._attempt.end("a wrong row")
                if isinstance(error, GapError):
                    raise self._begin_again(str(error)) from None
                raise RunError(f"{error} (log: {self.files.log})") from None
            self._watch_inexact()
            if self.points.diverged and found is None:
                found = self._attempt.end("diverged")
            if found is not None and self._delivered == len(self.points.points):
                self._ended(found)
                return None
            if new:
                continue
            if time.monotonic() >= end:
                self._watch_lingering()
                return None
            self._attempt.poll(POLL_SECONDS)
        return None

    def _deliver(self) -> Point:
        point = self.points.points[self._delivered]
        self._delivered += 1
        if self._delivered >= self.settings.steps:
            self._last_step_at = time.monotonic()
        return point

    def _watch_inexact(self) -> None:
        if self.points.inexact is None or self.sealed is None or self.settings.confirm_resume == ANY:
            return
        assert self.settings.confirm_resume == EXACT
        assert self._attempt is not None
        self._attempt.end("inexact")
        # Half of one run and half of another is neither, so this seed begins again.
        begins_again = self._begin_again(f"the run did not go on as it was: {self.points.inexact}")
        for number in range(1, self._number + 1):
            self.files.metrics(number).unlink(missing_ok=True)
        raise begins_again

    def _begin_again(self, why: str) -> PreemptedError:
        """The next attempt begins at the beginning: from this checkpoint each would come to the same. Nobody failed."""
        (self.files.path / FRESH).touch()
        return PreemptedError(why)

    def _watch_lingering(self) -> None:
        if self._last_step_at is None or self.settings.timeout is not None:
            return
        allowed = max(LINGER_SECONDS, 10 * self.settings.grace, self._last_step_at - self._began)
        if time.monotonic() - self._last_step_at > allowed:
            assert self._attempt is not None
            self._attempt.end("lingers")
            raise RunError(f"reported its last step and did not end within {allowed:.0f} s (log: {self.files.log})")

    def _ended(self, end: End) -> None:
        notes = self.files.notes(self._number)
        found = outcome.outcome_of(
            end,
            self.points,
            ends_early=self.settings.ends_early,
            terminated=any(note.get("event") == "terminated" for note in notes),
            words=self.files.last_words(),
            log=str(self.files.log),
        )
        if found.status == outcome.PREEMPTED:
            self._require_progress()
            raise PreemptedError(found.reason)
        if found.status == outcome.DIVERGED:
            self._done = True
            return
        if found.status == outcome.STOPPED:
            raise PreemptedError(found.reason)
        if found.status == outcome.FAILED:
            if end.status == 0 and self.goes_on and self.points.idle:
                raise self._begin_again(found.reason)
            raise RunError(found.reason)
        self._completed()

    def _require_progress(self) -> None:
        recent = self.files.attempts[-IDLE_ATTEMPTS:]
        idle = [attempt for attempt in recent if not self.files.metrics(attempt["number"]).exists()]
        if tap_on_files(self.settings.metrics) is None and len(idle) == IDLE_ATTEMPTS:
            raise RunError(
                f"asked {IDLE_ATTEMPTS} times in a row to be started again without a step (log: {self.files.log})"
            )

    def _completed(self) -> None:
        score = self.settings.score
        if self.sealed is None:
            self._done = True
            return
        if not self.sealed.command:
            value = self.points.final.get(score.test)
            if value is None:
                raise RunError(f"reported no {score.test!r} by finish(), though run.wants_test (log: {self.files.log})")
            self._take_test(value)
            return
        best = self.settings.test_checkpoint == "best"
        going_on = self.files.checkpoint(best=best)
        if going_on is not None and not best and going_on.done is not None and going_on.done < self.steps:
            going_on = None  # of an earlier step, which is not what is to be tested
        self._test = SealedRun(
            self.settings,
            self.sealed,
            self.files,
            values=self.values(going_on),
            checkpoint=None if going_on is None else going_on.path,
            place=self.place,
        )

    def _tested(self, test: SealedRun) -> None:
        try:
            value = test.score()
        except TestError as error:
            raise RunError(str(error)) from None
        self._take_test(value)

    def _take_test(self, value: float) -> None:
        score = self.settings.score
        if not score.holds(value):
            raise RunError(f"{score.test} is {value:.6g}; accepted: {score.range_words} (log: {self.files.log})")
        self._scores[score.test] = value
        self._done = True

    @property
    def leader(self) -> int | None:
        """The process of the script; None where it is a function of this process."""
        if not isinstance(self._attempt, Process):
            return None
        self._attempt.poll(0.5 if self._attempt.leader is None else 0.0)
        return self._attempt.leader

    @property
    def reported(self) -> int:
        """Steps that the script itself has told of; it may be ahead of :attr:`steps`."""
        with suppress(RowError):
            self._take(self._rows, last=True)
        return len(self.points.points)

    def wait_for_end(self) -> None:
        """Wait until the script has ended, whatever ends it."""
        if self._attempt is not None:
            self._attempt.poll(2 * self.settings.grace + 20.0)

    def state(self) -> Mapping[str, Any] | None:
        """Its seed: all else that another process needs lies in its folder."""
        return {"seed": self._seed}

    def interim(self) -> RunResult:
        """What would be recorded if it ended here."""
        return self._result(test=False)

    def result(self) -> RunResult:
        """What became of it."""
        found = self._result(test=True)
        self._let_go("done")
        self.files.tidy()
        return found

    def _result(self, *, test: bool) -> RunResult:
        score = self.settings.score
        scores = outcome.scores_of(score, self.curve, diverged=self.diverged)
        if test and self.diverged and self.sealed is not None and score.diverged is not None:
            scores[score.test] = score.diverged
        if test:
            scores |= self._scores
        return RunResult(
            seed=self._seed,
            status=DIVERGED if self.diverged else COMPLETED,
            reason=outcome.reason_of(self.points, self.steps, done=self._done, diverged=self.diverged),
            epochs=self.steps,
            scores=scores,
            curve=(),
            attempts=self._number,
            started_at=self._started_at,
            duration_seconds=time.monotonic() - self._began,
            device=self.place.device,
            versions=self.versions,
            environment={"device_kind": self.place.device.partition(":")[0]}
            | ({} if self.place.threads is None else {"threads": self.place.threads}),
        )

    @property
    def in_this_process(self) -> bool:
        """Whether it is a function that has not ended, and holds what this process shares."""
        return self._attempt is not None and not isinstance(self._attempt, Process)

    def inspect(self) -> Diagnostics | None:
        """The network is the script's own."""
        return None

    def close(self) -> None:
        """End whatever of it still runs. What it has saved stays, so that it may go on elsewhere."""
        self._let_go("stopped")

    def _let_go(self, reason: str) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.end(reason)
        if self._test is not None:
            self._test.close()
