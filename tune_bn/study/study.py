"""The stages of a study: search, select, plan, confirm.

This module knows contracts alone: a runner that trains tasks, a sampler per arm that proposes configurations, an
observer that follows. What a study decides, it decides from its records, so a resumed study goes on as if nothing had
happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tune_bn.errors import StudyError
from tune_bn.protocols.observer import Observer, StudyInfo
from tune_bn.protocols.runner import Feed, History, PastTrial, Point, Runner, Task
from tune_bn.protocols.sampler import Outcome, Sampler
from tune_bn.protocols.trainer import Trainer
from tune_bn.records.commands import search_command
from tune_bn.records.identity import settle
from tune_bn.records.plan import Plan
from tune_bn.records.record import BASELINE, CANDIDATE, CONFIRM, FAILED, SEARCH, SELECT, run_key
from tune_bn.records.score import PERCENT, write_score
from tune_bn.runners.checkpoint import CheckpointStore
from tune_bn.space.space import Space
from tune_bn.study.auto_grace import AutoGrace, objective_by_epoch
from tune_bn.study.continuity import remember_data, require_same
from tune_bn.study.done import confirmation_due
from tune_bn.study.driver import read_driver_state
from tune_bn.study.feeds import DueFeed, Recorder, SearchFeed, pair_name, search_outcomes
from tune_bn.study.folder import StudyFolder
from tune_bn.study.learned import at_chance, validation_images
from tune_bn.study.planning import locked_plan
from tune_bn.study.selection import Selection

SamplerFactory = Callable[[str, Mapping[int, Outcome]], Sampler]
"""Makes the sampler of an arm, given what the records say of its trials."""


class Study:
    """One study in its folder.

    Args:
        folder: where it lives; locked by the caller.
        space: its space.
        runner: trains.
        make_sampler: makes the sampler of an arm.
        observer: follows.
        trainer: what its runs are scored by, and what decides their results.
        commit: of the code.
        changes: gives what the code differs by from that commit, kept beside the plan; None: nothing is known of it.
    """

    def __init__(
        self,
        folder: StudyFolder,
        space: Space,
        *,
        runner: Runner,
        make_sampler: SamplerFactory,
        observer: Observer,
        trainer: Trainer,
        commit: str | None = None,
        changes: Callable[[], bytes] | None = None,
    ) -> None:
        self.changes = changes
        self.folder = folder
        self.space = space
        self.runner = runner
        self.make_sampler = make_sampler
        self.observer = observer
        self.trainer = trainer
        folder.records.recover()
        identity = settle(folder.path)
        self.info = StudyInfo(
            name=identity.name,
            space_name=space.name,
            folder=folder.path,
            space_sha256=space.sha256,
            commit=commit,
            versions=trainer.versions(),
            study_id=identity.study_id,
            data=trainer.data,
            fixed=space.fixed_sections,
            searched=tuple(space.search),
            score=trainer.score,
            is_baseline=space.is_baseline,
        )
        keep = space.resources.keep_weights == "confirmed"
        self.recorder = Recorder(folder, self.info, observer, trainer, keep_weights=keep)

    def run(self) -> None:
        """All stages; what is already done is not repeated."""
        self._run(self._search, self._select, self._confirm)

    def search(self) -> None:
        """Propose and train until the budget of trials or hours is used up."""
        self._run(self._search)
        self._end_search()

    def select(self) -> None:
        """Train the finalists of each arm on the selection seeds."""
        self._run(self._select)

    def confirm(self) -> None:
        """Select and confirm with the trials that the search has so far."""
        self._run(self._select, self._confirm)

    def _run(self, *stages: Callable[[], Feed]) -> None:
        require_same(self.folder, self.space, self.trainer, commit=self.info.commit)
        remember_data(self.folder, self.trainer)
        write_score(self.folder.path, self.trainer.score)
        # Nothing before a locked plan can move any more, and arms that the space states need no search.
        if self.folder.plan_file.exists() or self.space.claim.arms:
            stages = tuple(stage for stage in stages if stage == self._confirm)
        for stage in stages:
            feed = stage()
            if isinstance(feed, SearchFeed):
                self.runner.run(feed, self.observer, scheduler=feed.scheduler, history=self._history())
            else:
                self.runner.run(feed, self.observer)

    def _search(self) -> Feed:
        space, samplers = self.space, self._samplers()
        quota = {arm: space.trials_of(arm) for arm in samplers}
        done = sum(sampler.told for sampler in samplers.values()) * len(space.seeds.search)
        self.observer.stage_started(SEARCH, sum(quota.values()) * len(space.seeds.search), done)
        before = read_driver_state(self.folder)
        seconds = 0.0 if before is None else before.search_seconds
        return SearchFeed(space, samplers, quota, self.recorder, grace=self._grace(), seconds_before=seconds)

    def _grace(self) -> AutoGrace | None:
        """Who finds the epochs before a trial may be stopped; None where the space states them."""
        scheduler = self.space.scheduler_config
        if scheduler is None or scheduler.grace is not None:
            return None
        found = AutoGrace(
            self.folder, self.space, scheduler, self.recorder.records, self.folder.curves.read(), self.trainer.score
        )
        if found.said is not None:
            self.observer.early_order_seen(found.said)
        return found

    def _samplers(self) -> dict[str, Sampler]:
        """The sampler of each arm that searches, told what the records say."""
        arms = [arm for arm in (CANDIDATE, BASELINE) if self.space.trials_of(arm)]
        seeds = self.space.seeds.search
        return {
            arm: self.make_sampler(arm, search_outcomes(self.recorder.records, arm, seeds, self.trainer.score))
            for arm in arms
        }

    def _end_search(self) -> None:
        """Trials that an interrupted search began, and that no budget covers any more, must not stay open for ever."""
        # Without the sampler's own file nothing is open, and a selection needs the records alone.
        if self.folder.journal.exists():
            for arm, sampler in self._samplers().items():
                for trial in sampler.end():
                    key = run_key(SEARCH, arm, trial, self.space.seeds.search[0])
                    CheckpointStore(self.folder.checkpoints / key).discard()

    def _history(self) -> History:
        """Objective by epoch of the finished search trials of each arm, as their scheduler saw it."""
        curves, trials = self.folder.curves.read(), dict[tuple[str, int], list[tuple[str, Sequence[Point]]]]()
        for record in self.recorder.records:
            known = record.stage == SEARCH and record.status != FAILED and record.key in curves
            if known and record.trial is not None:
                trials.setdefault((record.arm, record.trial), []).append((record.status, curves[record.key]))
        # A trial that a crash left with records of some seeds runs again as a whole.
        return [
            PastTrial(arm, trial, objective_by_epoch(runs, self.trainer.score))
            for (arm, trial), runs in trials.items()
            if len(runs) == len(self.space.seeds.search)
        ]

    @property
    def selection(self) -> Selection:
        """The selection among the trials that are recorded now."""
        return Selection(self.space, self.recorder)

    def _select(self) -> Feed:
        selection = self.selection
        most = selection.most
        self._require_learning()
        # Only where there are finalists: else a resume tries again what failed.
        self._end_search()
        self.observer.stage_started(SELECT, most, self._done(SELECT))
        return DueFeed(selection.due, self.recorder)

    def _require_learning(self) -> None:
        """End here where a selection, and the confirmation after it, would compare networks that all guess.

        Raises:
            StudyError: so it is, and the budget does not say to go on.
        """
        if self.space.budget.at_chance == "go_on":
            return
        # Of a score that is no share of right answers nobody knows what guessing gives.
        score, images = self.info.score, validation_images(self.info.data)
        if score.unit != PERCENT or not score.higher_is_better or score.diverged is None:
            return
        if problem := at_chance(self.recorder.records, chance=score.diverged, images=images, metric=score.validation):
            line = search_command(self.folder.path, "--set", "budget.at_chance=go_on")
            raise StudyError(
                f"{self.folder.name}: {problem}. Nothing to select or confirm; accepted: a new study with more epochs "
                f"(--set train.epochs={4 * self.space.train.epochs}), or, to go on all the same: {line}"
            )

    def _done(self, stage: str) -> int:
        return sum(record.stage == stage and record.status != FAILED for record in self.recorder.records)

    def plan(self) -> Plan:
        """The locked plan; made from the selection where there is none yet. See :func:`locked_plan`."""
        return locked_plan(self.folder, self.space, self.info, self.selection, self.changes)

    def _confirm(self) -> Feed:
        """Every arm of the plan on its seeds, pair by pair; the test images are read here."""
        plan = self.plan()
        self.observer.artifacts_changed(self.folder.artifacts())
        self.observer.plan_locked(plan)
        self.recorder.plan_sha256 = plan.plan_sha256
        self.observer.stage_started(CONFIRM, len(plan.arms) * len(plan.seeds), self._done(CONFIRM))
        return DueFeed(partial(self._due, plan), self.recorder)

    def _due(self, plan: Plan, failed: frozenset[str]) -> list[Task]:
        """The runs of the confirmation up to the next look; a failed one leaves its look waiting for a resume."""
        seeds, metric = plan.seeds, plan.metric
        configs = {arm.arm: self.space.run_config(arm.config) for arm in plan.arms}
        return [
            Task(
                CONFIRM,
                arm.arm,
                arm.trial,
                dict(arm.config),
                configs[arm.arm],
                (seed,),
                steps=self.trainer.steps(configs[arm.arm]),
                test_metric=metric,
                inspect=seed == seeds[0],
                pair=pair_name(CONFIRM, seed),
                beside=self.recorder.type_of_pair(CONFIRM, seed),
            )
            for arm, seed in confirmation_due(plan, self.recorder.done)
        ]
