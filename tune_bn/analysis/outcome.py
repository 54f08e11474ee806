"""A verdict in a few words for people: a loss is called a loss, and says by how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tune_bn.analysis.claims import claim_in
from tune_bn.analysis.wording import decimals_of_verdict, interval_words, score_of_verdict, signed_words, with_unit

WORSE, MIXED = "worse", "mixed"


def outcome(verdict: Mapping[str, Any]) -> str:
    """``supported``, ``mixed`` (supported, and worse elsewhere), ``worse``, ``not_supported`` or ``invalid``."""
    word = str(verdict["verdict"])
    if not verdict.get("worse"):
        return word
    return MIXED if any(arm.get("supported") for arm in verdict.get("candidates", ())) else WORSE


def spoken(verdict: Mapping[str, Any]) -> str:
    """The headline of a verdict as it is said: ``worse, by 34.60 percentage points (−35.10 to −34.02)``.

    Where no arm is worse it is the verdict's own word.
    """
    said = str(verdict.get("headline") or verdict["verdict"])
    arms = verdict.get("candidates", ())
    if outcome(verdict) != WORSE or not claim_in(verdict).is_plain or verdict.get("holds") == "all":
        return said
    if len(arms) > 1:
        if len(verdict["worse"]) == len(arms):
            _, _, kind = said.partition(",")[0].partition(f"of {len(arms)} ")
            return f"worse in every one of {len(arms)} {kind}"
        return said.replace("not_supported in any", "supported in none")
    (arm,) = arms
    if arm.get("effect") is None:
        return WORSE
    ends = arm.get("ci")
    score, decimals = score_of_verdict(verdict), decimals_of_verdict(verdict)
    within = f" ({interval_words(ends, decimals)})" if ends and None not in ends else ""
    size = with_unit(signed_words(arm["effect"], decimals)[1:], score.difference_unit_words)
    return f"{WORSE}, by {size}{within}"
