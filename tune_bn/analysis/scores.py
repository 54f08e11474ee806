"""A verdict on scores of anybody: a CSV table with one score per arm and seed, judged as a confirmation is.

The table says nothing of how its scores came about. Where the arms were chosen on the same seeds, or runs were left
out, no test can see it; :data:`SCORES_NOTE` says so with every verdict.
"""

from __future__ import annotations

import csv
import io
import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np

from tune_bn.analysis.evidence import listed
from tune_bn.analysis.paired import PairedResult, PairsError, holm, paired_t_test
from tune_bn.analysis.rounding import difference_error
from tune_bn.analysis.sensitivity import sensitivity_analysis
from tune_bn.analysis.verdict import INVALID, NOT_SUPPORTED, SUPPORTED
from tune_bn.analysis.wording import number_words, p_words
from tune_bn.errors import ConfigError, ScoresError
from tune_bn.records import SCHEMA_VERSION

MOST_BYTES = 4 * 2**20

SCORES_NOTE = (
    "The scores are judged as they stand. Whether the arms were chosen on the same seeds, or runs were left out, "
    "a table cannot show."
)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Scores:
    """The rows of a table, in their order; nothing is judged yet."""

    source: str
    """Name of the file, without its folder."""
    paired_by: str
    """The column whose values make the pairs."""
    rows: tuple[tuple[str, str, float], ...]
    """Arm, pair and score; the score may be NaN or infinite, and rows may repeat."""

    @property
    def arms(self) -> list[str]:
        """The arms, in the order of their first rows."""
        return list(dict.fromkeys(arm for arm, _, _ in self.rows))


