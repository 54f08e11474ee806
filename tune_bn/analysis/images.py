"""An interval over seeds × test images: what would a fresh seed *and* fresh test images give?

The test over seeds takes the test images as they are. With d_si the difference, candidate − baseline, of whether image
i is right under seed s (−1, 0, 1), n seeds and M images, both drawn at random,

    d_si = μ + a_s + b_i + e_si,   var(mean) = σ²_a/n + σ²_b/M + σ²_e/(nM),

estimated by V = V_s + max(0, V_i − V_e) with V_s = var(means over images)/n, V_i = var(means over seeds)/M and
V_e = MS_e/(nM), the residual mean square of the two-way layout without replication. V is never below V_s, so that the
interval is never shorter than the one over seeds. Degrees of freedom by Satterthwaite: V² / Σ V_k²/df_k over the parts,
(n − 1), (M − 1) and (n − 1)(M − 1). The interval is mean ± t·√V.

Sources: Searle, Casella & McCulloch, Variance Components, 1992, ch. 4; Cameron, Gelbach & Miller, J. Bus. Econ. Stat.
29, 2011, on V_s + V_i − V_e; Satterthwaite, Biometrics Bulletin 2, 1946. Coverage: ``benchmarks/statistics/images.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tune_bn.analysis.untested import tested
from tune_bn.errors import RecordError
from tune_bn.records.per_image import AlteredError, is_share_right, read_bits
from tune_bn.records.plan import Plan
from tune_bn.records.record import COMPLETED, CONFIRM, Record
from tune_bn.records.score import LARGEST_RECORDED
from tune_bn.records.verdict import Candidate, known
from tune_bn.records.verdict_details import Described, OverImages, TwoWay

Bits = NDArray[np.int8]


def two_way_interval(candidate: Bits, baseline: Bits, *, level: float) -> TwoWay | None:
    """The interval of the effect over seeds × images, two-sided at 1 − 2·level.

    Null of the test that belongs to it: no difference over the population of seeds and of images like these. Assumes
    seeds and images independent draws, and a mean that is about normal. Not for few images (below about 100), nor for
    images that come in groups (frames of a film, patches of a slide), which are no independent draws.

    Args:
        candidate, baseline: whether each image is right, shape (n, M), the same seeds and images in the same order.
        level: of each end.

    Returns:
        None where there are fewer than two seeds or images, or the differences have no spread.
    """
    n, m = candidate.shape
    if n < 2 or m < 2:
        return None
    differences = candidate.astype(np.int8) - baseline.astype(np.int8)
    total = int(differences.sum(dtype=np.int64))
    by_seed, by_image = differences.mean(axis=1), differences.mean(axis=0)
    mean = total / (n * m)
    squares = float(np.count_nonzero(differences))
    ss_seed = m * float(np.sum((by_seed - mean) ** 2))
    ss_image = n * float(np.sum((by_image - mean) ** 2))
    ss_rest = max(0.0, squares - n * m * mean**2 - ss_seed - ss_image)
    ms_seed, ms_image, ms_rest = ss_seed / (n - 1), ss_image / (m - 1), ss_rest / ((n - 1) * (m - 1))
    variance, df, share = two_way_variance(ms_seed / (n * m), ms_image / (n * m), ms_rest / (n * m), n, m)
    if not variance > 0:
        return None
    reach = -float(special.stdtrit(df, level)) * math.sqrt(variance)
    return TwoWay(
        effect=100 * mean,
        low=100 * (mean - reach),
        high=100 * (mean + reach),
        df=float(df),
        seeds=n,
        images=m,
        sd_seeds=100 * math.sqrt(max(0.0, ms_seed - ms_rest) / m),
        sd_images=100 * math.sqrt(max(0.0, ms_image - ms_rest) / n),
        sd_rest=100 * math.sqrt(ms_rest),
        share_images=float(share),
    )


def two_way_variance(seeds: Any, images: Any, rest: Any, n: int, m: int) -> tuple[Any, Any, Any]:
    """Variance of the mean, its degrees of freedom, and the share of the images in it.

    Args:
        seeds, images, rest: mean squares of the two-way layout, divided by n·m; numbers or arrays.
        n, m: seeds and images.
    """
    extra = np.maximum(0.0, images - rest)
    variance = seeds + extra
    counted = extra > 0
    spread = seeds**2 / (n - 1) + np.where(counted, images**2 / (m - 1) + rest**2 / ((n - 1) * (m - 1)), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(spread > 0, variance**2 / spread, n - 1.0)
        share = np.where(variance > 0, extra / variance, 0.0)
    return variance, np.maximum(df, n - 1.0), share


OUTCOMES = ("loss", "brier", "calibration_error", "worst_class")


@dataclass(frozen=True)
class TestImages:
    """What the files of test images beside a study say of its confirmed runs."""

    __test__ = False
    right: Mapping[str, Bits]
    """By key of the run which images it got right, (images,)."""
    altered: Sequence[str]
    """Files that are there and are not what the record of their run tells of, one sentence each."""
    missing: Sequence[str]
    """Files that are not there, which proves nothing, one sentence each."""


def read_images(folder: Path, records: Sequence[Record]) -> TestImages:
    """The files of the confirmed runs whose records tell of one."""
    right: dict[str, Bits] = {}
    altered, missing = [], []
    for record in _with_images(records).values():
        try:
            raw = read_bits(folder, record.key, record.test)
        except AlteredError as error:
            altered.append(str(error))
        except RecordError as error:
            missing.append(str(error))
        else:
            bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little", count=record.test["images"])
            right[record.key] = bits.astype(np.int8)
    return TestImages(right, altered, missing)


def _with_images(records: Sequence[Record]) -> dict[tuple[str, int], Record]:
    """By arm and seed the confirmed runs whose record tells of their test images."""
    return {
        (r.arm, r.seed): r
        for r in records
        if r.stage == CONFIRM and r.status == COMPLETED and isinstance(r.test, Mapping) and r.test
    }


def over_images(
    images: TestImages, plan: Plan, records: Sequence[Record], candidates: Sequence[Candidate]
) -> tuple[dict[str, OverImages], list[str]]:
    """For each candidate of a valid verdict the interval over seeds × images; and what asks to be said.

    Returns:
        By candidate the interval with its confidence, or nothing where a run's images are not known;
        and remarks, one sentence each, on files that are missing.
    """
    remarks = [f"the interval over test images leaves out what cannot be read: {one}" for one in images.missing]
    # Of a score that is no percentage the images say nothing.
    bits = {
        place: images.right[record.key]
        for place, record in _with_images(records).items()
        if record.key in images.right
        and plan.metric in record.scores
        and is_share_right(record.scores[plan.metric], record.test)
    }
    found: dict[str, OverImages] = {}
    for arm in tested(candidates):
        seeds = plan.seeds[: arm.n]
        places = [[(name, seed) for seed in seeds] for name in (arm.arm, known(arm.against))]
        if not all(place in bits for side in places for place in side):
            continue
        sizes = {bits[place].size for side in places for place in side}
        if len(sizes) == 1:
            one, two = (np.stack([bits[place] for place in side]) for side in places)
            interval = two_way_interval(one, two, level=plan.alpha)
            if interval is not None:
                found[arm.arm] = OverImages(**vars(interval), confidence=1 - 2 * plan.alpha)
    if len(remarks) > 2:
        remarks = [remarks[0], f"{len(remarks) - 1} more files of test images are like this"]
    return found, remarks


def _number_in(test: object, name: str) -> float | None:
    """A number of which sums and squares are numbers still; None where a record states another, or nothing."""
    value: Any = test.get(name) if isinstance(test, Mapping) else None
    return float(value) if type(value) in (int, float) and -LARGEST_RECORDED <= value <= LARGEST_RECORDED else None


def other_outcomes(plan: Plan, records: Sequence[Record]) -> dict[str, dict[str, Described]]:
    """By arm the mean and standard deviation over seeds of what is described beside the score, where it is known."""
    found: dict[str, dict[str, Described]] = {}
    for arm in plan.arms:
        runs = [r for r in records if r.stage == CONFIRM and r.arm == arm.arm and r.status == COMPLETED]
        for name in OUTCOMES:
            values = [value for r in runs if (value := _number_in(r.test, name)) is not None]
            if len(values) == len(runs) > 1:
                numbers = Described(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))
                found.setdefault(arm.arm, {})[name] = numbers
    return found
