"""Group-sequential stopping of the confirmation: looks, boundaries, and what each candidate is told at each look.

The test is that of :mod:`tune_bn.analysis.paired`: paired over seeds, H0: mean difference candidate − baseline ≤ 0,
one-sided. It is made at looks planned beforehand, on the pairs so far. :mod:`tune_bn.analysis.spending` has the
boundaries and the repeated p-values; both assume normal differences, independent from seed to seed.

**Several candidates.** All meet the same baseline at the same looks. At each look Holm's procedure adjusts the repeated
p-values of all candidates, also of those that have stopped, whose p-value stays what it was. A candidate with adjusted
p ≤ α has shown its gain and stops. The family-wise error rate is at most α, whatever the dependence between candidates
and whichever of them stop: the smallest repeated p-value of a candidate over all looks is valid, so Holm's procedure on
these keeps α; a p-value at any one look is not smaller; and Holm's procedure rejects no more where p-values are larger.
A claim has to hold at the look at which it is made: a p-value that was low at an earlier look does not count.

**Futility.** The bound is not binding: the level holds also where it is ignored, because the boundaries of efficacy are
computed as though there were none. A candidate stops where its predictive power is below ``futility``: the probability
that the t-test at the last look would reach α, given the data so far and a flat prior of the effect (Spiegelhalter,
Freedman and Blackburn, Control. Clin. Trials 7, 1986). In the normal approximation, at information time s,

    Φ((z/√s − z_{1−α}) / √((1 − s)/s)) < futility  ⇔  z < √s·z_{1−α} − √(1 − s)·z_{1−futility},

and the bound on t has the same tail probability as that z.

0.05 is where the loss of power stays small. Over the 21 cells of the paper's Table 1.a, with correlation 0 between the
arms and 40,000 simulated studies for each cell, the fixed test on 15 pairs has mean power 0.744, and the sequential one

    futility                            none   0.02   0.05   0.1    0.2
    mean power                          0.743  0.742  0.741  0.739  0.733
    power lost in the worst cell        0.02   0.03   0.04   0.06   0.11
    pairs saved, mean over the cells    38 %   52 %   54 %   55 %   57 %

**The estimate.** ``effect`` is the plain mean of the pairs up to the look that ended the candidate. Stopping on a high
value makes it too high on average, stopping on a low value too low. No corrected estimate is given: the unbiased one
(Emerson and Fleming, Biometrika 77, 1990) averages over the ways in which the rule could have ended the candidate, and
with several candidates these depend on the other arms; a median-unbiased one needs the distribution of t under an
effect, which depends on the unknown standard deviation. ``ci_low`` needs neither: the repeated confidence bound of
Jennison and Turnbull, mean − b_k·std/√n_k, holds at all looks together, whatever made one of them the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from tune_bn.analysis.claims import NO_LOOKS, PLAIN, Claim, agreeing
from tune_bn.analysis.family import Comparison, p_above
from tune_bn.analysis.paired import Array, PairedResult, PairsError, PairsProblem, holm, paired_t_test
from tune_bn.analysis.spending import FIRST_LOOK, SMALLEST_LEVEL, check_looks, nominal_levels, repeated_p, spent, t_at
from tune_bn.errors import ConfigError
from tune_bn.records.verdict_details import Decision as Decision
from tune_bn.records.verdict_details import Look

DEFAULT_LOOKS = (3, 5, 8, 11, 15)
DEFAULT_FUTILITY = 0.05


@dataclass(frozen=True)
class Design:
    """Looks and boundaries; ``dataclasses.asdict`` is what JSON can hold. Numbers are rounded to six digits.

    For one candidate, t_k ≥ ``efficacy[k]`` and p ≤ ``alpha`` say the same; p decides.
    """

    looks: tuple[int, ...]
    """Pairs at each look."""
    alpha: float
    futility: float | None
    """Predictive power below which a candidate stops; None: never."""
    spent: tuple[float, ...]
    """Level spent up to each look."""
    nominal_p: tuple[float, ...]
    """The boundaries of efficacy as one-sided p-values of the fixed t-test on the same pairs."""
    efficacy: tuple[float, ...]
    """Boundaries of efficacy as t statistics."""
    futility_t: tuple[float, ...] | None
    """Bounds of futility as t statistics at all looks but the last."""


@dataclass(frozen=True)
class Outcome:
    """One candidate's looks so far."""

    looks: tuple[Look, ...]
    """Up to the look that ended it, or the latest."""
    p_adjusted: float
    """Repeated p-value after Holm's procedure, at the latest look at any candidate; ≤ alpha exactly for efficacy."""

    @property
    def last(self) -> Look:
        """The look that ended the candidate, or the latest; its ``decision`` is the candidate's."""
        return self.looks[-1]


