"""The arms of a verdict: which baseline a candidate is compared with, in which setting, on which seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tune_bn.analysis.wording import score_of_verdict
from tune_bn.records.plan import GROUP_SEQUENTIAL
from tune_bn.records.record import BASELINE
from tune_bn.records.verdict import Arm, Candidate, StudyArm, Verdict, known
from tune_bn.records.verdict_details import Ends


def baseline_of(verdict: Verdict, candidate: Candidate) -> StudyArm:
    """The baseline that a candidate is compared with."""
    return verdict.arm_against(candidate)


def setting_of(baseline: str) -> str:
    """``resnet18`` of the arm ``baseline.resnet18``; empty where the claim has a single setting."""
    return baseline.removeprefix(BASELINE).removeprefix(".")


def name_without(arm: str, setting: str) -> str:
    """``candidate-1`` of the arm ``candidate-1.resnet18`` in the setting ``resnet18``."""
    return arm.removesuffix(f".{setting}") if setting else arm


def shared_seeds(baseline: Arm, candidate: Candidate) -> list[str]:
    """Seeds for which both arms have a score, in the planned order, up to the look that ended the candidate."""
    return [seed for seed in baseline.scores if seed in candidate.scores][: candidate.n]


def pairs_of(baseline: Arm, candidate: Candidate) -> NDArray[np.float64]:
    """Scores of the baseline and of the candidate on the same seeds; shape (n, 2)."""
    seeds = shared_seeds(baseline, candidate)
    return np.array([[baseline.scores[seed], candidate.scores[seed]] for seed in seeds]).reshape(-1, 2)


def gains_of(verdict: Verdict, candidate: Candidate) -> NDArray[np.float64]:
    """Paired gains over the baseline, positive where the candidate is better; shape (n,)."""
    before, after = pairs_of(baseline_of(verdict, candidate), candidate).T
    return np.asarray(after - before if score_of_verdict(verdict).higher_is_better else before - after)


def gain_label(verdict: Verdict) -> str:
    """What the axis of paired gains is called."""
    score = score_of_verdict(verdict)
    words = "difference from the baseline" if score.higher_is_better else "gain over the baseline (lower scores)"
    return f"{words}, {score.difference_unit_words}" if score.difference_unit_words else words


def paired_candidates(verdict: Verdict) -> list[Candidate]:
    """The candidates that share a seed with their baseline."""
    if not verdict.baselines:
        return []
    return [arm for arm in verdict.candidates if shared_seeds(baseline_of(verdict, arm), arm)]


def is_sequential(verdict: Verdict) -> bool:
    """Whether the confirmation could stop at a look before its last seed."""
    return verdict.stopping == GROUP_SEQUENTIAL


def confidence_of(verdict: Verdict) -> float:
    """Confidence of the two-sided intervals ``ci``: 1 − 2·alpha, as belongs to the one-sided test.

    Verdicts from before the key have intervals at 1 − alpha.
    """
    stated = verdict.ci_confidence
    return 1 - known(verdict.alpha) if stated is None else stated


def states_losses(verdict: Verdict) -> bool:
    """Whether the verdict says which arms are worse; older ones do not."""
    return verdict.ci_confidence is not None


def deciding_interval(arm: Candidate) -> Ends:
    """The interval that says what was decided on an arm: adjusted where several share the claim.

    Where the verdict has none, the one-sided bound, with an open upper end.
    """
    return arm.ci_adjusted or (arm.ci_low, None)


def percent_words(level: float) -> str:
    """``95 %``."""
    return f"{100 * level:.6g} %"
