"""Which configurations of the search go on: the finalists, their race on the selection seeds, and their ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from tune_bn.analysis.race import Race, race
from tune_bn.errors import StudyError
from tune_bn.protocols.runner import Task
from tune_bn.records.record import BASELINE, CANDIDATE, COMPLETED, FAILED, SEARCH, SELECT, run_key
from tune_bn.space.space import Space
from tune_bn.study.failures import raised_words, trial_words
from tune_bn.study.feeds import Recorder, pair_name, search_outcomes


@dataclass(frozen=True)
class Finalist:
    """A configuration of the search that goes on to the selection seeds."""

    arm: str
    trial: int
    overrides: Mapping[str, Any]
    objective: float
    """Mean validation score over the search seeds, turned such that higher is better."""


Ranked = tuple[Finalist, dict[str, Any]]
"""A finalist with the mean of its validation score over the selection seeds, its std, and their number."""


class Selection:
    """The selection of a study, as its records tell it.

    Args:
        space: of the study.
        recorder: knows the records.
    """

    def __init__(self, space: Space, recorder: Recorder) -> None:
        self.space = space
        self.recorder = recorder
        self._arms: dict[str, list[Finalist]] | None = None

    def finalists(self, arm: str) -> list[Finalist]:
        """The best trials of an arm, best first. One that was stopped early, failed or diverged on any seed never wins.

        A candidate that is the baseline itself is left out: an arm cannot be better than itself. So is one that differs
        from it in nuisance keys alone: what it gains would be their doing, and not what is claimed.
        """
        seeds = self.space.seeds.search
        found: dict[str, Finalist] = {}
        for trial, outcome in search_outcomes(self.recorder.records, arm, seeds, self.recorder.score).items():
            if outcome.status != COMPLETED or outcome.objective is None:
                continue
            runs = [self.recorder.find(SEARCH, arm, trial, seed) for seed in seeds]
            if any(run.status != COMPLETED for run in runs):
                continue
            overrides = runs[0].config
            if arm == CANDIDATE and self.space.is_baseline(overrides):
                continue
            finalist = Finalist(arm, trial, overrides, outcome.objective)
            rival = found.get(repr(sorted(overrides.items())))
            if rival is None or finalist.objective > rival.objective:
                found[repr(sorted(overrides.items()))] = finalist
        return sorted(found.values(), key=lambda f: (-f.objective, f.trial))[: self.space.budget.finalists]

    @property
    def arms(self) -> Mapping[str, Sequence[Finalist]]:
        """The finalists of each arm that was searched.

        Raises:
            StudyError: an arm has none.
        """
        if self._arms is None:
            arms = {arm: self.finalists(arm) for arm in (CANDIDATE, BASELINE) if self.space.trials_of(arm)}
            for arm, finalists in arms.items():
                if not finalists:
                    found, way = trial_words(self.recorder.records, arm)
                    raise StudyError(
                        f"{self.recorder.folder.path}: no {arm} trial of the search ran to its end: {found}; "
                        f"accepted: {way}"
                    )
            self._arms = arms
        return self._arms

    def due(self, failed: frozenset[str] = frozenset()) -> list[Task]:
        """The runs of the selection up to the next look of each arm's race; ``failed`` holds keys of failed runs."""
        tasks: list[Task] = []
        for arm in self.arms:
            needed = self._race(arm, failed).needed
            configs = {f.trial: self.space.run_config(f.overrides) for f in self.arms[arm]}
            tasks += [
                Task(
                    SELECT,
                    arm,
                    f.trial,
                    dict(f.overrides),
                    configs[f.trial],
                    (seed,),
                    steps=self.recorder.trainer.steps(configs[f.trial]),
                    pair=pair_name(SELECT, seed),
                    beside=self.recorder.type_of_pair(SELECT, seed),
                )
                for index, seed in enumerate(self.space.seeds.select)
                for f in self.arms[arm]
                if index < needed.get(_name(f), 0)
            ]
        return tasks

    @property
    def most(self) -> int:
        """Runs of the selection where nobody is dropped."""
        return sum(map(len, self.arms.values())) * len(self.space.seeds.select)

    def _race(self, arm: str, failed: frozenset[str]) -> Race:
        seeds, finalists = self.space.seeds.select, self.arms[arm]
        return race(
            {_name(f): self._scores(f) for f in finalists},
            seeds=len(seeds),
            error=self.space.budget.race_error,
            places=self.space.claim.candidates if arm == CANDIDATE else 1,
            withdrawn=frozenset(
                _name(f) for f in finalists if any(run_key(SELECT, arm, f.trial, seed) in failed for seed in seeds)
            ),
        )

    def _scores(self, finalist: Finalist) -> list[float]:
        """Its objectives on the first seeds, up to the first that is missing."""
        scores: list[float] = []
        for seed in self.space.seeds.select:
            run = self.recorder.get(SELECT, finalist.arm, finalist.trial, seed)
            if run is None:
                break
            scores.append(self.recorder.score.objective_of(run.scores))
        return scores

    def ranked(self) -> dict[str, list[Ranked]]:
        """The finalists of each arm that the race left, best first.

        One with a failed run is left out, and one with a run that has no score since it diverged: the mean of its other
        seeds would flatter it.

        Raises:
            StudyError: an arm has no such finalist.
        """
        runs = [record.key for record in self.recorder.records if (record.stage, record.status) == (SELECT, FAILED)]
        failed = frozenset(key for key in runs if not self.recorder.has(key))
        ranked = {arm: self._rank(arm, failed) for arm in self.arms}
        for arm, finalists in ranked.items():
            if not finalists:
                own = [record for record in self.recorder.records if record.arm == arm and record.key in failed]
                raise StudyError(
                    f"{self.recorder.folder.path}: no finalist of the {arm} arm has a score on every selection "
                    f"seed: of its runs {raised_words(own) or 'some are missing'}; accepted: --resume once the cause "
                    "is mended"
                )
        return ranked

    def _rank(self, arm: str, failed: frozenset[str]) -> list[Ranked]:
        stands, score = self._race(arm, failed), self.recorder.score
        ranked: list[Ranked] = []
        for finalist in self.arms[arm]:
            scores, name = self._scores(finalist), _name(finalist)
            if score.diverged is None and score.worst in scores:
                continue
            if name not in stands.dropped and len(scores) >= stands.needed.get(name, len(self.space.seeds.select)):
                spread = stdev(scores) if len(scores) > 1 else None
                mean = score.objective(fmean(scores))
                summary = {f"{score.validation}_mean": mean, f"{score.validation}_std": spread, "n": len(scores)}
                ranked.append((finalist, summary))
        return sorted(
            ranked, key=lambda pair: (-score.objective(pair[1][f"{score.validation}_mean"]), -pair[0].objective)
        )


def _name(finalist: Finalist) -> str:
    return str(finalist.trial)
