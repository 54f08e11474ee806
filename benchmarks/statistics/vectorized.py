"""The decisions of a confirmation for many simulated studies at once, by the functions of ``tune_bn.analysis``.

Arrays have one study per row. A test ties :func:`sequential_decisions` to ``tune_bn.analysis.sequential.decide``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.statistics.simulation import AGREEMENT
from tune_bn.analysis.paired import holm, paired_t_statistics
from tune_bn.analysis.sequential import Design
from tune_bn.analysis.spending import repeated_p

Array = NDArray[np.float64]
BATCH = 5000


@dataclass(frozen=True)
class Decided:
    """What a confirmation says of each candidate; shapes (studies, candidates)."""

    supported: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    """Pairs up to the look that ended the candidate."""
    ci_low: Array
    """One-sided lower bound at 1 − alpha."""
    ci_from: Array
    ci_to: Array
    """Two-sided interval at 1 − 2·alpha, which belongs to the one-sided test."""


def batches(studies: int) -> Iterator[int]:
    """Sizes of batches that fit the memory."""
    while studies > 0:
        yield min(studies, BATCH)
        studies -= BATCH


def draw(rng: np.random.Generator, studies: int, arms: int, seeds: int, *, rho: float) -> tuple[Array, Array]:
    """Standardized validation and test scores, shape (studies, arms, seeds), in the model of
    ``benchmarks.statistics.simulation``: arms correlate with ``rho`` over seeds, the two scores of a run
    with :data:`AGREEMENT`.
    """

    def noise() -> Array:
        shared, own = rng.standard_normal((studies, 1, seeds)), rng.standard_normal((studies, arms, seeds))
        return np.asarray(np.sqrt(rho) * shared + np.sqrt(1 - rho) * own)

    val, other = noise(), noise()
    return val, AGREEMENT * val + np.sqrt(1 - AGREEMENT**2) * other


def best(scores: Array, places: int) -> NDArray[np.int64]:
    """Indices of the best arms of each study, best first: (studies, arms) → (studies, places)."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :places]


def pick(values: Array, arms: NDArray[np.int64]) -> Array:
    """The scores of these arms: (studies, arms, seeds) and (studies, places) → (studies, places, seeds)."""
    return np.take_along_axis(values, arms[:, :, None], axis=1)


def fixed_decisions(candidates: Array, baseline: Array, alpha: float) -> Decided:
    """The fixed design with Holm's correction; candidates (studies, k, n), baseline (studies, 1, n)."""
    _, p_value, ci_low = paired_t_statistics(candidates, baseline, alpha=alpha)
    effect = (candidates - baseline).mean(axis=-1)
    pairs = np.full(effect.shape, candidates.shape[-1])
    return Decided(holm(p_value) <= alpha, pairs, ci_low, ci_low, 2 * effect - ci_low)


def sequential_decisions(candidates: Array, baseline: Array, rule: Design) -> Decided:
    """The group-sequential design with Holm's correction at each look; shapes as in :func:`fixed_decisions`."""
    looks = np.array(rule.looks)
    differences = candidates - baseline
    total, squares = (np.cumsum(x, axis=-1)[..., looks - 1] for x in (differences, differences**2))
    mean, variance = total / looks, np.maximum(squares - total**2 / looks, 0) / (looks - 1)
    # Whole images make equal differences at an early look; they decide nothing.
    varied = variance > 1e-9
    error = np.sqrt(variance / looks)
    t = mean / np.where(varied, error, 1)
    p = repeated_p(rule.looks, np.where(varied, special.stdtr(looks - 1, -t), 1))
    running = np.ones(mean.shape[:-1], dtype=bool)
    supported, ended = np.zeros_like(running), np.full(running.shape, len(looks) - 1)
    latest = np.ones(running.shape)
    for k in range(len(looks)):
        latest = np.where(running, p[..., k], latest)
        shown = running & (holm(latest) <= rule.alpha)
        if rule.futility_t is None or k == len(looks) - 1:
            futile = np.zeros_like(shown)
        else:
            futile = running & varied[..., k] & (t[..., k] < rule.futility_t[k])
        stops = shown | futile if k < len(looks) - 1 else running
        supported |= shown
        ended = np.where(stops, k, ended)
        running &= ~stops

    def at_end(values: Array) -> Array:
        return np.take_along_axis(values, ended[..., None], axis=-1)[..., 0]

    effect, error = at_end(mean), at_end(error)
    reach = np.array(rule.efficacy)[ended] * error
    return Decided(supported, looks[ended], effect - reach, effect - reach, effect + reach)
