"""A claim about the average over settings: is the candidate better on average over all of these?

With the difference d_ks of setting k on seed s, the average of a seed over the K settings is D_s = Σ_k d_ks / K. All
settings run on the same seeds, so the D_s are n independent differences whatever the settings share, and the paired
t-test on them is exact where they are normal. Its null is that the mean effect over *these* settings, each of equal
weight, is no gain; it says nothing of settings that were not tried, nor that every one gains.

How much the settings differ stands beside it. Means m_k over n seeds spread by more than the true effects do, so their
variance is estimated by moments from the two-way table, τ² = max(0, Var(m_k) − MS/n), with MS the mean square of what
is left after the effects of settings and of seeds. So does, from five settings on, Wilcoxon's signed-rank test over the
m_k, as Demšar (J. Mach. Learn. Res. 7, 2006, section 3.1.3) compares two classifiers over data sets: there a data set
is one observation, so it speaks of data sets like these, where they are independent of each other, and it needs many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tune_bn.analysis.claims import Claim
from tune_bn.analysis.family import comparison, findings_of
from tune_bn.analysis.paired import paired_t_test
from tune_bn.analysis.rounding import Array
from tune_bn.analysis.sensitivity import wilcoxon_signed_rank
from tune_bn.records.verdict import Average
from tune_bn.records.verdict_details import RanksOfSettings

FEWEST_RANKED = 5
"""Settings below which no signed-rank test can reach 0.05: its least p is 1/2ᵏ."""


def pooled(
    candidate: Mapping[str, Array],
    baseline: Mapping[str, Array],
    claim: Claim,
    *,
    alpha: float,
    no_loss: bool = False,
) -> Average:
    """The average over settings.

    Args:
        candidate, baseline: by setting, the objectives on the same n ≥ 2 seeds in the same order, shape (n,).
        claim: about the average.
        alpha: level of the one-sided test.
        no_loss: whether no loss may be shown, as where scores were put in against a gain.

    Raises:
        PairsError: the averages cannot be judged.
    """
    names = list(candidate)
    ours, theirs = (np.stack([arm[name] for name in names]) for arm in (candidate, baseline))
    ours_by_seed, theirs_by_seed = ours.mean(axis=0), theirs.mean(axis=0)
    result = paired_t_test(ours_by_seed, theirs_by_seed, alpha=alpha)
    one = comparison(result, claim, ours_by_seed - theirs_by_seed)
    if no_loss:
        one = replace(one, p_value_less=1.0, no_loss=True)
    judged = findings_of({"pooled": one}, alpha=alpha)["pooled"]
    differences = ours - theirs
    effects = differences.mean(axis=1)
    order = np.argsort(effects, kind="stable")
    return Average(
        **vars(judged),
        n=ours.shape[1],
        settings=len(names),
        effect=result.effect,
        std_difference=result.std,
        t=result.t,
        between=between(differences),
        least=(names[order[0]], float(effects[order[0]])),
        most=(names[order[-1]], float(effects[order[-1]])),
        over_settings=_over_settings(effects - claim.null) if claim.ceiling is None else None,
    )


def between(differences: Array) -> float:
    """Standard deviation of the true effects over settings, by moments; 0 where noise explains all of it.

    Args:
        differences: of each setting on each seed, shape (K, n), both ≥ 2.
    """
    settings, n = differences.shape
    by_setting, by_seed = differences.mean(axis=1, keepdims=True), differences.mean(axis=0, keepdims=True)
    rest = differences - by_setting - by_seed + differences.mean()
    noise = float(np.sum(rest**2)) / ((settings - 1) * (n - 1))
    return float(np.sqrt(max(0.0, float(np.var(by_setting, ddof=1)) - noise / n)))


def _over_settings(effects: Array) -> RanksOfSettings | None:
    if np.count_nonzero(effects) < FEWEST_RANKED:
        return None
    found = wilcoxon_signed_rank(effects)
    return RanksOfSettings(found.statistic, found.n, found.p_value)
