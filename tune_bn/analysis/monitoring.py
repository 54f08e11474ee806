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
    its pairs at the look that ended it, else those of the next look. A baseline needs what its candidates need."""
    finished: bool
    """Every arm has what it needs, and no look is left."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """What each candidate was told; empty in a fixed design, and before the first look."""
    problem: str | None = None
    """Why the last look cannot be held, such as differences that are all the same."""


def standing(plan: Plan, scores: Scores) -> Standing:
    """Where the confirmation stands with these scores; a seed without a score has not been run.

    A look is held once every candidate that still runs, and its baseline, have all the pairs up to it, in the order of
    the plan's seeds. Whatever ran beyond is not used.
    """
    rule, seeds, score = design_of(plan), plan.seeds, plan.score
    arms = [arm.arm for arm in plan.arms]
    paired = {
        candidate.arm: _pairs(seeds, scores[candidate.arm], scores[candidate.opponent]) for candidate in plan.candidates
    }
    if rule is None:
        everything = dict.fromkeys(arms, len(seeds))
        return Standing(everything, all(n == len(seeds) for n in paired.values()))
    if min(paired.values()) < rule.looks[0]:
        return Standing(dict.fromkeys(arms, rule.looks[0]), False)
    against = {candidate.arm: candidate.opponent for candidate in plan.candidates}
    try:
        outcomes = decide(
            {name: [score.objective(scores[name][seed]) for seed in seeds[:n]] for name, n in paired.items()},
            {name: [score.objective(scores[against[name]][seed]) for seed in seeds[:n]] for name, n in paired.items()},
            rule,
            claim_by(plan),
        )
    except PairsError as error:
        return Standing(dict.fromkeys(arms, len(seeds)), True, problem=str(error))
    needed = {name: _needs(outcome, rule.looks) for name, outcome in outcomes.items()}
    for baseline in plan.every_baseline:
        needed[baseline.arm] = max((n for name, n in needed.items() if against.get(name) == baseline.arm))
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
