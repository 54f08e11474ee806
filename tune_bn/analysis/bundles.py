"""The verdict on a bundle, and whether new runs replicate it. Needs numpy and scipy alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tune_bn.analysis.claims import claim_in
from tune_bn.analysis.verdict import verdict_on_study
from tune_bn.records.bundle import unpacked
from tune_bn.records.plan import PLAN_FILE
from tune_bn.records.verdict import VERDICT_FILE, BundleClaim, Verdict, known

REPLICATED, NOT_REPLICATED, INCONCLUSIVE = "replicated", "not replicated", "inconclusive"

RULE = (
    "The claim is tested anew, by the same test at the same level, on the new seeds alone. Replicated: it is supported "
    "there. Not replicated: it is not, and the interval of the new runs lies wholly below the lower end of the claim's "
    "own interval (for equivalence: wholly outside the margin). Inconclusive: neither; more seeds can tell."
)
"""Where the claim is false, new runs replicate it with probability ≤ α; where the true effect is at least the lower end
of the claim's own interval (within the margin, for equivalence), they fail to with probability ≤ α."""


def verify_bundle(path: Path) -> Verdict:
    """The verdict on the study in a bundle, computed anew from its plan and records.

    ``bundle`` says what the bundle's own verdict was; where it differs, that is a remark, and what is computed counts.

    Raises:
        StudyError: the bundle cannot be trusted, in one line.
    """
    with unpacked(path) as folder:
        verdict = verdict_on_study(folder)
        stated = _stated(folder / VERDICT_FILE)
        data = _stated(folder / PLAN_FILE).get("data")
    differing = list(_differences(stated, verdict.to_json()))
    claim = BundleClaim(
        file=path.name, headline=stated.get("headline"), plan_sha256=stated.get("plan_sha256"), data=data
    )
    return replace(verdict, bundle=claim, remarks=(*verdict.remarks, *differing))


_NUMBERS = ("n", "effect", "p_value", "ci_low")


def _differences(stated: Mapping[str, Any], computed: Mapping[str, Any]) -> Iterator[str]:
    """What a bundle's own verdict says otherwise than its plan and records, one sentence each."""
    for key in ("plan_sha256", "verdict", "headline", "reason"):
        if stated.get(key) != computed[key]:
            yield _otherwise(key, stated.get(key), computed[key])
            if key == "verdict":
                # The other two say the same in more words.
                return
    rows = stated.get("candidates")
    told = {str(row.get("arm")): row for row in rows if isinstance(row, dict)} if isinstance(rows, list) else {}
    for row in computed["candidates"]:
        of = told.get(row["arm"], {})
        for key in _NUMBERS:
            # Older verdicts lack some.
            if key in of and not _is_same(of[key], row.get(key)):
                yield _otherwise(f"{key} of {row['arm']}", of[key], row.get(key))


def _otherwise(key: str, stated: Any, computed: Any) -> str:
    return (
        f"the bundle's own verdict has {key} {_shown(stated, computed)}, and its plan and records give "
        f"{_shown(computed, stated)}, which counts"
    )


def _is_same(one: Any, two: Any) -> bool:
    """Numbers are, where versions of SciPy may have made the difference."""
    if type(one) in (int, float) and type(two) in (int, float):
        return math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-9)
    return bool(one == two)


def _shown(value: Any, other: Any) -> str:
    """A value; of a long text the part in which it differs from the other."""
    text, against = str(value), str(other)
    first = next((at for at, (a, b) in enumerate(zip(text, against, strict=False)) if a != b), 0)
    start = 0 if first < 60 else first - 40
    return repr(("…" if start else "") + text[start : start + 100])


def _stated(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def replication(before: Verdict, after: Verdict) -> dict[str, Any]:
    """Whether a new verdict replicates an earlier one, by :data:`RULE`.

    Args:
        before: the verdict of the bundle; only its supported candidates are claims.
        after: the verdict on the new seeds, with candidates of the same names.

    Returns:
        ``outcome``, the least good of all candidates; ``rule``; ``candidates``, each with ``outcome``, the claim's own
        ``effect`` and ``interval`` and the new ones, and ``smaller``: supported anew, though below the interval.
    """
    new = {arm.arm: arm for arm in after.candidates}
    margin = claim_in(before).ceiling
    found: list[dict[str, Any]] = []
    for arm in before.candidates:
        if not arm.supported:
            continue
        again = new[arm.arm]
        own, interval = known(arm.ci_adjusted), again.ci
        low, high = interval or (None, None)
        below = high is not None and own[0] is not None and high < own[0]
        outside = margin is not None and ((low is not None and low > margin) or (high is not None and high < -margin))
        if after.is_invalid:
            outcome = INCONCLUSIVE
        elif again.supported:
            outcome = REPLICATED
        elif below if margin is None else outside:
            outcome = NOT_REPLICATED
        else:
            outcome = INCONCLUSIVE
        found.append(
            {
                "arm": arm.arm,
                "outcome": outcome,
                "effect": arm.effect,
                "interval": list(own),
                "new_effect": again.effect,
                "new_interval": None if interval is None else list(interval),
                "smaller": bool(outcome == REPLICATED and below),
            }
        )
    order = [NOT_REPLICATED, INCONCLUSIVE, REPLICATED]
    outcome = min((arm["outcome"] for arm in found), key=order.index)
    return {"outcome": outcome, "rule": RULE, "candidates": found}