def read_scores(path: Path, *, paired_by: str = "seed") -> Scores:
    """Read a CSV table: UTF-8, commas, a header with ``arm``, ``score`` and ``paired_by``; other columns are ignored.

    A score is a decimal number, higher is better; ``nan`` and ``inf`` are read, and make the verdict invalid. Spaces
    around a value do not count. Values of ``paired_by`` are text: ``1`` and ``01`` are two pairs.

    Raises:
        ConfigError: ``paired_by`` is ``arm``, ``score`` or empty.
        ScoresError: the table cannot be read; the message names file, line and column.
    """
    if paired_by in ("", "arm", "score"):
        raise ConfigError("paired_by", paired_by, "a column beside arm and score")
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ScoresError(f"{path}: cannot be read ({reason}); accepted: a CSV file") from None
    if len(content) > MOST_BYTES:
        raise ScoresError(f"{path}: is too large; accepted: a CSV file of at most {MOST_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ScoresError(f"{path}:{line}: is not UTF-8 text; accepted: a CSV file in UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        arm, pair, score = (_column(path, header, name) for name in ("arm", paired_by, "score"))
        for row in reader:
            if not row:
                continue
            place = f"{path}:{reader.line_num}"
            if len(row) != len(header):
                raise ScoresError(f"{place}: {len(row)} fields; accepted: {len(header)}, as in the header")
            values = [row[index].strip() for index in (arm, pair, score)]
            for name, value in (("arm", values[0]), (paired_by, values[1])):
                if not value:
                    raise ScoresError(f"{place}: column {name}: got ''; accepted: text")
            if not _NUMBER.fullmatch(values[2]):
                raise ScoresError(f"{place}: column score: got {reprlib.repr(values[2])}; accepted: a number")
            rows.append((values[0], values[1], float(values[2])))
    except csv.Error as error:
        raise ScoresError(f"{path}:{reader.line_num}: not CSV ({error}); accepted: a CSV file") from None
    if not rows:
        raise ScoresError(f"{path}: has no row below its header; accepted: one row per arm and {paired_by}")
    return Scores(source=path.name, paired_by=paired_by, rows=tuple(rows))


def judge_scores(scores: Scores, *, baseline: str, alpha: float = 0.05) -> dict[str, Any]:
    """The verdict on every other arm of a table against ``baseline``: the rules of a confirmation, without its plan.

    One-sided paired t-test, Holm-adjusted for the number of other arms; supported where at least one has p ≤ alpha.
    Invalid, with every broken rule in ``problems`` and no p-value: a pair that an arm lacks or has twice, a score that
    is not finite, fewer than two pairs, arms that are identical or differ by a constant. One arm that breaks a rule
    makes the whole table invalid, because the others would be adjusted for too few.

    Args:
        scores: as :func:`read_scores` returns them.
        baseline: the arm to compare with.
        alpha: family-wise level, between 0 and 0.5.

    Returns:
        A dict that JSON can hold, with the keys of :func:`tune_bn.analysis.verdict.judge` that have a meaning here;
        ``source``, ``paired_by`` and ``pairs`` tell where the scores are from. Each candidate has the keys of
        :func:`tune_bn.analysis.sensitivity.sensitivity_analysis` under ``sensitivity``, not adjusted. It does not
        depend on the order of the rows, but for the order of the candidates, which is that of their first rows.

    Raises:
        ConfigError: ``alpha`` is out of range, or ``baseline`` is no arm of the table.
        ScoresError: the table has no other arm.
    """
    if not 0 < alpha < 0.5:
        # From there on an arm that is worse could be called better.
        raise ConfigError("alpha", alpha, "a number between 0 and 0.5")
    arms = scores.arms
    if baseline not in arms:
        raise ConfigError("baseline", baseline, f"an arm of {scores.source} ({listed(arms)})")
    arms.remove(baseline)
    if not arms:
        raise ScoresError(
            f"{scores.source}: column arm: only {listed([baseline])}; accepted: the baseline and at least one other arm"
        )
    pairs = sorted({pair for _, pair, _ in scores.rows}, key=_natural)
    usable, problems = _usable(scores, [baseline, *arms], pairs)
    results: dict[str, PairedResult] = {}
    sensitivity: dict[str, dict[str, Any]] = {}
    if not problems:
        base = np.array([usable[baseline][pair] for pair in pairs])
        for arm in arms:
            values = np.array([usable[arm][pair] for pair in pairs])
            try:
                # The correlation of huge scores may overflow; it is then null.
                with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                    results[arm] = paired_t_test(values, base, alpha=alpha)
                sensitivity[arm] = sensitivity_analysis(
                    values - base, alpha=alpha, error=difference_error(values, base)
                )
            except PairsError as error:
                problems.append(f"{listed([arm])}: {error}")
    compared = [_arm(arm, usable[arm], pairs) for arm in arms]
    verdict: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "source": scores.source,
        "verdict": INVALID,
        "reason": "",
        "problems": problems,
        "metric": "score",
        "test": "paired_t_greater",
        "alpha": alpha,
        "correction": "holm",
        "n": len(pairs),
        "paired_by": scores.paired_by,
        "pairs": pairs,
        "baseline": _arm(baseline, usable[baseline], pairs),
        "candidates": [{**arm, **_NOTHING} for arm in compared] if problems else _judged(compared, results, alpha),
        "selection": SCORES_NOTE,
    }
    if problems:
        more = f" ({len(problems) - 1} more in `problems`)" if len(problems) > 1 else ""
        verdict["reason"] = f"{problems[0]}{more}."
        return verdict
    for arm in verdict["candidates"]:
        arm["sensitivity"] = sensitivity[arm["arm"]]
    verdict["verdict"] = SUPPORTED if any(arm["supported"] for arm in verdict["candidates"]) else NOT_SUPPORTED
    verdict["reason"] = _sentence(verdict)
    return verdict


def spread_words(mean: float, std: float) -> str:
    """``97.16 ± 0.71`` or ``0.9716 ± 0.0071``: two digits of the spread, and the mean to the same place."""
    places = 1 - math.floor(math.log10(std)) if std > 0 else 2
    if not -6 <= places <= 9:
        return f"{mean:.4g} ± {std:.2g}"
    return f"{mean:.{max(places, 0)}f} ± {std:.{max(places, 0)}f}"


_NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("effect", "ci_low", "p_value", "p_adjusted", "d_z", "correlation")),
    "supported": False,
    "sensitivity": None,
}


def _column(path: Path, header: Sequence[str], name: str) -> int:
    found = [index for index, column in enumerate(header) if column == name]
    if len(found) == 1:
        return found[0]
    what = "stands twice" if found else f"is missing (the header has {listed(header) or 'nothing'})"
    raise ScoresError(f"{path}:1: column {name} {what}; accepted: a header that names it once")


