"""The rule that divides every source, on labels alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_bn.data.splits import stratified_split
from tune_bn.errors import DataError


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1)
)
def test_a_stratified_split_is_exact_and_proportional(counts: list[int], share: float, seed: int) -> None:
    labels = np.arange(len(counts), dtype=np.int64).repeat(counts)
    size = len(counts) + round(share * (len(labels) - len(counts)))
    chosen, rest = stratified_split(labels, size, seed)
    assert len(chosen) == size
    assert sorted([*chosen, *rest]) == list(range(len(labels)))
    assert (np.diff(chosen) > 0).all()
    assert (np.diff(rest) > 0).all()
    seats = np.bincount(labels[chosen], minlength=len(counts))
    quotas = size * np.array(counts) / len(labels)
    assert (seats >= 1).all()
    if (quotas >= 1).all():
        assert (np.abs(seats - quotas) < 1).all()


def test_the_largest_remainders_get_the_seats_that_are_left() -> None:
    labels = np.arange(3, dtype=np.int64).repeat([47, 35, 18])
    # Quotas of 10 seats: 4.7, 3.5, 1.8. Whole parts 4 + 3 + 1; the two seats left go to .8 and .7.
    assert np.bincount(labels[stratified_split(labels, 10)[0]]).tolist() == [5, 3, 2]


def test_a_rare_class_keeps_one_seat() -> None:
    labels = np.arange(2, dtype=np.int64).repeat([1000, 3])
    assert np.bincount(labels[stratified_split(labels, 100)[0]]).tolist() == [99, 1]


def test_a_split_depends_on_its_seed_alone() -> None:
    labels = np.random.default_rng(0).permutation(np.arange(10, dtype=np.int64).repeat(30))
    np.random.seed(1)  # noqa: NPY002  the global state is what must not matter
    first = stratified_split(labels, 100, seed=0)[0]
    np.random.seed(2)  # noqa: NPY002
    assert stratified_split(labels, 100, seed=0)[0].tolist() == first.tolist()
    assert stratified_split(labels, 100, seed=1)[0].tolist() != first.tolist()


def test_every_index_is_equally_likely_to_be_chosen() -> None:
    labels = np.arange(2, dtype=np.int64).repeat([20, 30])
    hits = sum(np.bincount(stratified_split(labels, 25, seed)[0], minlength=50) for seed in range(1000))
    # Each index is a fair coin tossed 1,000 times: 5 standard deviations are 79.
    assert np.abs(hits - 500).max() < 79


@pytest.mark.parametrize("size", [51, 1, 0])
def test_an_impossible_size_is_refused(size: int) -> None:
    labels = np.arange(2, dtype=np.int64).repeat([20, 30])
    with pytest.raises(DataError, match=rf"data.val_size: got {size}; accepted: an integer from 2 .* to 50"):
        stratified_split(labels, size, key="data.val_size")
