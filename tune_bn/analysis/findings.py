"""What the scores of a confirmation say of each candidate, and of their average over settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tune_bn.analysis.characteristics import median_unbiased
from tune_bn.analysis.claims import Claim
from tune_bn.analysis.family import Comparison, against_each, comparison, p_above, untested
from tune_bn.analysis.monitoring import Standing
from tune_bn.analysis.paired import PairedResult, paired_t_test
from tune_bn.analysis.plan import claim_by, design_of
from tune_bn.analysis.pooled import pooled
from tune_bn.analysis.power import minimum_detectable_effect
from tune_bn.analysis.rounding import Array, difference_error
from tune_bn.analysis.sensitivity import other_tests
from tune_bn.analysis.sequential import Outcome, repeated_comparison, repeated_p_value
from tune_bn.analysis.untested import plain_effect
from tune_bn.analysis.validity import Evidence
from tune_bn.errors import ConfigError
from tune_bn.records.plan import EQUIVALENT, Plan, PlannedCandidate
from tune_bn.records.verdict import Average, Candidate, known
from tune_bn.records.verdict_details import Decision, Opponent


def _objectives(plan: Plan, scores: Mapping[str, Mapping[int, float]], name: str, n: int | None = None) -> Array:
    """The first n scores of an arm, of which higher is better, shape (n,); None: all that are planned."""
    return np.array([plan.score.objective(scores[name][seed]) for seed in plan.seeds[:n]])


def average_over_settings(plan: Plan, scores: Mapping[str, Mapping[int, float]], *, imputed: bool) -> Average:
    """The average over the settings of a plan that claims it.

    Raises:
        PairsError: it cannot be judged.
    """
    settings = {arm.opponent.partition(".")[2]: arm for arm in plan.candidates}
    candidate = {setting: _objectives(plan, scores, arm.arm) for setting, arm in settings.items()}
    baseline = {setting: _objectives(plan, scores, arm.opponent) for setting, arm in settings.items()}
    return pooled(candidate, baseline, claim_by(plan), alpha=plan.alpha, no_loss=imputed)


def compared(
    plan: Plan, arm: PlannedCandidate, row: Candidate, scores: Mapping[str, Mapping[int, float]], held: Standing
) -> tuple[Comparison, Candidate]:
    """What the pairs of a candidate say, as a member of its family, and its row with what is known without the others.

    Raises:
        PairsError: its differences cannot be judged.
    """
    each = {name: _compared_with(plan, arm, name, row, scores, held) for name in arm.opponents}
    weakest = max(each, key=lambda name: (each[name][0].p_value, -known(each[name][1].effect)))
    row = each[weakest][1]
    if len(each) > 1:
        opponents = [
            Opponent(name, known(found.effect), one.bounds(plan.alpha), one.p_value)
            for name, (one, found) in each.items()
        ]
        row = replace(row, opponents=tuple(opponents))
    return against_each([one for one, _ in each.values()]), row


def _compared_with(
    plan: Plan,
    arm: PlannedCandidate,
    opponent: str,
    row: Candidate,
    scores: Mapping[str, Mapping[int, float]],
    held: Standing,
) -> tuple[Comparison, Candidate]:
    alpha, score, claim = plan.alpha, plan.score, claim_by(plan)
    outcome = held.outcomes.get(arm.arm)
    n = len(plan.seeds) if outcome is None else outcome.last.n
    candidate, baseline = (_objectives(plan, scores, name, n) for name in (arm.arm, opponent))
    result = paired_t_test(candidate, baseline, alpha=alpha)
    error = difference_error(candidate, baseline)
    row = replace(
        row,
        against=opponent,
        n=n,
        effect=result.effect,
        difference=score.objective(result.effect) if plan.states_score else None,
        std_difference=result.std,
        t=result.t,
        d_z=result.d_z,
        correlation=result.correlation,
        minimum_detectable_effect=_detectable(plan, result.std, claim),
        sensitivity=other_tests(candidate - baseline, alpha=alpha, error=error, claim=claim),
    )
    if outcome is None or plan.design is None:
        return comparison(result, claim, candidate - baseline), row
    # Of several opponents another one may have been the hardest to beat at another look.
    adjusted = None if arm.rivals else _after_looks(plan, result, outcome, claim)
    p_value = repeated_p_value(plan.design["looks"], n, p_above(result, claim.null))
    row = replace(_up_to(outcome, row), effect_adjusted=adjusted)
    return repeated_comparison(result, plan.design["looks"], p_value, claim), row


def _up_to(outcome: Outcome, row: Candidate) -> Candidate:
    """With what each look said of a candidate, and what the last one decided."""
    return replace(row, decision=str(outcome.last.decision), looks=outcome.looks)


def without_test(
    plan: Plan, arm: PlannedCandidate, row: Candidate, evidence: Evidence, why: str
) -> tuple[Comparison, Candidate]:
    """A candidate of which there is no test: all its pairs are there, since no look can have ended it."""
    score, seeds, held = plan.score, plan.seeds, evidence.standing
    candidate = _objectives(plan, evidence.scores, arm.arm)
    others = {name: _objectives(plan, evidence.scores, name) for name in arm.opponents}
    # The one against which there is no test, of several.
    opponent = min(others, key=lambda name: float(np.ptp(candidate - others[name])))
    baseline = others[opponent]
    effect = plain_effect(candidate, baseline)
    row = replace(
        row,
        against=opponent,
        n=len(seeds),
        effect=effect,
        difference=score.objective(effect) if plan.states_score else None,
        std_difference=0.0,
        not_tested=why,
    )
    if held is not None and held.outcomes:
        row = _up_to(held.outcomes[arm.arm], row)
    return untested(claim_by(plan), candidate - baseline), row


def _after_looks(plan: Plan, result: PairedResult, outcome: Outcome, claim: Claim) -> float | None:
    """The median-unbiased gain of a candidate that ended with its gain shown, where it is the only one; else None."""
    rule, last = design_of(plan), outcome.last
    if rule is None or last.t is None or last.decision is not Decision.EFFICACY or len(plan.candidates) > 1:
        return None
    return claim.null + median_unbiased(rule, last.n, last.t) * result.std


def _detectable(plan: Plan, std: float, claim: Claim) -> float | None:
    """None where the level is too small, or the spread too large or small, for a power to be computed, and for
    equivalence, where no gain is looked for."""
    if claim.kind == EQUIVALENT:
        return None
    candidates = len(plan.candidates)
    try:
        above = minimum_detectable_effect(std, len(plan.seeds), alpha=plan.alpha, candidates=candidates)
    except ConfigError:
        return None
    return claim.null + above
