"""Does the whole chain keep its level? All configurations are equal, 50 are searched: how often is one "supported"?

    python -m benchmarks.statistics.calibration [--studies 100000] [--whole 300] [--jobs 1]

Search, select, plan, confirm and verify, on two levels:

- *decisions*: vectorized, the decisions of each stage on simulated scores, by the functions of ``tune_bn.analysis``;
- *whole*: :class:`tune_bn.study.study.Study` with Optuna's TPE, records, plan and verdict on disk; the
  training is simulated.

The naive pipelines judge the winner of the same search on seeds that chose it. Coverage is that of the one-sided lower
bound of the effect, at 95 %, and of the two-sided interval that begins there, at 90 %, where every candidate gains 0.5
points.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.results import in_processes, markdown, rate_words, save, stamp
from benchmarks.statistics.simulation import Laboratory, scratch, simulated_study
from benchmarks.statistics.surrogates import Equal, Point, point_of
from benchmarks.statistics.vectorized import Array, batches, best, draw, fixed_decisions, pick, sequential_decisions
from tune_bn.analysis.paired import paired_t_test
from tune_bn.analysis.sequential import design
from tune_bn.analysis.verdict import renew_verdict
from tune_bn.records.record import SEARCH
from tune_bn.records.verdict import known
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space

ALPHA, GAIN = 0.05, 0.5
SEARCHED, SELECT_SEEDS, CONFIRM_SEEDS = 50, 3, 15
CANDIDATES, RHOS, STOPPINGS = (1, 3, 6), (0.0, 0.5), ("fixed", "group_sequential")
VAL_IMAGES, TEST_IMAGES = 600, 897
BASELINE_POINT = Point(1.0, 1.0, 0.1)
NAIVE = {
    "naive": "the winner of the search, judged on the 15 seeds and by the validation scores that chose it",
    "naive, test scores": "the same runs, judged by their test accuracy",
    "naive, rerun": "chosen on one seed; run again with that seed and 14 more, judged by the score that chose it",
}


@dataclass(frozen=True)
class Setting:
    """One line of the results."""

    level: str
    """``decisions`` or ``whole``."""
    rho: float
    gain: float
    candidates: int
    stopping: str


def whole_images(scores: Array, surrogate: Equal, gains: Array | float, images: int) -> Array:
    """Standardized scores as accuracies in percent of whole images."""
    return np.round((surrogate.level + gains + surrogate.spread * scores) / 100 * images) * 100 / images


def decisions(setting: Setting, studies: int) -> dict[str, Any]:
    """A row of the results: the chain, vectorized."""
    rng = np.random.default_rng([7, round(100 * setting.rho), round(100 * setting.gain), setting.candidates])
    surrogate, rule, k = Equal(gain=setting.gain), design(alpha=ALPHA), setting.candidates
    totals = np.zeros(5, dtype=int)
    for size in batches(studies):
        search, _ = draw(rng, size, SEARCHED, 1, rho=setting.rho)
        finalists = best(whole_images(search[..., 0], surrogate, setting.gain, VAL_IMAGES), max(3, k))
        select, _ = draw(rng, size, SEARCHED, SELECT_SEEDS, rho=setting.rho)
        means = whole_images(pick(select, finalists), surrogate, setting.gain, VAL_IMAGES).mean(axis=-1)
        chosen = np.take_along_axis(finalists, best(means, k), axis=1)
        _, confirm = draw(rng, size, SEARCHED + 1, CONFIRM_SEEDS, rho=setting.rho)
        baseline = whole_images(confirm[:, :1], surrogate, 0.0, TEST_IMAGES)
        candidates = whole_images(pick(confirm[:, 1:], chosen), surrogate, setting.gain, TEST_IMAGES)
        if setting.stopping == "fixed":
            found = fixed_decisions(candidates, baseline, ALPHA)
        else:
            found = sequential_decisions(candidates, baseline, rule)
        covers_two = (found.ci_from <= setting.gain) & (setting.gain <= found.ci_to)
        totals += [
            int(found.supported.any(axis=1).sum()),
            int((found.ci_low <= setting.gain).sum()),
            int(covers_two.sum()),
            int(found.pairs.sum()),
            int(found.pairs.max(axis=1).sum()),
        ]
    return _row(setting, studies, *map(int, totals))


def naive_decisions(rho: float, studies: int) -> list[dict[str, Any]]:
    """Rows of the results: the naive pipelines, vectorized."""
    rng, surrogate = np.random.default_rng([11, round(100 * rho)]), Equal()
    hits = dict.fromkeys(NAIVE, 0)
    for size in batches(studies):
        val, test = draw(rng, size, SEARCHED + 1, CONFIRM_SEEDS, rho=rho)
        val = whole_images(val, surrogate, 0.0, VAL_IMAGES)
        test = whole_images(test, surrogate, 0.0, TEST_IMAGES)
        winner, first = best(val[:, 1:].mean(axis=-1), 1), best(val[:, 1:, 0], 1)
        for name, scores, arm in zip(NAIVE, (val, test, val), (winner, winner, first), strict=True):
            hits[name] += int(fixed_decisions(pick(scores[:, 1:], arm), scores[:, :1], ALPHA).supported.sum())
    return [_naive_row("decisions", name, rho, studies, found) for name, found in hits.items()]


def space_of(setting: Setting, seed: int) -> Space:
    """A space of the digits study's kind; nothing is stopped early, so that every trial may win."""
    return parse_space(
        {
            "name": "null",
            "model": {"arch": "resnet8"},
            "data": {"source": "digits", "val_size": VAL_IMAGES, "test_size": TEST_IMAGES},
            "train": {"epochs": 2},
            "search": {"gamma": {"log_uniform": [0.01, 1.0]}, "c": {"log_uniform": [1, 1000]}},
            "sampler": {"name": "tpe", "seed": seed},
            "scheduler": {"name": "none"},
            "budget": {"trials": SEARCHED, "finalists": max(3, setting.candidates)},
            "seeds": {
                "search": [101],
                "select": list(range(201, 201 + SELECT_SEEDS)),
                "confirm": list(range(1, 1 + CONFIRM_SEEDS)),
            },
            "claim": {"candidates": setting.candidates, "alpha": ALPHA, "stopping": setting.stopping},
        },
        "null",
    )


