"""The stages of a study: search, select, plan, confirm.

This module knows contracts alone: a runner that trains tasks, a sampler per arm that proposes configurations, an
observer that follows. What a study decides, it decides from its records, so a resumed study goes on as if nothing had
happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate, zip_longest
from statistics import fmean
from typing import Any

from tune_bn.analysis.plan import plan_problem, read_plan, seal
from tune_bn.errors import StudyError
from tune_bn.feeds import Recorder, SearchFeed, TaskList, search_outcomes
from tune_bn.records import (
    BASELINE,
    CANDIDATE,
    COMPLETED,
    CONFIRM,
    DIVERGED,
    FAILED,
    SCHEMA_VERSION,
    SEARCH,
    SELECT,
    run_key,
    write_json,
)
from tune_bn.runners.base import Feed, History, Runner, Task
from tune_bn.samplers.base import Outcome, Sampler
from tune_bn.spec import Space
from tune_bn.study_folder import StudyFolder
from tune_bn.tracking.base import Observer, StudyInfo
from tune_bn.training.checkpoint import CheckpointStore
from tune_bn.training.versions import commit, library_versions

SamplerFactory = Callable[[str, Mapping[int, Outcome]], Sampler]
"""Makes the sampler of an arm, given what the records say of its trials."""


@dataclass(frozen=True)
class Finalist:
    """A configuration of the search that goes on to the selection seeds."""

    arm: str
    trial: int | None
    overrides: Mapping[str, Any]
    objective: float


class Study:
    """One study in its folder.

    Args:
        folder: where it lives; locked by the caller.
        space: its space.
        runner: trains.
        make_sampler: makes the sampler of an arm.
        observer: follows.
        num_classes: classes of the data; chance is the score of a diverged run.
    """

    def __init__(
        self,
        folder: StudyFolder,
        space: Space,
        *,
        runner: Runner,
        make_sampler: SamplerFactory,
        observer: Observer,
        num_classes: int,
    ) -> None:
        self.folder = folder
        self.space = space
        self.runner = runner
        self.make_sampler = make_sampler
        self.observer = observer
        self.num_classes = num_classes
        folder.records.recover()
        self.info = StudyInfo(
            name=folder.name,
            space_name=space.name,
            folder=folder.path,
            space_sha256=space.sha256,
            commit=commit(),
            versions=library_versions(*space.archs),
        )
        self.recorder = Recorder(folder, self.info, observer)

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
        # Nothing before a locked plan can move any more, and arms that the space states need no search.
        if self.folder.plan_file.exists() or self.space.claim.arms:
            stages = tuple(stage for stage in stages if stage == self._confirm)
        for stage in stages:
            if stage == self._search:
                scheduler, history = self.space.scheduler_config, self._history()
                self.runner.run(stage(), self.observer, scheduler=scheduler, history=history)
            else:
                self.runner.run(stage(), self.observer)

    def _search(self) -> Feed:
        space, samplers = self.space, self._samplers()
        quota = {arm: space.trials_of(arm) for arm in samplers}
        done = sum(sampler.told for sampler in samplers.values()) * len(space.seeds.search)
        self.observer.stage_started(SEARCH, sum(quota.values()) * len(space.seeds.search), done)
        return SearchFeed(space, samplers, quota, self.recorder)

    def _samplers(self) -> dict[str, Sampler]:
        """The sampler of each arm that searches, told what the records say."""
        arms = [arm for arm in (CANDIDATE, BASELINE) if self.space.trials_of(arm)]
        seeds = self.space.seeds.search
        return {arm: self.make_sampler(arm, search_outcomes(self.recorder.records, arm, seeds)) for arm in arms}

    def _end_search(self) -> None:
        """Trials that an interrupted search began, and that no budget covers any more, must not stay open for ever."""
        # Without the sampler's own file nothing is open, and a selection needs the records alone.
        if self.folder.journal.exists():
            for arm, sampler in self._samplers().items():
                for trial in sampler.end():
                    key = run_key(SEARCH, arm, trial, self.space.seeds.search[0])
                    CheckpointStore(self.folder.checkpoints / key).discard()

    def _history(self) -> History:
        """Objective by epoch of the finished search trials, as their scheduler saw it.

        It is the mean over all seeds of the best validation accuracy so far; from the epoch on in which it diverged, a
        run counts as chance.
        """
        curves, trials = self.folder.curves.read(), dict[tuple[str, int | None], list[list[float]]]()
        chance, seeds = 100.0 / self.num_classes, self.space.seeds.search
        for record in self.recorder.records:
            if record.stage == SEARCH and record.status != FAILED and record.key in curves:
                best = list(accumulate((point.val_accuracy for point in curves[record.key]), max))
                if record.status == DIVERGED:
                    best[-1] = chance
                trials.setdefault((record.arm, record.trial), []).append(best)
        # A trial that a crash left with records of some seeds runs again as a whole. Runs of one trial end together,
        # except those that diverged.
        whole = [runs for runs in trials.values() if len(runs) == len(seeds)]
        return [
            [(epoch, fmean(step)) for epoch, step in enumerate(zip_longest(*runs, fillvalue=chance), start=1)]
            for runs in whole
        ]

    def finalists(self, arm: str) -> list[Finalist]:
        """The best trials of an arm, best first. One that was stopped early, failed or diverged on any seed never wins.

        A candidate that is the baseline itself is left out: an arm cannot be better than itself.
        """
        seeds, baseline = self.space.seeds.search, self.space.run_config(self.space.baseline)
        found: dict[str, Finalist] = {}
        for trial, outcome in search_outcomes(self.recorder.records, arm, seeds).items():
            if outcome.status != COMPLETED or outcome.objective is None:
                continue
            runs = [self.recorder.find(SEARCH, arm, trial, seed) for seed in seeds]
            if any(run.status != COMPLETED for run in runs):
                continue
            overrides = runs[0].config
            is_baseline = not self.space.nuisance and self.space.run_config(overrides) == baseline
            if arm == CANDIDATE and is_baseline:
                continue
            finalist = Finalist(arm, trial, overrides, outcome.objective)
            rival = found.get(repr(sorted(overrides.items())))
            if rival is None or finalist.objective > rival.objective:
                found[repr(sorted(overrides.items()))] = finalist
        return sorted(found.values(), key=lambda f: (-f.objective, f.trial))[: self.space.budget.finalists]

    def _finalists_by_arm(self) -> dict[str, list[Finalist]]:
        arms = {arm: self.finalists(arm) for arm in (CANDIDATE, BASELINE) if self.space.trials_of(arm)}
        for arm, finalists in arms.items():
            if not finalists:
                raise StudyError(
                    f"{self.folder.path}: no {arm} trial of the search ran to its end; accepted: more budget.trials, "
                    "or a scheduler that stops fewer"
                )
        return arms

    def _select(self) -> Feed:
        self._end_search()
        finalists = [finalist for arm in self._finalists_by_arm().values() for finalist in arm]
        seeds = self.space.seeds.select
        return self._task_list(
            SELECT, [self._task(SELECT, f.arm, f.trial, f.overrides, s) for f in finalists for s in seeds]
        )

    def ranked(self) -> dict[str, list[tuple[Finalist, dict[str, Any]]]]:
        """The finalists of each arm, best first, with their mean validation accuracy over the selection seeds."""
        ranked = {arm: self._rank(finalists) for arm, finalists in self._finalists_by_arm().items()}
        for arm, finalists in ranked.items():
            if not finalists:
                raise StudyError(
                    f"{self.folder.path}: no finalist of the {arm} arm has a score on every selection seed; accepted: "
                    "--resume once the cause is mended"
                )
        return ranked

    def _rank(self, finalists: Sequence[Finalist]) -> list[tuple[Finalist, dict[str, Any]]]:
        ranked = []
        for finalist in finalists:
            runs = [self.recorder.get(SELECT, finalist.arm, finalist.trial, seed) for seed in self.space.seeds.select]
            # A failed run is no score: the mean of the others would flatter.
            scores = [run.scores["val_accuracy"] for run in runs if run is not None]
            if len(scores) == len(runs):
                ranked.append((finalist, {"val_accuracy_mean": fmean(scores), "n": len(scores)}))
        return sorted(ranked, key=lambda pair: (-pair[1]["val_accuracy_mean"], -pair[0].objective))

    def plan(self) -> dict[str, Any]:
        """The locked plan; made from the selection where there is none yet.

        Raises:
            RecordError, StudyError: the plan was changed, or belongs to another space.
        """
        if self.folder.plan_file.exists():
            plan = read_plan(self.folder.plan_file)
            problem = plan_problem(plan)
            if problem is None and plan["space_sha256"] != self.space.sha256:
                problem = "space_sha256: it was made for another space"
            if problem is not None:
                raise StudyError(f"{self.folder.plan_file}: {problem}; accepted: the plan as it was locked")
            self._require_same_code(plan)
            return plan
        claim, seeds = self.space.claim, self.space.seeds
        baseline, candidates = self._stated_arms() if claim.arms else self._selected_arms()
        plan = seal(
            {
                "schema_version": SCHEMA_VERSION,
                "study": self.folder.name,
                "space_sha256": self.space.sha256,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "baseline": baseline,
                "candidates": candidates,
                "metric": claim.metric,
                "direction": "maximize",
                "test": "paired_t_greater",
                "alpha": claim.alpha,
                "correction": "holm",
                "stopping": "fixed",
                "seeds": seeds.confirm,
                "used_seeds": {} if claim.arms else {"search": seeds.search, "select": seeds.select},
                "diverged": {"rule": claim.diverged, "score": 100.0 / self.num_classes},
                "commit": self.info.commit,
                "versions": dict(self.info.versions),
            }
        )
        write_json(self.folder.plan_file, plan)
        self.folder.plan_file.chmod(0o444)
        return plan

    def _stated_arms(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Baseline and candidates as the space states them."""
        baseline = {"arm": BASELINE, "trial": None, "config": self.space.baseline}
        arms = self.space.claim.arms
        return baseline, [{"arm": name, "trial": None, "config": self.space.arm_config(name)} for name in arms]

    def _selected_arms(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Baseline and candidates as the selection ranks them; the baseline is tuned where anything is."""
        ranked = self.ranked()
        baseline: dict[str, Any] = {"arm": BASELINE, "trial": None, "config": self.space.baseline}
        if BASELINE in ranked:
            best, scores = ranked[BASELINE][0]
            baseline |= {"trial": best.trial, "config": dict(best.overrides), "selection": scores}
        winners = ranked[CANDIDATE][: self.space.claim.candidates]
        return baseline, [
            {
                "arm": f"{CANDIDATE}-{place}",
                "trial": finalist.trial,
                "config": dict(finalist.overrides),
                "selection": scores,
            }
            for place, (finalist, scores) in enumerate(winners, start=1)
        ]

    def _require_same_code(self, plan: Mapping[str, Any]) -> None:
        """Arms that ran under different code cannot be paired, so nothing is spent on a confirmation that would mix."""
        now = dict(self.info.versions) | {"commit": self.info.commit or "none"}
        then = dict(plan["versions"]) | {"commit": plan["commit"] or "none"}
        changed = [
            f"{key} {then.get(key)} (now {now.get(key)})" for key in sorted(now | then) if now.get(key) != then.get(key)
        ]
        if changed:
            raise StudyError(
                f"{self.folder.plan_file}: it was locked under {', '.join(changed)}; accepted: the same code and "
                "libraries, or a new study"
            )

    def _confirm(self) -> Feed:
        """Every arm of the plan on every confirmation seed, pair by pair; the test images are read here."""
        plan = self.plan()
        self.observer.artifacts_changed(self.folder.artifacts())
        self.recorder.plan_sha256 = plan["plan_sha256"]
        arms = [plan["baseline"], *plan["candidates"]]
        tasks = [
            replace(
                self._task(CONFIRM, arm["arm"], arm["trial"], arm["config"], seed, test_metric=plan["metric"]),
                inspect=seed == plan["seeds"][0],
            )
            for seed in plan["seeds"]
            for arm in arms
        ]
        return self._task_list(CONFIRM, tasks)

    def _task(
        self,
        stage: str,
        arm: str,
        trial: int | None,
        overrides: Mapping[str, Any],
        seed: int,
        *,
        test_metric: str | None = None,
    ) -> Task:
        config = self.space.run_config(overrides)
        return Task(stage, arm, trial, dict(overrides), config, (seed,), test_metric)

    def _task_list(self, stage: str, tasks: Sequence[Task]) -> Feed:
        left = [task for task in tasks if self.recorder.get(stage, task.arm, task.trial, task.seeds[0]) is None]
        self.observer.stage_started(stage, len(tasks), len(tasks) - len(left))
        return TaskList(left, self.recorder)
