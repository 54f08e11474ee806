"""Where a confirmation stands: how many pairs each arm needs, and what its candidates have been told.

The stage that trains the runs and the verdict that judges them ask this one module, from the plan and the scores alone,
so that a resumed confirmation and a verdict on another machine see the looks that were held, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tune_bn.analysis.paired import PairsError
from tune_bn.analysis.plan import claim_by, design_of
from tune_bn.analysis.sequential import Decision, Outcome, decide
from tune_bn.records.plan import Plan

Scores = Mapping[str, Mapping[int, float]]
"""Arm → seed → score."""


@dataclass(frozen=True)
class Standing:
    """A confirmation so far."""

    needed: Mapping[str, int]
    """By arm: pairs, the first so many seeds of the plan, that it has to have. Where a candidate has ended these are
    its pairs at the look that ended it, else those of the next look. Baselines and rivals need what their candidates
    need."""
    finished: bool
    """Every arm has what it needs, and no look is left."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """What each candidate was told; empty in a fixed design, and before the first look."""
    problem: str | None = None
    """Why the last look cannot be held, such as differences that are all the same."""


def standing(plan: Plan, scores: Scores) -> Standing:
    """Where the confirmation stands with these scores; a seed without a score has not been run.

    A look is held once every candidate that still runs, its baseline and its rivals have all the pairs up to it, in the
    order of the plan's seeds. Whatever ran beyond is not used.
    """
    rule, seeds, score = design_of(plan), plan.seeds, plan.score
    arms = [arm.arm for arm in plan.arms]
    paired = {
        candidate.arm: min(_pairs(seeds, scores[candidate.arm], scores[name]) for name in candidate.opponents)
        for candidate in plan.candidates
    }
    if rule is None:
        everything = dict.fromkeys(arms, len(seeds))
        return Standing(everything, all(n == len(seeds) for n in paired.values()))
    if min(paired.values()) < rule.looks[0]:
        return Standing(dict.fromkeys(arms, rule.looks[0]), False)

    def first(name: str, n: int) -> list[float]:
        return [score.objective(scores[name][seed]) for seed in seeds[:n]]

    try:
        outcomes = decide(
            {name: first(name, n) for name, n in paired.items()},
            {arm.arm: first(arm.opponent, paired[arm.arm]) for arm in plan.candidates},
            rule,
            claim_by(plan),
            rivals={arm.arm: [first(name, paired[arm.arm]) for name in arm.rivals] for arm in plan.candidates},
        )
    except PairsError as error:
        return Standing(dict.fromkeys(arms, len(seeds)), True, problem=str(error))
    needed = {name: _needs(outcome, rule.looks) for name, outcome in outcomes.items()}
    for other in plan.every_tuning:
        needed[other.arm] = max(needed[arm.arm] for arm in plan.candidates if other.arm in arm.opponents)
    finished = all(outcome.last.decision is not Decision.CONTINUE for outcome in outcomes.values())
    return Standing(needed, finished, outcomes)


def _pairs(seeds: tuple[int, ...], candidate: Mapping[int, float], baseline: Mapping[int, float]) -> int:
    """Pairs from the first seed on, up to the first that is missing."""
    return next((n for n, seed in enumerate(seeds) if seed not in candidate or seed not in baseline), len(seeds))


def _needs(outcome: Outcome, looks: tuple[int, ...]) -> int:
    last = outcome.last
    if last.decision is not Decision.CONTINUE:
        return last.n
    return looks[looks.index(last.n) + 1]
