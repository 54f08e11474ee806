"""How each of Optuna's samplers is made: the functions behind :data:`tune_bn.protocols.samplers.SAMPLERS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from tune_bn.protocols.distributions import Cases, Distribution
from tune_bn.samplers.optuna.journal import to_optuna

Distributions = Mapping[str, Distribution]


class _DeclaredTPE(TPESampler):  # type: ignore[misc]
    """TPE that is told the search space, which it would gather anew from every trial, at every proposal."""

    def __init__(self, space: Mapping[str, BaseDistribution], **options: Any) -> None:
        super().__init__(**options)
        self._declared = dict(sorted(space.items()))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._declared


def tpe(*, distributions: Distributions, seed: int, own_seed: int) -> BaseSampler:
    """Tree-structured Parzen estimators."""
    # constant_liar keeps parallel workers from proposing the same point twice.
    options: dict[str, Any] = {"seed": own_seed, "multivariate": True, "constant_liar": True}
    plain = {key: to_optuna(item) for key, item in distributions.items() if not isinstance(item, Cases)}
    if len(plain) < len(distributions):
        # A group learns each case of a conditional key from its own trials.
        return TPESampler(group=True, **options)
    return _DeclaredTPE({key: item for key, item in plain.items() if not item.single()}, **options)


def gp(*, distributions: Distributions, seed: int, own_seed: int) -> BaseSampler:
    """A Gaussian process."""
    # The seeds of a search are common to all trials, but one seed's luck differs between configurations.
    return GPSampler(seed=own_seed, deterministic_objective=False)


def qmc(*, distributions: Distributions, seed: int, own_seed: int) -> BaseSampler:
    """A scrambled Sobol sequence, which Optuna counts in the study."""
    return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)


def cmaes(*, distributions: Distributions, seed: int, own_seed: int) -> BaseSampler:
    """CMA-ES."""
    return CmaEsSampler(seed=own_seed, warn_independent_sampling=False)


def random(*, distributions: Distributions, seed: int, own_seed: int) -> BaseSampler:
    """Uniform draws; of a grid nothing is left to draw, since its points are enqueued."""
    return RandomSampler(seed=own_seed)