def _usable(scores: Scores, arms: Sequence[str], pairs: Sequence[str]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Arm → pair → its one finite score, and the rules that the table breaks, one sentence each."""
    found: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    for arm, pair, score in scores.rows:
        found[arm].setdefault(pair, []).append(score)
    by, problems = scores.paired_by, []
    if len(pairs) < 2:
        problems.append(f"the table has fewer than two pairs ({by} {listed(pairs)})")
    usable: dict[str, dict[str, float]] = {}
    for arm in arms:
        name, got = listed([arm]), found[arm]
        missing = [pair for pair in pairs if pair not in got]
        if missing:
            problems.append(f"{name} has no score for {by} {listed(missing)}, so the arms are not paired")
        twice = [pair for pair in pairs if len(got.get(pair, ())) > 1]
        if twice:
            problems.append(f"{name} has more than one score for {by} {listed(twice)}")
        odd = [pair for pair in pairs if not all(map(math.isfinite, got.get(pair, ())))]
        if odd:
            problems.append(f"{name} has a score that is not finite for {by} {listed(odd)}")
        bad = {*missing, *twice, *odd}
        usable[arm] = {pair: got[pair][0] for pair in pairs if pair not in bad}
    return usable, problems


def _arm(name: str, scores: Mapping[str, float], pairs: Iterable[str]) -> dict[str, Any]:
    values = list(scores.values())
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            "arm": name,
            "scores": {pair: scores[pair] for pair in pairs if pair in scores},
            "mean": _finite(np.mean(values)) if values else None,
            "std": _finite(np.std(values, ddof=1)) if len(values) > 1 else None,
        }


def _judged(
    arms: Sequence[Mapping[str, Any]], results: Mapping[str, PairedResult], alpha: float
) -> list[dict[str, Any]]:
    adjusted = holm([results[arm["arm"]].p_value for arm in arms])
    return [
        {
            **arm,
            "effect": result.effect,
            # At the smallest levels the bound is no number.
            "ci_low": _finite(result.ci_low),
            "p_value": result.p_value,
            "p_adjusted": float(p_adjusted),
            "d_z": result.d_z,
            "correlation": None if result.correlation is None else _finite(result.correlation),
            "supported": bool(p_adjusted <= alpha),
        }
        for arm, result, p_adjusted in zip(arms, (results[arm["arm"]] for arm in arms), adjusted, strict=True)
    ]


def _sentence(verdict: Mapping[str, Any]) -> str:
    """The outcome for the strongest arm, with its numbers."""
    baseline, candidates, alpha = verdict["baseline"], verdict["candidates"], verdict["alpha"]
    best = min(candidates, key=lambda arm: (arm["p_adjusted"], -arm["effect"]))
    name, against, effect = listed([best["arm"]]), listed([baseline["arm"]]), best["effect"]
    if best["supported"]:
        claim = f"{name} raises the score by {number_words(effect)} over {against}"
    else:
        sign = "+" if effect > 0 else ""
        claim = f"{name} shows no significant gain over {against}: {sign}{number_words(effect)}"
    if len(candidates) == 1:
        p_value = f"p = {p_words(best['p_value'], alpha)}"
    else:
        supported = sum(arm["supported"] for arm in candidates)
        p_value = (
            f"p = {best['p_value']:.2g}, adjusted for {len(candidates)} arms p = {p_words(best['p_adjusted'], alpha)}; "
            f"{supported} of {len(candidates)} supported"
        )
    return (
        f"{claim} ({arm_words(best)} against {arm_words(baseline)}, "
        f"n = {verdict['n']} pairs by {listed([verdict['paired_by']])}, one-sided paired t-test {p_value})."
    )


def arm_words(arm: Mapping[str, Any]) -> str:
    """Mean ± standard deviation of an arm; a dash where they overflow or are missing."""
    return "–" if arm["mean"] is None or arm["std"] is None else spread_words(arm["mean"], arm["std"])


def _natural(pair: str) -> tuple[int, int, str]:
    """Whole numbers by size, then text."""
    return (0, int(pair), pair) if re.fullmatch(r"\d{1,18}", pair, re.ASCII) else (1, 0, pair)


def _finite(value: SupportsFloat) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
