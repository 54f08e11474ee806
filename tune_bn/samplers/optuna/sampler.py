"""Optuna as the sampler of a study, on journal storage in the study's folder."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from tune_bn.errors import StudyError
from tune_bn.host.extensions import load
from tune_bn.protocols.distributions import Cases, Choice, Distribution, Range
from tune_bn.protocols.sampler import Outcome, Proposal
from tune_bn.protocols.samplers import SAMPLERS
from tune_bn.records.files import writing
from tune_bn.records.record import FAILED, PRUNED
from tune_bn.records.score import MAX
from tune_bn.samplers.optuna.compat import trial_of
from tune_bn.samplers.optuna.journal import key_of, open_study, stored_name


def make_sampler(
    name: str, seed: int, trial: int, *, distributions: Mapping[str, Distribution], parameter: str = ""
) -> BaseSampler:
    """Optuna's sampler for one trial, or for one parameter of it that is drawn by itself.

    Its random numbers follow from the seed and the trial's number, not from what this process drew before, so that a
    resumed search proposes what the uninterrupted one would have proposed from the same results. A sequence counts its
    own position and keeps one seed.

    Raises:
        ValueError: no such sampler.
    """
    if name not in SAMPLERS:
        raise ValueError(f"name must be one of {', '.join(SAMPLERS)}, but got {name!r}")
    digest = hashlib.sha256("/".join(map(str, [seed, trial, *[parameter] * bool(parameter)])).encode()).digest()
    with warnings.catch_warnings():
        # These options and samplers are marked experimental; the versions are pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        make: Callable[..., BaseSampler] = load(SAMPLERS[name].make)
        return make(distributions=distributions, seed=seed, own_seed=int.from_bytes(digest[:4], "big"))


_GIVEN_UP = "given_up"
"""User attribute of a trial that the search ended without; Optuna sees it as failed."""


def _overrides(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key_of(stored): value for stored, value in params.items()}


def _suggest(trial: optuna.trial.Trial, name: str, distribution: Range | Choice) -> None:
    if isinstance(distribution, Choice):
        trial.suggest_categorical(name, distribution.values)
    elif distribution.integer:
        trial.suggest_int(name, int(distribution.low), int(distribution.high), log=distribution.log)
    else:
        trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


class OptunaSampler:
    """A :class:`tune_bn.protocols.sampler.Sampler`; one Optuna study per arm, which has the goal of the score.

    Args:
        storage: path of the journal file; several arms share it.
        study: name of the Optuna study.
        distributions: the searched keys.
        name, seed: which sampler.
        points: configurations to try first; keys that a point leaves out are sampled.
        goal: ``max`` or ``min``, of the score; Optuna's study keeps the scores themselves.
        finished: trials that the records hold, by number; None: the journal alone is right. Where Optuna did not hear
            of one before a crash, it is told now, except where it failed. All others are handed out again: those that
            failed and of which Optuna was not told, those that are still open, and those that Optuna was told of and
            whose records were lost.

    Raises:
        StudyError: the journal lacks trials that the records hold, has another direction, was written with other
            distributions, or cannot be written. Every method raises it too where the journal cannot be written.
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
        goal: str = MAX,
        finished: Mapping[int, Outcome] | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name = name
        self.seed = seed
        self.distributions = distributions
        self._storage = storage
        self._sign = 1.0 if goal == MAX else -1.0
        self.study = open_study(storage, study, distributions, goal)
        trials = self.study.get_trials(deepcopy=False)
        # A crash may have come between two of them.
        if all(trial.state == TrialState.WAITING for trial in trials):
            with writing(storage):
                for point in points[len(trials) :]:
                    self.study.enqueue_trial({self._stored_name(name, point): value for name, value in point.items()})
        self._waiting: deque[Proposal] = deque()
        self._told = 0
        self._proposed = 0
        self._begun = 0
        self._unrecorded: set[int] = set()
        self._failed: set[int] = set()
        self._reconcile(trials, None if finished is None else dict(finished), storage)

    def _reconcile(self, trials: Sequence[Any], finished: dict[int, Outcome] | None, storage: Path) -> None:
        for trial in trials:
            if trial.state == TrialState.WAITING:
                continue
            self._begun += 1
            known = None if finished is None else finished.pop(trial.number, None)
            if _GIVEN_UP in trial.user_attrs:
                continue
            if trial.state.is_finished() and (finished is None or known is not None):
                self._told += 1
                self._proposed += 1
            elif known is not None and known.status != FAILED:
                self._proposed += 1
                self.tell(trial.number, known)
            else:
                if known is not None:
                    self._failed.add(trial.number)
                # Its parameters are in the journal: the same configuration runs again, or goes on from its checkpoint.
                if trial.state.is_finished():
                    self._unrecorded.add(trial.number)
                self._waiting.append(Proposal(trial.number, _overrides(trial.params)))
        if finished:
            raise StudyError(
                f"{storage}: lacks the trials {sorted(finished)} that records.jsonl holds; accepted: the journal that "
                "was written with these records"
            )

    def propose(self) -> Proposal:
        """See :meth:`tune_bn.protocols.sampler.Sampler.propose`."""
        with writing(self._storage):
            return self._propose()

    def _propose(self) -> Proposal:
        self._proposed += 1
        waiting = self._waiting.popleft() if self._waiting else None
        if waiting is not None and set(waiting.overrides) == set(self.distributions):
            return waiting
        number = self._begun if waiting is None else waiting.trial
        self.study.sampler = self._sampler_for(number)
        # A crash may leave a trial that was begun and has no values, or some of them: the rest is drawn now.
        trial = self._ask() if waiting is None else self._trial(number)
        for name in sorted(self.distributions, key=lambda name: isinstance(self.distributions[name], Cases)):
            distribution = self.distributions[name]
            if isinstance(distribution, Cases):
                distribution = distribution.given(trial.params[distribution.key])
            # So no draw depends on which of the others were made by this process.
            self.study.sampler = self._sampler_for(number, name)
            _suggest(trial, self._stored_name(name, trial.params), distribution)
        return Proposal(trial.number, _overrides(trial.params))

    def _sampler_for(self, number: int, parameter: str = "") -> BaseSampler:
        # A seed of its own for each parameter would take a point out of its sequence.
        parameter = "" if SAMPLERS[self.name].sequence else parameter
        return make_sampler(self.name, self.seed, number, distributions=self.distributions, parameter=parameter)

    def _ask(self) -> optuna.trial.Trial:
        self._begun += 1
        return self.study.ask()

    def _stored_name(self, name: str, values: Mapping[str, Any]) -> str:
        return stored_name(name, values, self.distributions)

    def tell(self, trial: int, outcome: Outcome) -> None:
        """See :meth:`tune_bn.protocols.sampler.Sampler.tell`.

        A trial stopped early is PRUNED with the value it reached.

        The standard deviation over the seeds and their number are user attributes of the trial, ``std`` and ``n``: no
        sampler of Optuna takes them, its dashboard and ``trials_dataframe`` show them.
        """
        with writing(self._storage):
            self._tell(trial, outcome)

    def _tell(self, trial: int, outcome: Outcome) -> None:
        self._told += 1
        if trial in self._unrecorded:
            # Optuna was told of the same run before its record was lost.
            self._unrecorded.discard(trial)
            return
        if outcome.status == FAILED or outcome.objective is None or not math.isfinite(outcome.objective):
            self.study.tell(trial, state=TrialState.FAIL)
            return
        value = self._sign * outcome.objective
        attributes = self._trial(trial)
        attributes.set_user_attr("std", outcome.std)
        attributes.set_user_attr("n", outcome.n)
        if outcome.status == PRUNED:
            attributes.report(value, outcome.epoch)
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, value)

    def end(self) -> list[int]:
        """See :meth:`tune_bn.protocols.sampler.Sampler.end`. Trials that are still RUNNING are told FAIL."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        failed = [proposal.trial for proposal in self._waiting if proposal.trial in self._failed]
        for number in failed:
            self._proposed += 1
            self.tell(number, Outcome(FAILED, None, 0))
        running = [trial for trial in running if trial.number not in failed]
        with writing(self._storage):
            for trial in running:
                self._trial(trial.number).set_user_attr(_GIVEN_UP, True)
                self.study.tell(trial.number, state=TrialState.FAIL)
        waiting = [p for p in self._waiting if p.trial not in self._unrecorded and p.trial not in failed]
        self._proposed -= len(running) - len(waiting)
        self._waiting.clear()
        return [trial.number for trial in running]

    def _trial(self, number: int) -> optuna.trial.Trial:
        return trial_of(self.study, number)

    @property
    def told(self) -> int:
        """See :attr:`tune_bn.protocols.sampler.Sampler.told`."""
        return self._told

    @property
    def proposed(self) -> int:
        """See :attr:`tune_bn.protocols.sampler.Sampler.proposed`."""
        return self._proposed