def default_looks(pairs: int) -> tuple[int, ...]:
    """The default looks in proportion to so many pairs, none before 3; with fewer than 3 pairs there are none to hold.

    Raises:
        ConfigError: there are too few pairs, or too many.
    """
    scaled = {max(FIRST_LOOK, round(look * pairs / DEFAULT_LOOKS[-1])) for look in DEFAULT_LOOKS[:-1]}
    return check_looks(sorted({look for look in scaled if look < pairs} | {pairs}))


def design(
    looks: Sequence[int] = DEFAULT_LOOKS, alpha: float = 0.05, *, futility: float | None = DEFAULT_FUTILITY
) -> Design:
    """The design with these looks, computed for the t statistic of so few pairs.

    Raises:
        ConfigError: ``looks``, ``alpha`` or ``futility`` is not acceptable.
    """
    if futility is not None and not 0 < futility < 0.5:
        raise ConfigError("futility", futility, "null or a number between 0 and 0.5")
    nominal = nominal_levels(looks, alpha)
    return Design(
        looks=tuple(looks),
        alpha=alpha,
        futility=futility,
        spent=_rounded(spent(looks, alpha)),
        nominal_p=_rounded(nominal),
        efficacy=_rounded(t_at(nominal, looks)),
        futility_t=None if futility is None else _rounded(_futility_bounds(looks, alpha, futility)),
    )


def decide(
    candidates: Mapping[str, ArrayLike],
    baseline: ArrayLike | Mapping[str, ArrayLike],
    design: Design,
    claim: Claim = PLAIN,
    *,
    rivals: Mapping[str, Sequence[ArrayLike]] | None = None,
    beside: int = 0,
) -> dict[str, Outcome]:
    """What each candidate has been told at the looks so far; pure, so that a verdict can repeat it from the records.

    A look is held as soon as every candidate that still runs has its pairs. Pairs after the look that ended a candidate
    are not used, and pairs after the latest look are not used yet. A baseline goes on as long as the decision of any of
    its candidates is ``continue``. Candidates with baselines of their own are one family all the same: Holm's procedure
    holds under any dependence. A look at which all differences of a candidate are the same decides nothing about it;
    where they still are at the last one, it ends there without a test.

    Args:
        candidates: for each candidate its scores in the planned order of the seeds, shape (n,); n may differ.
        baseline: scores of the same seeds in the same order, at least as many as any candidate has; where candidates
            have baselines of their own (another network, another learning rate), one for each candidate by its name.
        design: from :func:`design`.
        claim: superiority or noninferiority; both are one test of d − null, so that the boundaries hold as they stand.
        rivals: by name of a candidate further baselines against each of which its claim has to hold as well. At every
            look the one with the largest p-value speaks for the candidate (intersection–union).
        beside: further members of the family, of which none is tested.

    Returns:
        One outcome for each candidate.

    Raises:
        PairsError: a candidate and the baseline are not paired, there are fewer pairs than the first look needs, a
            score is not finite.
        ConfigError: there are no candidates, or the claim is one of equivalence.
    """
    if not candidates:
        raise ConfigError("candidates", candidates, "one or more")
    if claim.ceiling is not None:
        raise ConfigError("kind", claim.kind, f"superior or noninferior with looks; {NO_LOOKS}")
    given = baseline if isinstance(baseline, Mapping) else dict.fromkeys(candidates, baseline)
    others = {} if rivals is None else rivals
    bases = {
        name: [np.asarray(one, dtype=float) for one in (given[name], *others.get(name, ()))] for name in candidates
    }
    scores = {name: np.asarray(values, dtype=float) for name, values in candidates.items()}
    for name, values in scores.items():
        for base in bases[name]:
            if values.ndim != 1 or base.ndim != 1 or values.size > base.size:
                raise PairsError(
                    PairsProblem.UNPAIRED,
                    f"{name}: scores of shape {values.shape} against a baseline of {base.shape}; "
                    "accepted: shapes (n,), the baseline not shorter",
                )
        if values.size < design.looks[0]:
            raise PairsError(
                PairsProblem.TOO_FEW, f"{name}: {values.size} pairs of scores; accepted: {design.looks[0]} or more"
            )
    paths: dict[str, list[Look]] = {name: [] for name in scores}
    adjusted = dict.fromkeys(scores, 1.0)
    running = list(scores)
    for k, n in enumerate(design.looks):
        if any(scores[name].size < n for name in running):
            break
        for name in running:
            looks = [_look(name, scores[name][:n], base[:n], design, k, claim.null) for base in bases[name]]
            paths[name].append(_weakest(looks))
        p_values = [path[-1].p_value for path in paths.values()]
        adjusted = dict(zip(paths, holm([*p_values, *[1.0] * beside]).tolist(), strict=False))
        for name in running:
            paths[name][-1] = _decided(paths[name][-1], adjusted[name], design)
        running = [name for name in running if paths[name][-1].decision is Decision.CONTINUE]
        if not running:
            break
    return {name: Outcome(tuple(path), adjusted[name]) for name, path in paths.items()}