def whole_study(case: tuple[Setting, int]) -> dict[str, Any]:
    """What one study on disk says, and what the naive pipelines say of its search."""
    setting, replicate = case
    laboratory = Laboratory(
        Equal(gain=setting.gain), replicate, setting.rho, val_images=VAL_IMAGES, test_images=TEST_IMAGES
    )
    space = space_of(setting, replicate)
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        study = simulated_study(Path(folder) / "study", space, laboratory)
        study.run()
        verdict = renew_verdict(study.folder.path)
        records = study.folder.records.read()
    if verdict.is_invalid:
        raise RuntimeError(f"{setting}, replicate {replicate}: {verdict.reason}")
    intervals = [known(arm.ci) for arm in verdict.candidates]
    searched = [point_of(space.run_config(record.config)) for record in records if record.stage == SEARCH]
    return {
        "supported": verdict.is_supported,
        "ci_low": [known(arm.ci_low) <= setting.gain for arm in verdict.candidates],
        "ci": [known(low) <= setting.gain <= known(high) for low, high in intervals],
        "pairs": [arm.n for arm in verdict.candidates],
        "naive": naive_verdicts(laboratory, searched),
    }


def naive_verdicts(laboratory: Laboratory, searched: Sequence[Point]) -> list[bool]:
    """What each of the naive pipelines would call better, in the order of :data:`NAIVE`."""
    seeds = range(1, 1 + CONFIRM_SEEDS)
    runs = {point: [laboratory.scores(point, seed) for seed in seeds] for point in (*searched, BASELINE_POINT)}
    found = []
    for kind, chosen_on in ((0, CONFIRM_SEEDS), (1, CONFIRM_SEEDS), (0, 1)):
        winner = max(searched, key=lambda point: fmean(val for val, _ in runs[point][:chosen_on]))
        arms = ([scores[kind] for scores in runs[point]] for point in (winner, BASELINE_POINT))
        found.append(paired_t_test(*arms, alpha=ALPHA).p_value <= ALPHA)
    return found


