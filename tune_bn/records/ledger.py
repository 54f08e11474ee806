"""``ledger.jsonl`` beside the studies: which of them have locked a claim on which test data. Lines are only appended.

One study that is wrong 5 % of the time is a fair bet; twenty on the same test images hold a false gain more often than
not. Each plan is entered when it is locked, before its first confirmation run, and takes with it which came before. A
line that cannot be read is passed over: the ledger reminds, and proves nothing against those who delete it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_bn.records.files import canonical_json, not_linked, read_bytes, sha256_of, writing

LEDGER_FILE = "ledger.jsonl"


def key_of(data: Mapping[str, Any]) -> str | None:
    """What tells test data apart: the hash of its identity; None where it is not known."""
    test = data.get("test")
    return sha256_of(test) if isinstance(test, Mapping) and test else None


def earlier_claims(studies: Path, data: Mapping[str, Any]) -> list[dict[str, str]]:
    """The claims that were locked on this test data by the studies of a folder: study and hash of the plan."""
    key = key_of(data)
    try:
        lines = read_bytes(studies / LEDGER_FILE).split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
            one = {name: str(entry[name])[:120] for name in ("study", "plan_sha256")}
            if key is not None and entry["test"] == key and one not in found:
                found.append(one)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return found


def enter_claim(studies: Path, plan: Mapping[str, Any]) -> None:
    """Append a plan that was just locked.

    Raises:
        StudyError: the ledger cannot be written.
    """
    key = key_of(plan.get("data") or {})
    if key is None:
        return
    entry = {name: plan[name] for name in ("study", "plan_sha256", "created_at", "alpha", "seeds")} | {"test": key}
    path = studies / LEDGER_FILE
    with writing(path):
        descriptor = not_linked(str(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            # One write, so that studies that lock at the same time leave whole lines.
            os.write(descriptor, canonical_json(entry).encode() + b"\n")
        finally:
            os.close(descriptor)


def spent_level(budget: float, place: int) -> float:
    """The level of the claim number ``place`` (1, 2, …) of a budget over all there will ever be: 6/(π²k²) of it.

    The shares sum to 1, so the chance of any false gain among all claims stays ≤ ``budget``, whatever their dependence
    (Bonferroni; the spending of Foster & Stine, J. R. Statist. Soc. B 70, 2008, without its reinvestment).
    """
    return budget * 6 / (math.pi**2 * place**2)


def ledger_words(earlier: Sequence[Mapping[str, Any]], alpha: float) -> str | None:
    """What a verdict says of earlier claims on its test data; None where there are none."""
    if not earlier:
        return None
    n = len(earlier) + 1
    names = ", ".join(str(one["study"]) for one in earlier[:5]) + (", …" if len(earlier) > 5 else "")
    levels = [f"{spent_level(alpha, k):.2g}" for k in (n, n + 1)]
    return (
        f"this is claim {n} on the same test data in this folder (before it: {names}); {n} claims at α = {alpha:g} "
        f"each hold a false gain with a chance of up to {min(1.0, n * alpha):.2g}; to hold {alpha:g} over all claims, "
        f"number {n + 1} would have claim.alpha={levels[1]} (this one: {levels[0]})"
    )