def monitor(candidate: ArrayLike, baseline: ArrayLike, design: Design) -> Outcome:
    """:func:`decide` for a single candidate, whose ``p_adjusted`` is its p-value."""
    return decide({"candidate": candidate}, baseline, design)["candidate"]


def _look(name: str, candidate: Array, baseline: Array, design: Design, k: int, null: float) -> Look:
    """Look number k, at the pairs given, before any decision."""
    n = design.looks[k]
    result: PairedResult | None = None
    try:
        result = paired_t_test(candidate, baseline, alpha=design.alpha)
    except PairsError as error:
        # Few images give equal differences by chance; an infinite t must neither reject nor end the study.
        if not error.without_spread:
            raise PairsError(error.problem, f"{name}: {error}") from None
    nominal = 1.0 if result is None else p_above(result, null)
    p_value = repeated_p_value(design.looks, n, nominal)
    return Look(
        n=n,
        effect=float(np.mean(candidate - baseline)) if result is None else result.effect,
        std=0.0 if result is None else result.std,
        t=None if result is None else result.t if null == 0 else (result.effect - null) / result.se,
        nominal_p=nominal,
        efficacy=design.efficacy[k],
        futility=None if design.futility_t is None or n == design.looks[-1] else design.futility_t[k],
        p_value=p_value,
        ci_low=None if result is None else repeated_bounds(result, design.looks, design.alpha, p_value, 1.0, null)[0],
        decision=Decision.CONTINUE,
    )


def repeated_p_value(looks: Sequence[int], n: int, nominal: float) -> float:
    """Repeated p-value at the look of ``n`` pairs, from the one-sided p-value of the fixed test on them."""
    k = list(looks).index(n)
    # Eight digits, so that the last bit of a library's function does not show.
    return float(f"{repeated_p(looks, [1.0] * k + [nominal])[k]:.8g}")


def repeated_bounds(
    result: PairedResult, looks: Sequence[int], level: float, p_value: float, p_value_less: float, null: float = 0.0
) -> tuple[float | None, float | None]:
    """One-sided bounds of the mean difference at 1 − level each, valid at all looks together: effect ∓ b_k·std/√n_k.

    The lower is ≥ ``null`` exactly where ``p_value``, the repeated one, is ≤ level; the upper ≤ 0 where
    ``p_value_less`` is. None at levels that are too small for a boundary.
    """
    if level < SMALLEST_LEVEL:
        return None, None
    reach = design(looks, level, futility=None).efficacy[list(looks).index(result.n)] * result.se
    return (
        agreeing(result.effect - reach, rejected=p_value <= level, null=null),
        0.0 - agreeing(-result.effect - reach, rejected=p_value_less <= level),
    )


def repeated_comparison(result: PairedResult, looks: Sequence[int], p_value: float, claim: Claim = PLAIN) -> Comparison:
    """The look that ended an arm as a comparison of a family: p-values and bounds that hold at all looks together.

    Args:
        result: of the fixed test on the pairs of that look.
        looks: all looks of the design.
        p_value: the repeated p-value of the claim at that look.
        claim: superiority or noninferiority.
    """
    p_value_less = repeated_p_value(looks, result.n, result.p_value_less)

    def bounds(level: float) -> tuple[float | None, float | None]:
        return repeated_bounds(result, looks, level, p_value, p_value_less, claim.null)

    greater = None if claim.is_plain else repeated_p_value(looks, result.n, result.p_value)
    return Comparison(p_value, p_value_less, bounds, claim, p_value_greater=greater)


def _weakest(looks: Sequence[Look]) -> Look:
    """The look that speaks for a candidate; the lowest bound holds against whichever of its baselines is best."""
    bounds = [look.ci_low for look in looks]
    low = None if None in bounds else min(bound for bound in bounds if bound is not None)
    return replace(max(looks, key=lambda look: (look.p_value, -look.effect)), ci_low=low)


def _decided(look: Look, p_adjusted: float, design: Design) -> Look:
    if p_adjusted <= design.alpha:
        return replace(look, decision=Decision.EFFICACY)
    if look.n == design.looks[-1]:
        return replace(look, decision=Decision.LAST_LOOK)
    if look.t is not None and look.futility is not None and look.t < look.futility:
        return replace(look, decision=Decision.FUTILITY)
    return look


def _futility_bounds(looks: Sequence[int], alpha: float, futility: float) -> Array:
    fractions = np.asarray(looks[:-1], dtype=float) / looks[-1]
    scores = np.sqrt(1 - fractions) * special.ndtri(futility) - np.sqrt(fractions) * special.ndtri(alpha)
    # A t statistic with a smaller tail is never seen, and JSON has no infinity.
    return -t_at(np.maximum(special.ndtr(scores), 1e-15), looks[:-1])


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)