def whole(setting: Setting, replicates: int, jobs: int) -> tuple[dict[str, Any], list[list[bool]]]:
    """A row of the results: studies on disk, and what the naive pipelines say of each."""
    found = in_processes(whole_study, [(setting, replicate) for replicate in range(replicates)], jobs)
    supported, one_sided, two_sided, pairs, baseline = (
        sum(of(one) for one in found)
        for of in (
            lambda one: int(one["supported"]),
            lambda one: sum(one["ci_low"]),
            lambda one: sum(one["ci"]),
            lambda one: sum(one["pairs"]),
            lambda one: max(one["pairs"]),
        )
    )
    row = _row(setting, replicates, supported, one_sided, two_sided, pairs, baseline)
    return row, [one["naive"] for one in found]


def _row(
    setting: Setting, studies: int, supported: int, one_sided: int, two_sided: int, pairs: int, baseline: int
) -> dict[str, Any]:
    return {
        "level": setting.level,
        "pipeline": setting.stopping,
        "candidates": setting.candidates,
        "rho": setting.rho,
        "gain": setting.gain,
        "studies": studies,
        "supported": supported,
        "covered_one_sided": one_sided,
        "covered_two_sided": two_sided,
        "intervals": studies * setting.candidates,
        "mean_pairs": round(pairs / studies / setting.candidates, 3),
        "mean_baseline_runs": round(baseline / studies, 3),
    }


def _naive_row(level: str, name: str, rho: float, studies: int, supported: int) -> dict[str, Any]:
    nothing = dict.fromkeys(("covered_one_sided", "covered_two_sided", "intervals", "mean_pairs", "mean_baseline_runs"))
    head = {"level": level, "pipeline": name, "candidates": 1, "rho": rho, "gain": 0.0}
    return head | {"studies": studies, "supported": supported} | nothing


def tables(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The tables by their titles."""
    null = [("pipeline", "candidates", "ρ", "level", "studies", "called better where nothing is (95 % interval)")]
    null += [
        (
            row["pipeline"],
            str(row["candidates"]),
            f"{row['rho']:g}",
            row["level"],
            f"{row['studies']:,}",
            rate_words(row["supported"], row["studies"]),
        )
        for row in sorted(rows, key=lambda row: row["pipeline"] in NAIVE)
        if row["gain"] == 0
    ]
    covered = [("stopping", "ρ", "level", "intervals", "lower bound covers", "interval covers", "pairs", "found")]
    covered += [
        (
            row["pipeline"],
            f"{row['rho']:g}",
            row["level"],
            f"{row['intervals']:,}",
            rate_words(row["covered_one_sided"], row["intervals"]),
            rate_words(row["covered_two_sided"], row["intervals"]),
            f"{row['mean_pairs']:.1f}",
            rate_words(row["supported"], row["studies"]),
        )
        for row in rows
        if row["gain"]
    ]
    legend = "; ".join(f"*{name}*: {words}" for name, words in NAIVE.items())
    return {
        f"**{SEARCHED} equal configurations searched, α = {ALPHA:g}, Holm's correction** ({legend})": markdown(null),
        f"**Coverage of the one-sided 95 % bound and the two-sided 90 % interval where every candidate gains {GAIN:g} "
        "points** (1 candidate)": markdown(covered),
    }


def main() -> None:
    """Run it all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000, help="of each vectorized setting")
    parser.add_argument("--whole", type=int, default=300, help="studies on disk of each setting")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    started = time.monotonic()
    rows = []
    for level, stopping, candidates, rho in product(("decisions", "whole"), STOPPINGS, CANDIDATES, RHOS):
        setting = Setting(level, rho, 0.0, candidates, stopping)
        if level == "decisions":
            rows.append(decisions(setting, given.studies))
            continue
        row, naive = whole(setting, given.whole, given.jobs)
        rows.append(row)
        # Every setting of a ρ searches the same studies; one of them stands for all.
        if (stopping, candidates) == ("fixed", 1):
            hits = np.sum(naive, axis=0)
            make = partial(_naive_row, level, rho=rho, studies=given.whole)
            rows += [make(name, supported=int(count)) for name, count in zip(NAIVE, hits, strict=True)]
    rows += [row for rho in RHOS for row in naive_decisions(rho, given.studies)]
    for stopping, rho in product(STOPPINGS, RHOS):
        rows.append(decisions(Setting("decisions", rho, GAIN, 1, stopping), given.studies))
    for stopping in STOPPINGS:
        rows.append(whole(Setting("whole", 0.5, GAIN, 1, stopping), given.whole, given.jobs)[0])
    save("calibration", rows, stamp(started), tables(rows))


if __name__ == "__main__":
    main()
