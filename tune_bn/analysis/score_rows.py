"""Which scores of a table can be used, and what of it is refused or said before anything is judged."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from tune_bn.analysis.columns import Scores
from tune_bn.analysis.doorman import name_findings, threshold_findings, value_findings
from tune_bn.errors import ConfigError, ScoresError, listed

MOST_UNPAIRED = 5_000
"""Runs of an arm without pairs, where all differences between two arms are looked at together."""
FEWEST_PAIRS = 3
"""Runs of an arm. Two leave one degree of freedom: no distribution-free test of them goes below 1/4."""


def named_baseline(scores: Scores, named: str | None, arms: Sequence[str]) -> str:
    """The arm of that name; ``1`` names an arm ``1.0``, and capitals do not count, where that leaves one arm."""
    name = scores.baseline if named is None else named
    if name is None:
        raise ScoresError(f"--baseline: missing; accepted: an arm of {scores.source} ({listed(arms)})")
    if name in arms:
        return name
    alike = [arm for arm in arms if _spelling(arm) == _spelling(name)]
    if len(alike) == 1:
        return alike[0]
    raise ConfigError("baseline", name, f"an arm of {scores.source} ({listed(arms)})")


def _spelling(name: str) -> object:
    try:
        number = float(name)
    except ValueError:
        return name.strip().casefold()
    return number if math.isfinite(number) else name.strip().casefold()


def common_order(scores: Scores, pairs: Sequence[str]) -> list[int] | None:
    """The pairs as indexes, in the order of the file; None where the arms have them in different orders.

    Arms whose rows were ordered each by its scores have different ones.
    """
    orders: dict[str, list[str]] = {}
    for arm, pair, _ in scores.rows:
        orders.setdefault(arm, []).append(pair)
    first, *rest = orders.values()
    return [pairs.index(pair) for pair in first] if all(order == first for order in rest) else None


def usable_scores(
    scores: Scores, arms: Sequence[str], pairs: Sequence[str], *, paired: bool
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Arm → pair → its one finite score, and the rules that the table breaks, one sentence each."""
    found: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    for arm, pair, score in scores.rows:
        found[arm].setdefault(pair, []).append(score)
    by, problems = scores.paired_by or "row", []
    if paired and len(pairs) < 2:
        problems.append(f"the table has fewer than two pairs ({by} {listed(pairs)})")
    elif paired and len(pairs) < FEWEST_PAIRS:
        problems.append(
            f"two pairs are no evidence: with {by} {listed(pairs)} alone no test free of assumptions on the "
            "distribution can go below p = 1/2^2 = 0.25; accepted: three pairs or more"
        )
    usable: dict[str, dict[str, float]] = {}
    for arm in arms:
        name, got = listed([arm]), found[arm]
        own = pairs if paired else sorted(got, key=natural_order)
        missing = [pair for pair in own if pair not in got]
        if missing:
            hint = ""
            if len(missing) == len(own) - len(got) and not any(pair in got for pair in found[arms[0]]):
                hint = f"; where no {by} is shared, --unpaired compares the means"
            problems.append(f"{name} has no score for {by} {listed(missing)}, so the arms are not paired{hint}")
        twice = [pair for pair in own if len(got.get(pair, ())) > 1]
        if twice:
            problems.append(f"{name} has more than one score for {by} {listed(twice)}")
        odd = [pair for pair in own if not all(map(math.isfinite, got.get(pair, ())))]
        if odd:
            problems.append(f"{name} has a score that is not finite for {by} {listed(odd)}")
        if not paired and len(got) < FEWEST_PAIRS:
            runs = "run" if len(got) == 1 else "runs"
            problems.append(f"{name} has {len(got)} {runs}, too few for a test; accepted: three or more")
        if not paired and len(got) > MOST_UNPAIRED:
            problems.append(f"{name} has {len(got):,} runs; accepted: at most {MOST_UNPAIRED:,} without pairs")
        bad = {*missing, *twice, *odd}
        usable[arm] = {pair: got[pair][0] for pair in own if pair not in bad}
    return usable, problems


def doorman_findings(
    scores: Scores,
    usable: Mapping[str, Mapping[str, float]],
    pairs: Sequence[str],
    accept: Sequence[str],
    *,
    paired: bool,
    threshold: float | None,
    arms: Sequence[str],
) -> tuple[list[str], list[str], dict[str, str]]:
    """What the doorman refuses, what is only said, and which of several ``arms`` are not tested, with the reason."""
    named = pairs if scores.paired_by else []
    found = name_findings(scores.arms, named, scores.paired_by)
    order = list(dict.fromkeys(pair for _, pair, _ in scores.rows))
    if all(usable.values()):
        found += value_findings(usable, order, scores.paired_by, paired=paired)
        found += [] if threshold is None else threshold_findings(usable, threshold)
    refused, said, left_out = [], [], dict[str, str]()
    for finding in found:
        if not finding.refused:
            said.append(finding.text)
        elif finding.kind in accept:
            said.append(f"accepted as {finding.kind}: {finding.text.rpartition('; accepted: ')[0]}")
        else:
            text = f"{finding.text}, or --accept {finding.kind} where it is meant so"
            if finding.arm in arms and len(arms) > 1:
                left_out[str(finding.arm)] = f"it {text.removeprefix(f'{listed([finding.arm])} ')}"
            else:
                refused.append(text)
    return refused, said, left_out


def natural_order(pair: str) -> tuple[tuple[int, int, str], ...]:
    """Numbers within a name by size, so that ``run 2`` comes before ``run 10``."""
    parts: Iterable[str] = re.findall(r"\d{1,18}|\D+", pair, re.ASCII)
    return tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts)
