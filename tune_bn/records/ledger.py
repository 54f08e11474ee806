"""``ledger.jsonl`` beside the studies: which of them have locked a claim on which test data. Lines are only appended.

One study that is wrong 5 % of the time is a fair bet; twenty on the same test images hold a false gain more often than
not. Each plan is entered when it is locked, before its first confirmation run, and takes with it which came before. A
line that cannot be read is passed over: the ledger reminds, and proves nothing against those who delete it.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tune_bn.records.files import canonical_json, not_linked, read_bytes, sha256_of, writing
from tune_bn.records.plan import BUDGET, AlphaSpending, EarlierClaim, Plan

LEDGER_FILE = "ledger.jsonl"


def key_of(data: Mapping[str, Any]) -> str | None:
    """What tells test data apart: the hash of its identity; None where it is not known."""
    test = data.get("test")
    return sha256_of(test) if isinstance(test, Mapping) and test else None


def earlier_claims(studies: Path, data: Mapping[str, Any]) -> list[EarlierClaim]:
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
            one = EarlierClaim(*(str(entry[name])[:120] for name in ("study", "plan_sha256")))
            if key is not None and entry["test"] == key and one not in found:
                found.append(one)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return found


def enter_claim(studies: Path, plan: Plan) -> None:
    """Append a plan that was just locked.

    Raises:
        StudyError: the ledger cannot be written.
    """
    key = key_of(plan.data or {})
    if key is None:
        return
    entry = {name: getattr(plan, name) for name in ("study", "plan_sha256", "created_at", "alpha", "seeds")}
    entry |= {"test": key}
    path = studies / LEDGER_FILE
    with writing(path):
        descriptor = not_linked(str(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            # One write, so that studies that lock at the same time leave whole lines.
            os.write(descriptor, canonical_json(entry).encode() + b"\n")
        finally:
            os.close(descriptor)


@contextmanager
def entering(studies: Path, data: Mapping[str, Any]) -> Iterator[None]:
    """While it is held no other study of the folder enters a claim, so that no two have the same place.

    Args:
        studies: the folder.
        data: what the claim is on; where its test data is not known there is nothing to hold.

    Raises:
        StudyError: the ledger cannot be written.
    """
    if key_of(data) is None:
        yield
        return
    path = studies / LEDGER_FILE
    with writing(path):
        descriptor = not_linked(str(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        with suppress(OSError):
            # Some shared file systems have no locks; two studies that lock in the same second may then share a place.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def spent_level(budget: float, place: int) -> float:
    """The level of the claim number ``place`` (1, 2, …) of a budget over all there will ever be: 6/(π²k²) of it.

    The shares sum to 1, so the chance of any false gain among all claims stays ≤ ``budget``, whatever their dependence
    (Bonferroni; the spending of Foster & Stine, J. R. Statist. Soc. B 70, 2008, without its reinvestment).
    """
    return budget * 6 / (math.pi**2 * place**2)


def spending(total: float, earlier: Sequence[EarlierClaim]) -> AlphaSpending:
    """``alpha_spending`` of a plan: of which budget its level is, and which claim on its test data it is."""
    return AlphaSpending(BUDGET, total, len(earlier) + 1)


def ledger_words(earlier: Sequence[EarlierClaim], alpha: float, spent: AlphaSpending | None = None) -> str | None:
    """What a verdict says of earlier claims on its test data; None where there are none, and no budget either.

    Args:
        earlier: the claims before it.
        alpha: its level.
        spent: ``alpha_spending`` of its plan.
    """
    if not earlier and spent is None:
        return None
    n = len(earlier) + 1
    names = ", ".join(one.study for one in earlier[:5]) + (", …" if len(earlier) > 5 else "")
    if spent is not None:
        before = f" (before it: {names})" if earlier else ""
        return (
            f"this is claim {n} on the same test images in this folder{before}, tested at {alpha:.2g}, its part of a "
            f"budget of {spent.total:g} over all of them; any number of claims that spend from it hold a false gain "
            f"with a chance of at most {spent.total:g}"
        )
    levels = [f"{spent_level(alpha, k):.2g}" for k in (n, n + 1)]
    return (
        f"this is claim {n} on the same test data in this folder (before it: {names}); {n} claims at α = {alpha:g} "
        f"each hold a false gain with a chance of up to {min(1.0, n * alpha):.2g}; to hold {alpha:g} over all claims, "
        f"number {n + 1} would have claim.alpha={levels[1]} (this one: {levels[0]})"
    )
