"""What a verdict is about, in sentences: sources of variation, how the baseline was tuned, tails that no test sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy import special

from tune_bn.analysis.plan import claim_by
from tune_bn.records.plan import Plan
from tune_bn.records.provenance import POOL
from tune_bn.records.record import BASELINE, CONFIRM, DIVERGED, FAILED, PRUNED, Record
from tune_bn.records.score import accuracy
from tune_bn.records.verdict import Candidate, known
from tune_bn.records.verdict_details import Divergence

FIXED_SPLIT = "the split into training and validation images, which is the same for every run"
SEEDED_SPLIT = "the split into training and validation images (drawn anew by each seed)"


def covers(plan: Plan, records: Sequence[Record], arms: Sequence[Candidate], *, with_images: bool) -> str:
    """What the verdict is about: which factors of variability it captures, and which not.

    In the words of the NeurIPS paper checklist, which asks that "the factors of variability that the error bars are
    capturing should be clearly stated (for example, train/test split, initialization, random drawing of some parameter,
    or overall run with given experimental conditions)".

    Args:
        arms: the candidates of the verdict, with their ``divergence``.
        with_images: whether there is an interval over seeds × test images.
    """
    if _of_images(plan):
        images, split = "the drawing of the test images", FIXED_SPLIT
        captured = "initialization, order and any augmentation of the training images (overall runs on fresh seeds)"
        if POOL in (plan.data or {}):
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
        f"{', '.join(missing[:-1])}, and {missing[-1]}. {tuning(plan, records)}{divergence_words(plan, arms)}"
    )


def _of_images(plan: Plan) -> bool:
    """Whether the built-in loop trained, of which it is known what the seed decides: it scores accuracy of images."""
    score, data = plan.score, plan.data
    return (not data or "classes" in data) and score == accuracy(score.test, score.diverged)


def tuning(plan: Plan, records: Sequence[Record]) -> str:
    """Whether the baseline was tuned, and with how many trials beside the candidates'."""
    trials: dict[str, set[int]] = {}
    for record in records:
        if record.stage == "search" and record.trial is not None:
            trials.setdefault(record.arm, set()).add(record.trial)
    searched = any(arm.selection is not None for arm in plan.candidates)
    base, candidate = (len(trials.get(name, ())) for name in ("baseline", "candidate"))
    if plan.baseline.selection is not None:
        equal = (
            "as many trials as the candidates"
            if base >= candidate
            else f"fewer trials than the candidates' {candidate}"
        )
        return f"The baseline was tuned with {equal} ({base}).{_rivals_words(plan)}"
    against = f"; the candidates are the best of {candidate} configurations" if searched and candidate else ""
    return f"The baseline is at its stated setting, not tuned{against}."


def _rivals_words(plan: Plan) -> str:
    """What a candidate had to be better than beside the baseline that was chosen; empty where that was all."""
    if not plan.rivals:
        return ""
    most = plan.most_opponents
    each = "both" if most == 2 else f"each of {most}"
    return (
        f" A candidate had to hold against {each} tunings of the baseline, among them the baseline at the candidate's "
        "own tuning, so that a luckier tuning alone is no gain."
    )


def divergence(plan: Plan, records: Sequence[Record], arm: Candidate) -> Divergence | None:
    """How often a candidate may diverge for all that is known, and how rare a divergence would undo its gain.

    ``upper`` is the one-sided Clopper and Pearson (Biometrika 26, 1934) bound of the rate at 1 − alpha, of all whole
    runs of the configuration: 1 − alpha^(1/n) where none of n diverged. ``undoing`` is the rate r with
    r·(mean − score of a diverged run) = effect − null: at that rate the mean gain would be no more than was claimed.

    Args:
        arm: of a valid verdict.

    Returns:
        None where there is no whole run; its ``undoing`` is None where the score declares none for a diverged run, or
        there is no gain.
    """
    runs = whole_runs(records, arm.arm, arm.config)
    if not runs:
        return None
    bad = sum(record.status == DIVERGED for record in runs)
    score, gain = plan.score, known(arm.effect) - claim_by(plan).null
    upper = 1.0 if bad == len(runs) else float(special.betaincinv(bad + 1, len(runs) - bad, 1 - plan.alpha))
    drop = None if score.diverged is None else score.objective(known(arm.mean)) - score.objective(score.diverged)
    undoing = gain / drop if drop is not None and drop > gain > 0 else None
    return Divergence(runs=len(runs), diverged=bad, upper=upper, undoing=undoing)


def divergence_words(plan: Plan, arms: Sequence[Candidate]) -> str:
    """Of the candidates that are supported, the one of which least is known; empty where no divergence matters."""
    told = [
        (found.upper - found.undoing, arm.arm, found)
        for arm in arms
        if arm.supported and (found := arm.divergence) is not None and found.undoing is not None
    ]
    if not told:
        return ""
    over, name, found = max(told, key=lambda one: one[0])
    if over < 0:
        return ""
    return (
        f" Rare divergence is not captured: {found.diverged} of {found.runs} whole runs of {name} "
        f"diverged, which leaves a rate up to {100 * found.upper:.2g} % open at {100 * (1 - plan.alpha):g} %, "
        f"and one of {100 * known(found.undoing):.2g} % would undo what is claimed."
    )


def whole_runs(records: Sequence[Record], arm: str, config: Mapping[str, Any]) -> list[Record]:
    """The runs of a candidate's configuration, in whatever stage, that went to their end or diverged."""
    return [
        record
        for record in records
        if record.status not in (FAILED, PRUNED)
        and (record.arm == arm or (record.stage != CONFIRM and record.arm != BASELINE))
        and (record.config == config or record.arm == arm)
    ]


def tail_remarks(plan: Plan, records: Sequence[Record]) -> Iterator[str]:
    """Candidates of which some run, in whatever stage, diverged: no test of their mean is to be trusted.

    A rare divergence makes a long left tail. Where the confirmation happens to have none, all differences look like a
    steady gain, and neither the t-test nor one of ranks or signs sees what is missing: with a mean effect of exactly 0
    and 5 % of runs that fall to guessing, the paired t-test on 15 seeds calls a gain in 46 % of 20,000 simulated
    studies, every one of them without a divergence among its seeds.
    """
    for arm in plan.candidates:
        runs = whole_runs(records, arm.arm, arm.config)
        bad = sum(record.status == DIVERGED for record in runs)
        if bad:
            yield (
                f"{arm.arm} diverged in {bad} of the {len(runs)} whole runs of its configuration, so its differences"
                " have a long left tail: a gain of its mean must not be trusted on so few seeds, whatever the test "
                "(statistics.md)"
            )
