"""Optuna as the sampler of a study, on journal storage in the study's folder."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tune_bn.distributions import Cases, Choice, Distribution, Range
from tune_bn.errors import StudyError
from tune_bn.records import FAILED, PRUNED
from tune_bn.samplers.base import Outcome, Proposal


def to_optuna(distribution: Range | Choice) -> BaseDistribution:
    """A searched key's distribution as Optuna's; both ends stay included."""
    if isinstance(distribution, Choice):
        return CategoricalDistribution(distribution.values)
    if distribution.integer:
        return IntDistribution(int(distribution.low), int(distribution.high), log=distribution.log)
    return FloatDistribution(distribution.low, distribution.high, log=distribution.log)


def make_sampler(name: str, seed: int, trial: int, *, parameter: str = "", conditional: bool = False) -> BaseSampler:
    """Optuna's sampler for one trial, or for one parameter of it that is drawn by itself.

    Its random numbers follow from the seed and the trial's number, not from what this process drew before, so that a
    resumed search proposes what the uninterrupted one would have proposed from the same results. QMC counts its own
    position in the sequence and keeps one seed.
    """
    digest = hashlib.sha256("/".join(map(str, [seed, trial, *[parameter] * bool(parameter)])).encode()).digest()
    own = int.from_bytes(digest[:4], "big")
    with warnings.catch_warnings():
        # These options and samplers are marked experimental; the versions are pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            # constant_liar keeps parallel workers from proposing the same point twice.
            # A group learns each case of a conditional key from its own trials.
            return TPESampler(seed=own, multivariate=True, group=conditional, constant_liar=True)
        if name == "gp":
            return GPSampler(seed=own)
        if name == "qmc":
            return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        if name == "cmaes":
            return CmaEsSampler(seed=own, warn_independent_sampling=False)
        # The grid is enqueued; nothing is left to draw.
        if name in ("random", "grid"):
            return RandomSampler(seed=own)
    raise ValueError(f"name must be one of tpe, gp, cmaes, qmc, random, grid, but got {name!r}")


_GIVEN = " given "


def _overrides(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name.partition(_GIVEN)[0]: value for name, value in params.items()}


def _suggest(trial: optuna.trial.Trial, name: str, distribution: Range | Choice) -> None:
    if isinstance(distribution, Choice):
        trial.suggest_categorical(name, distribution.values)
    elif distribution.integer:
        trial.suggest_int(name, int(distribution.low), int(distribution.high), log=distribution.log)
    else:
        trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


class OptunaSampler:
    """A :class:`tune_bn.samplers.base.Sampler`; one Optuna study per arm, maximizing.

    Args:
        storage: path of the journal file; several arms share it.
        study: name of the Optuna study.
        distributions: the searched keys.
        name, seed: which sampler.
        points: configurations to try first; keys that a point leaves out are sampled.
        finished: trials that the records hold, by number. Where Optuna did not hear of one
            before a crash, it is told now; other trials that are still open are handed out again.

    Raises:
        StudyError: the journal lacks trials that the records hold.
    """

    def __init__(
        self,
        storage: Path,
        study: str,
        distributions: Mapping[str, Distribution],
        *,
        name: str = "tpe",
        seed: int = 0,
        points: Sequence[Mapping[str, Any]] = (),
        finished: Mapping[int, Outcome] | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name = name
        self.seed = seed
        self.distributions = distributions
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(storage))),
            study_name=study,
            direction="maximize",
            load_if_exists=True,
        )
        trials = self.study.get_trials(deepcopy=False)
        if not trials:
            for point in points:
                self.study.enqueue_trial({self._stored_name(name, point): value for name, value in point.items()})
        self._waiting: deque[Proposal] = deque()
        self._told = 0
        self._proposed = 0
        self._reconcile(trials, dict(finished or {}), storage)

    def _reconcile(self, trials: Sequence[Any], finished: dict[int, Outcome], storage: Path) -> None:
        for trial in trials:
            if trial.state == TrialState.WAITING:
                continue
            known = finished.pop(trial.number, None)
            if trial.state.is_finished():
                self._told += 1
                self._proposed += 1
            elif known is not None:
                self._proposed += 1
                self.tell(trial.number, known.status, known.objective, known.epoch)
            else:
                # Its parameters are in the journal: the same configuration runs again, or goes on from its checkpoint.
                self._waiting.append(Proposal(trial.number, _overrides(trial.params)))
        if finished:
            raise StudyError(
                f"{storage}: lacks the trials {sorted(finished)} that records.jsonl holds; accepted: the journal that "
                "was written with these records"
            )

    def propose(self) -> Proposal:
        """See :meth:`tune_bn.samplers.base.Sampler.propose`."""
        self._proposed += 1
        waiting = self._waiting.popleft() if self._waiting else None
        if waiting is not None and set(waiting.overrides) == set(self.distributions):
            return waiting
        number = self._proposed - 1 if waiting is None else waiting.trial
        self.study.sampler = self._sampler_for(number)
        # A crash may leave a trial that was begun and has no values, or some of them: the rest is drawn now.
        trial = self.study.ask() if waiting is None else optuna.trial.Trial(self.study, self._trial_id(number))
        for name in sorted(self.distributions, key=lambda name: isinstance(self.distributions[name], Cases)):
            distribution = self.distributions[name]
            if isinstance(distribution, Cases):
                distribution = distribution.given(trial.params[distribution.key])
            # So no draw depends on which of the others were made by this process.
            self.study.sampler = self._sampler_for(number, name)
            _suggest(trial, self._stored_name(name, trial.params), distribution)
        return Proposal(trial.number, _overrides(trial.params))

    def _sampler_for(self, number: int, parameter: str = "") -> BaseSampler:
        conditional = any(isinstance(distribution, Cases) for distribution in self.distributions.values())
        # QMC draws a point as a whole; a seed of its own for each parameter would take it out of its sequence.
        parameter = "" if self.name == "qmc" else parameter
        return make_sampler(self.name, self.seed, number, parameter=parameter, conditional=conditional)

    def _stored_name(self, name: str, values: Mapping[str, Any]) -> str:
        """Optuna knows each case of a conditional key as a parameter of its own, since their ranges differ."""
        distribution = self.distributions[name]
        if not isinstance(distribution, Cases):
            return name
        return f"{name}{_GIVEN}{distribution.key}={values[distribution.key]!r}"

    def tell(self, trial: int, status: str, objective: float | None, epoch: int) -> None:
        """See :meth:`tune_bn.samplers.base.Sampler.tell`. A trial stopped early is PRUNED with the value it reached."""
        self._told += 1
        if status == FAILED or objective is None or not math.isfinite(objective):
            self.study.tell(trial, state=TrialState.FAIL)
        elif status == PRUNED:
            optuna.trial.Trial(self.study, self._trial_id(trial)).report(objective, epoch)
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, objective)

    def _trial_id(self, number: int) -> int:
        return int(self.study._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number))

    @property
    def told(self) -> int:
        """See :attr:`tune_bn.samplers.base.Sampler.told`."""
        return self._told

    @property
    def proposed(self) -> int:
        """See :attr:`tune_bn.samplers.base.Sampler.proposed`."""
        return self._proposed
