"""What rounding may have done to scores: when a difference is zero, when two are equal, when none varies.

A score such as 100·k/897 is rounded, and so is the difference of two. Whatever is closer than that rounding is equal in
truth (0.1 + 0.2 − 0.3 is 0, and 0.3 − 0.2 equals 0.8 − 0.7). The rounding is of the size of the scores of *that* pair,
so one huge score says nothing about the pairs beside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Units in the last place by which a score may be off: it is the outcome of a few operations, each off by half a unit.
_DOUBLE = 8 * float(np.finfo(np.float64).eps)
_SINGLE = 2 * float(np.finfo(np.float32).eps)
# A mean over ten thousand images, added up one by one, is off by some hundred units. Where every difference is the same
# up to that, a t statistic would be the ratio of two rounding errors.
_SUMMED = 8
_LARGEST_WHOLE = 2.0**53
_FEW_BITS = 2.0**16


def score_error(*scores: ArrayLike) -> tuple[Array, ...]:
    """How far rounding may have moved each score; for each array one of its shape, in its unit.

    Relative to the score itself: 8 units in the last place of a double; 2 of a single where every score of all arrays
    is a single that was widened (``tensor.item()``); nothing where every score is a whole number, which is exact.
    """
    arrays = [np.asarray(values, dtype=float) for values in scores]
    everything = np.concatenate([np.ravel(values) for values in arrays]) if arrays else np.zeros(0)
    relative = _relative_error(np.abs(everything[np.isfinite(everything)]))
    return tuple(relative * np.abs(values) for values in arrays)


def difference_error(first: ArrayLike, second: ArrayLike) -> Array:
    """How far rounding may have moved each of ``first − second``: the errors of both; shapes are broadcast."""
    one, other = score_error(first, second)
    return np.asarray(one + other)


def varies(values: ArrayLike, error: ArrayLike) -> NDArray[np.bool_]:
    """Whether the values along the last axis differ by more than rounding: no one number is all of them.

    Args:
        values: shape (..., n).
        error: of each value, from :func:`score_error` or :func:`difference_error`; broadcast against ``values``.

    Returns:
        Shape (...).
    """
    x, reach = np.asarray(values, dtype=float), _SUMMED * np.asarray(error, dtype=float)
    return np.asarray(np.max(x - reach, axis=-1) > np.min(x + reach, axis=-1))


def vanishes(differences: ArrayLike, error: ArrayLike) -> bool:
    """Whether every difference is zero but for rounding; shapes as for :func:`varies`."""
    return bool(np.all(np.abs(np.asarray(differences)) <= _SUMMED * np.asarray(error)))


def levels(values: ArrayLike, error: ArrayLike) -> NDArray[np.int64]:
    """The values as steps 0, 1, 2, … of their order, where what rounding cannot tell apart shares a step; shape (n,).

    Neighbours in the order share a step where they are no farther apart than their errors together.
    """
    x, reach = np.asarray(values, dtype=float), np.asarray(error, dtype=float)
    order = np.argsort(x, kind="stable")
    apart = np.diff(x[order]) > reach[order][1:] + reach[order][:-1]
    steps = np.zeros(x.size, dtype=np.int64)
    steps[order[1:]] = np.cumsum(apart)
    return steps


def scale_of(*arrays: Array) -> int:
    """The exponent e of two with the largest size in [2ᵉ⁻¹, 2ᵉ). Dividing by 2ᵉ is exact and keeps squares in range."""
    largest = max((float(np.max(np.abs(values))) for values in arrays if values.size), default=0.0)
    return int(np.frexp(largest)[1])


def mean_of(values: Array) -> float:
    """Mean of values up to 1e300, shape (n,), without leaving the range."""
    exponent = scale_of(values)
    return float(np.ldexp(np.mean(np.ldexp(values, -exponent)), exponent))


def std_of(values: Array) -> float:
    """Standard deviation (ddof = 1) of values up to 1e300, shape (n,), without leaving the range."""
    exponent = scale_of(values)
    return float(np.ldexp(np.std(np.ldexp(values, -exponent), ddof=1), exponent))


def _relative_error(sizes: Array) -> float:
    if np.all((sizes == np.floor(sizes)) & (sizes <= _LARGEST_WHOLE)):
        return 0.0
    with np.errstate(over="ignore"):
        single = np.all(sizes.astype(np.float32).astype(float) == sizes)
    if single:
        # Halves and quarters are singles, too, but exact ones.
        fractions = np.frexp(sizes)[0] * _FEW_BITS
        return _SINGLE if np.any(fractions != np.floor(fractions)) else _DOUBLE
    return _DOUBLE
