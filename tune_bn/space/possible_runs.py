"""Which runs a space may come to, as far as the network and its batches are concerned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from tune_bn.protocols.distributions import Cases, Choice, Distribution
from tune_bn.records.record import BASELINE
from tune_bn.space.search import SearchSpace
from tune_bn.space.space import Space
from tune_bn.training.config import RunConfig


@dataclass(frozen=True)
class BatchSizes:
    """The sizes of batches that a group of runs may have."""

    place: str
    """Key that decides them, such as ``train.batch_size``."""
    stated: tuple[int, ...]
    """Those that the space names: the value, all choices, the ends of ranges."""
    ranges: tuple[tuple[int, int], ...] = ()
    """Whole numbers between which a search may propose any."""

    def leaving_one(self, images: int) -> tuple[list[int], list[int]]:
        """Stated sizes that leave a last batch of one of so many images, and others within the ranges."""
        # One image is left over where the size divides the number of the others.
        others = images - 1
        stated = [size for size in self.stated if images % size == 1]
        small = [d for d in range(1, math.isqrt(others) + 1) if others % d == 0] if self.ranges else []
        divisors = {*small, *(others // d for d in small)} - set(self.stated)
        inside = {d for d in divisors for low, high in self.ranges if max(low, 2) <= d <= high}
        return stated, sorted(inside)

    def images_that_leave_none(self, images: int, least: int) -> int | None:
        """The largest number of images, below this one, of which none of these sizes leaves one; None: none is near."""
        near = range(images - 1, max(least, images - 1000, 2) - 1, -1)
        return next((count for count in near if not any(self.leaving_one(count))), None)

    def batches(self, images: int) -> tuple[int, ...]:
        """Sizes of full and of last batches of an epoch, for the stated sizes."""
        sizes = {min(size, images): None for size in self.stated}
        return tuple(sizes | {images % size: None for size in self.stated if images % size})


@dataclass(frozen=True)
class PossibleRuns:
    """Runs that differ in numbers alone."""

    config: RunConfig
    """One of them."""
    sizes: BatchSizes


def possible_runs(space: Space) -> Iterator[PossibleRuns]:
    """Every combination of words and switches: those of the baseline, arms and proposals, in each setting."""
    given = [("", proposal) for proposal in _proposals(space.searched) if proposal]
    given += [
        ("claim.baseline", {**proposal, **space.baseline}) for proposal in _proposals(space.searched_by(BASELINE))
    ]
    given += [(f"claim.arms.{name}", space.arm_config(name)) for name in space.claim.arms]
    for name, setting in [("", {}), *space.claim.across.items()]:
        for place, arm in given:
            own = {f"claim.across.{name}": setting, place: arm}
            yield PossibleRuns(space.run_config({**arm, **setting}), _sizes(space, arm, own))


def _proposals(searched: SearchSpace) -> Iterator[dict[str, Any]]:
    """One proposal of numbers, with every combination of the words and switches that are searched."""
    found = searched.distributions
    proposal = {key: distribution.corners[0] for key, distribution in found.items()}
    kinds = {key: found[key].corners for key, value in proposal.items() if isinstance(value, str | bool)}
    for values in product(*kinds.values()):
        yield proposal | dict(zip(kinds, values, strict=True))


def single_run(config: RunConfig) -> PossibleRuns:
    """A run that is no part of a study."""
    return PossibleRuns(config, BatchSizes("train.batch_size", (config.train.batch_size,)))


def _sizes(space: Space, arm: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> BatchSizes:
    searched = space.distributions.get("batch_size")
    if searched is not None:
        if isinstance(searched, Cases) and searched.key in arm:
            searched = searched.given(arm[searched.key])
        ranges = tuple((int(low), int(high)) for low, high in _ranges(searched))
        return BatchSizes("search.batch_size", tuple(dict.fromkeys(searched.corners)), ranges)
    for place, values in own.items():
        if "batch_size" in values:
            return BatchSizes(f"{place}.batch_size", (values["batch_size"],))
    return BatchSizes("train.batch_size", (space.train.batch_size,))


def _ranges(distribution: Distribution) -> list[tuple[float, float]]:
    if isinstance(distribution, Cases):
        return [ends for _, part in distribution.cases for ends in _ranges(part)]
    return [] if isinstance(distribution, Choice) else [(distribution.low, distribution.high)]
