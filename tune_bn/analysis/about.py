"""What a verdict is about, in sentences: sources of variation, how the baseline was tuned, tails that no test sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tune_bn.analysis.plan import score_of
from tune_bn.records.provenance import POOL
from tune_bn.records.record import DIVERGED, FAILED, PRUNED, Record
from tune_bn.records.score import accuracy

FIXED_SPLIT = "the split into training and validation images, which is the same for every run"
SEEDED_SPLIT = "the split into training and validation images (drawn anew by each seed)"


def covers(plan: Mapping[str, Any], records: Sequence[Record], *, with_images: bool) -> str:
    """What the verdict is about: which factors of variability it captures, and which not.

    In the words of the NeurIPS paper checklist, which asks that "the factors of variability that the error bars are
    capturing should be clearly stated (for example, train/test split, initialization, random drawing of some parameter,
    or overall run with given experimental conditions)".
    """
    if _of_images(plan):
        images, split = "the drawing of the test images", FIXED_SPLIT
        captured = "initialization, order and augmentation of the training images (overall runs on fresh seeds)"
        if POOL in (plan.get("data") or {}):
            split = "other images to draw splits from"
            captured = f"{SEEDED_SPLIT}, {captured}"
    else:
        images = "the drawing of the test data"
        split = "the split of the data, where the training code does not draw it"
        captured = "what the seed decides in the training code (overall runs on fresh seeds)"
    missing = [split, *([] if with_images else [images]), "other data"]
    beside = f"; the interval over seeds × test images captures {images} as well" if with_images else ""
    return (
        f"Factors of variability captured by the test: {captured}{beside}. Not captured: "
        f"{', '.join(missing[:-1])}, and {missing[-1]}. {tuning(plan, records)}"
    )


def _of_images(plan: Mapping[str, Any]) -> bool:
    """Whether the built-in loop trained, of which it is known what the seed decides: it scores accuracy of images."""
    score = score_of(plan)
    data = plan.get("data")
    return (not data or "classes" in data) and score == accuracy(score.test, score.diverged)


def tuning(plan: Mapping[str, Any], records: Sequence[Record]) -> str:
    """Whether the baseline was tuned, and with how many trials beside the candidates'."""
    trials: dict[str, set[int]] = {}
    for record in records:
        if record.stage == "search" and record.trial is not None:
            trials.setdefault(record.arm, set()).add(record.trial)
    searched = any("selection" in arm for arm in plan["candidates"])
    base, candidate = (len(trials.get(name, ())) for name in ("baseline", "candidate"))
    if "selection" in plan["baseline"]:
        equal = (
            "as many trials as the candidates"
            if base >= candidate
            else f"fewer trials than the candidates' {candidate}"
        )
        return f"The baseline was tuned with {equal} ({base})."
    against = f"; the candidates are the best of {candidate} configurations" if searched and candidate else ""
    return f"The baseline is at its stated setting, not tuned{against}."


def tail_remarks(plan: Mapping[str, Any], records: Sequence[Record]) -> Iterator[str]:
    """Candidates of which some run, in whatever stage, diverged: no test of their mean is to be trusted.

    A rare divergence makes a long left tail. Where the confirmation happens to have none, all differences look like a
    steady gain, and neither the t-test nor one of ranks or signs sees what is missing: with a mean effect of exactly 0
    and 5 % of runs that fall to guessing, the paired t-test on 15 seeds calls a gain in 46 % of 20,000 simulated
    studies, every one of them without a divergence among its seeds.
    """
    for arm in plan["candidates"]:
        runs = [
            record
            for record in records
            if record.status not in (FAILED, PRUNED)
            and (record.arm == arm["arm"] or (record.stage != "confirm" and record.arm != "baseline"))
            and (record.config == arm["config"] or record.arm == arm["arm"])
        ]
        bad = sum(record.status == DIVERGED for record in runs)
        if bad:
            yield (
                f"{arm['arm']} diverged in {bad} of the {len(runs)} whole runs of its configuration, so its differences"
                " have a long left tail: a gain of its mean must not be trusted on so few seeds, whatever the test "
                "(statistics.md)"
            )
