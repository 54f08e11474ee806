"""What a table of scores must not hold: rows that are no runs, runs that count twice, scores in another unit.

Each check asks how likely honest scores are to look like this, at the resolution that the table shows, and speaks where
that is next to never. ``tests/analysis/test_doorman.py`` has the rates on honest tables.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from tune_bn.analysis.goals import names_in
from tune_bn.analysis.repeats import (
    HARDLY,
    NEVER,
    SELDOM,
    UNLIKELY,
    chance_of_all_equal,
    chance_of_equal,
    crowding,
    decimals,
    equal_rows,
    grid,
)
from tune_bn.analysis.units import Usable, against_other_unit, in_other_units, taken_from_all
from tune_bn.errors import listed

Array = NDArray[np.float64]
SUMMARIES, REPEATS, UNITS, NAMES = "summaries", "repeats", "units", "names"
KINDS = (SUMMARIES, REPEATS, UNITS, NAMES)

_SUMMARY = names_in("""
    mean means avg avgs average averages mittel mittelwert moyenne media durchschnitt std stds sd stdev stdevp stddev
    stderr se sem deviation variance var min mins max maximum minimum median total totals subtotal sum summe overall all
    count counts range iqr ci pm aggregate aggregated summary gesamt spread quantile percentile ± ø ∅ σ µ μ Σ
    mittelwerte durchschnittlich standardabweichung stabw stdabw streuung varianz insgesamt promedio medio moyen écart
    ecart variance desviación desviacion desvio gemiddelde snitt scarto średnia srednia среднее 平均 平均值 均值 标准差
    標準偏差 方差 合计 合計 总计 총계 평균
    """)
# Letters that may as well be names of pairs: they count where the others are numbers.
_SHORT = frozenset({"n", "m", "s"})
_FILLERS = names_in("""
    the of over and err a an seeds seed runs run all folds fold trials trial score scores standard error dev row value
    values accuracy acc grand n ddof p pop population sample samples across confidence interval
    """)


@dataclass(frozen=True)
class Finding:
    """One thing that an honest table would hardly show."""

    kind: str
    """One of :data:`KINDS`."""
    text: str
    refused: bool = True
    """False: it is said, and no more."""
    arm: str | None = None
    """The one arm that it is about, where the scores of the others are none the worse for it."""


def name_findings(arms: Sequence[str], pairs: Sequence[str], paired_by: str) -> list[Finding]:
    """Pairs that are called after a summary, and names that are two spellings of one."""
    found = []
    numbered = [pair for pair in pairs if re.search(r"\d", pair) and not _is_summary(pair, short=True)]
    short = 2 * len(numbered) >= len(pairs)
    summaries = [pair for pair in pairs if _is_summary(pair, short=short)]
    if summaries:
        found.append(
            Finding(
                SUMMARIES,
                f"{paired_by} {listed(summaries)} {_kind_of_rows(summaries)} of the others, which would count as "
                "evidence once more; accepted: rows of runs alone",
            )
        )
    whole = [pair for pair in pairs if re.fullmatch(r"[+-]?\d+([.,]0*)?", pair)]
    odd = [pair for pair in pairs if not re.search(r"\d", pair) and pair not in summaries]
    if odd and len(odd) <= 2 and len(whole) >= max(3, len(pairs) - len(odd) - len(summaries)):
        found.append(
            Finding(
                SUMMARIES,
                f"{paired_by} {listed(odd)} {'is no number' if len(odd) == 1 else 'are no numbers'}, unlike the "
                "others, and may be no run; accepted: rows of runs alone",
            )
        )
    for what, names in ((f"{paired_by}", pairs), ("arms", arms)):
        for group in _spellings(names):
            found.append(Finding(NAMES, f"{what} {listed(group)} are spellings of one name; accepted: one of them"))
    return found


def _kind_of_rows(names: Sequence[str]) -> str:
    return "is no run but a summary" if len(names) == 1 else "are no runs but summaries"


def _is_summary(name: str, *, short: bool) -> bool:
    words = re.findall(r"[^\W\d_]+|[±ø∅σµμΣ]", name.casefold().replace("st.", "st").replace("s.d.", "sd"))
    if not words:
        return False
    telling = _SUMMARY | (_SHORT if short else frozenset())
    return any(word in telling for word in words) and all(word in telling | _FILLERS for word in words)


def _spellings(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that are one number, or one text but for capitals and spaces."""
    groups: dict[object, list[str]] = defaultdict(list)
    for name in names:
        key: object = re.sub(r"[\s_-]+", " ", name).strip().casefold()
        try:
            number = float(name)
            key = number if math.isfinite(number) and abs(number) < 2**53 else key
        except ValueError:
            pass
        groups[key].append(name)
    return [group for group in groups.values() if len(group) > 1]


def value_findings(usable: Usable, order: Sequence[str], paired_by: str, *, paired: bool = True) -> list[Finding]:
    """What the scores themselves show.

    Args:
        usable: finite scores. Where ``paired``, every arm has every pair.
        order: the pairs in the order of the file.
        paired_by: what makes a pair, for the message.
        paired: False: the same name in two arms is chance.
    """
    # Sizes near the ends of the range overflow; such scores are refused by the tests.
    with np.errstate(all="ignore"):
        return _value_findings(usable, order, paired_by, paired=paired)


def _value_findings(usable: Usable, order: Sequence[str], paired_by: str, *, paired: bool) -> list[Finding]:
    found = [Finding(UNITS, text) for text in in_other_units(usable, paired_by)]
    if found:
        # Every other check would take the unit for the finding.
        return found
    found += [Finding(UNITS, text, refused=False) for text in taken_from_all(usable)]
    found += _copied(usable)
    found += _summary_values(usable, order if paired else (), paired_by)
    if paired:
        found += _copies(usable, order)
        return found + _repeats(usable, order, paired_by) + _derived(usable, order)
    for arm, scores in usable.items():
        found += _repeats({arm: scores}, list(scores), paired_by or "row")
    return found


def threshold_findings(usable: Usable, threshold: float) -> list[Finding]:
    """A threshold in another unit than the scores."""
    with np.errstate(all="ignore"):
        return [Finding(UNITS, text) for text in against_other_unit(usable, threshold)]


# Pairs that stand more than once.


def _repeats(usable: Usable, order: Sequence[str], paired_by: str) -> list[Finding]:
    if len(order) < 3:
        return []
    columns = {arm: np.array([scores[pair] for pair in order]) for arm, scores in usable.items()}
    found = [finding for read in _readings(columns) for finding in _repeats_of(read, order, paired_by)]
    return sorted(found, key=lambda finding: not finding.refused)[:1]


def _readings(columns: Mapping[str, Array]) -> list[Mapping[str, Array]]:
    """The scores as they stand, and rounded: a copy may be off by a computation, or have been rounded since."""
    readings = [columns]
    fine = {arm: _without_noise(column) for arm, column in columns.items()}
    places = [decimals(float(score)) for column in fine.values() for score in column]
    shortest = sorted(places)[len(places) * 3 // 10]
    # Of numbers with one precision a tenth ends in zero.
    coarse = {arm: np.round(column, shortest) for arm, column in fine.items()}
    for read in (fine, coarse):
        changed = [arm for arm in columns if np.any(read[arm] != readings[-1][arm])]
        if changed and all(np.ptp(read[arm]) > 0 for arm in changed):
            readings.append(read)
    return readings


def _without_noise(column: Array) -> Array:
    """Without the places that are below 10⁻⁵ of what the scores spread by."""
    spread, largest = float(np.std(column)), float(np.max(np.abs(column)))
    # Closer together than so, floats are their own noise.
    if not math.isfinite(spread) or spread <= 1e-9 * largest:
        return column
    return np.round(column, 5 - math.floor(math.log10(spread)))


def _copies(usable: Usable, order: Sequence[str]) -> list[Finding]:
    """Arms that are another but for what a computation is off by, 10⁻⁶ of what the scores spread by."""
    columns = {arm: np.array([scores[pair] for pair in order]) for arm, scores in usable.items()}
    found = []
    for first, second in combinations(columns, 2):
        distance = float(np.max(np.abs(columns[first] - columns[second])))
        spread = min(_std(columns[first]), _std(columns[second]))
        if len(order) > 2 and math.isfinite(spread) and 0 < distance <= 1e-6 * spread:
            found.append(
                Finding(
                    REPEATS,
                    f"{listed([first])} and {listed([second])} are equal but for {distance:.1g}, as though one were a "
                    "copy of the other; accepted: every run once",
                )
            )
    return found


def _repeats_of(usable: Mapping[str, Array], order: Sequence[str], paired_by: str) -> list[Finding]:
    columns = list(usable.values())
    found = equal_rows(columns, order, partial(chance_of_all_equal, columns), NEVER, HARDLY)
    everywhere = "in every arm" if len(columns) > 1 else f"in {listed(list(usable))}"
    if found is not None:
        groups, refused = found
        words = "; ".join(listed(group) for group in groups[:3]) + ("; …" if len(groups) > 3 else "")
        more = ", as though pairs stood in the table again under other names; accepted: every run once"
        return [
            Finding(REPEATS, f"{paired_by} {words} have the same scores {everywhere}{more if refused else ''}", refused)
        ]
    if len(columns) == 1:
        return []
    for arm, column in usable.items():
        if np.ptp(column) == 0:
            continue
        one = equal_rows([column], order, partial(chance_of_equal, column), NEVER**2, NEVER)
        if one is not None and one[1]:
            return [
                Finding(
                    REPEATS,
                    f"{listed([arm])} has the same scores again under other names: {paired_by} "
                    f"{'; '.join(listed(group) for group in one[0][:3])}; accepted: every run once",
                )
            ]
    return []


def _copied(usable: Usable) -> list[Finding]:
    """Arms of one number, where the others show that runs differ: one run, or a published mean, in every row."""
    columns = {arm: np.array(list(scores.values())) for arm, scores in usable.items()}
    copied = {arm: column for arm, column in columns.items() if column.size > 2 and np.ptp(column) == 0}
    if not copied:
        return []
    varying = [chance_of_equal(column) for column in columns.values() if column.size > 1 and np.ptp(column) > 0]
    found = []
    for arm, column in copied.items():
        value = float(column[0])
        refused = bool(varying) and max(varying) ** (column.size - 1) < UNLIKELY and not _is_a_limit(value)
        text = f"{listed([arm])} has the same score {value:g} in all {column.size} rows"
        more = ", as one run that was copied; accepted: a run for each row, or --threshold for a published number"
        found.append(Finding(REPEATS, text + (more if refused else ""), refused, arm))
    return found


def _is_a_limit(value: float) -> bool:
    """Scores that runs have in common: none, all, or what guessing among k classes gives, as a fraction or percent."""
    if value in (0.0, 1.0, 100.0):
        return True
    guesses = [whole / value for whole in (1.0, 100.0) if 0 < value <= whole / 2]
    return any(math.isfinite(classes) and abs(classes - round(classes)) < 1e-3 * classes for classes in guesses)


# Rows and arms that are computed from the others.


def _std(values: Array) -> float:
    return float(np.std(values, ddof=1))


_STATISTICS: Mapping[str, Callable[[Array], float]] = {
    "mean": lambda values: float(np.mean(values)),
    "standard deviation": _std,
    "standard deviation (of a population)": lambda values: float(np.std(values)),
    "standard error": lambda values: _std(values) / math.sqrt(values.size),
    "sum": lambda values: float(np.sum(values)),
}


def _summary_values(usable: Usable, order: Sequence[str], paired_by: str) -> list[Finding]:
    """The first or the last row where it is, in every arm, a statistic of the rows before or after it.

    Args:
        usable: the scores of each arm.
        order: the pairs in the order of the file, or none where every arm has an order of its own.
        paired_by: what makes a pair, for the message.
    """
    arms = {arm: [(pair, scores[pair]) for pair in order or scores] for arm, scores in usable.items()}
    for last in (True, False):
        ordered = {arm: rows if last else rows[::-1] for arm, rows in arms.items()}
        for end in (-1, -2):
            # Above a row of deviations there may be one of means.
            columns = [np.array([score for _, score in rows]) for rows in ordered.values()]
            if min(column.size for column in columns) - abs(end) < 3:
                continue
            for name, statistic in _STATISTICS.items():
                chance = _chance_in_all(columns, end, statistic)
                if chance >= SELDOM:
                    continue
                chance *= crowding([column[:end] for column in columns])
                # Each further reading of the rows has its own chance to fit.
                plain = last and end == -1
                if chance >= (SELDOM if plain else NEVER**1.5):
                    continue
                pairs = list(dict.fromkeys(rows[-1][0] for rows in ordered.values()))
                text = f"{paired_by or 'row'} {listed(pairs)} is the {name} of the others in every arm"
                refused = bool(chance < UNLIKELY)
                more = ", and no run; accepted: rows of runs alone" if refused else ", as a row of summaries is"
                return [Finding(SUMMARIES, text + more, refused)]
    return []


def _chance_in_all(columns: Sequence[Array], end: int, statistic: Callable[[Array], float]) -> float:
    """The product of :func:`_chance_of_statistic` over arms; infinite as soon as it is in one of them."""
    product = 1.0
    for column in columns:
        chance = _chance_of_statistic(column[-1], column[:end], statistic)
        if math.isinf(chance):
            return math.inf
        product *= chance
    return product


def _chance_of_statistic(value: float, others: Array, statistic: Callable[[Array], float]) -> float:
    """Chance that a run has by itself the score that a statistic of the others has; infinite where it has another."""
    distance = abs(value - statistic(others))
    # A mean of 90.00 is read as 90: where it is that of the others to their last place, it was written with as many.
    for places in sorted({max(map(decimals, map(float, others))), decimals(float(value))}, reverse=True):
        tolerance = 0.5000001 * 10.0**-places + 1e-12 * abs(value)
        if distance <= tolerance:
            break
    if not distance <= tolerance:
        return math.inf
    spread = _std(others)
    if spread == 0:
        # An arm of one number has its own mean in every row, and says nothing for or against.
        return 1.0
    # So far out no run lies anyway.
    outside = 0.01 if abs(value - float(np.median(others))) > 6 * spread else 1.0
    # On the grid of the others a run has the value more often than between two steps of it.
    step = grid(others)
    steps = (value - float(others[0])) / step
    is_on_grid = abs(steps - round(steps)) * step <= tolerance if math.isfinite(steps) else True
    return outside * min(1.0, max(2 * tolerance, step if is_on_grid else 0.0) / (2.5 * spread))


def _derived(usable: Usable, order: Sequence[str]) -> list[Finding]:
    """Arms that are, in every pair, the mean of all others or the difference of two."""
    if not 3 <= len(usable) <= 12 or len(order) < 3:
        return []
    columns = {arm: np.array([scores[pair] for pair in order]) for arm, scores in usable.items()}
    places = {arm: max(map(decimals, map(float, column))) for arm, column in columns.items()}
    # Of a difference and what it was taken from, each is a difference of the two others; the smaller one is meant.
    for arm, column in sorted(columns.items(), key=lambda item: float(np.median(np.abs(item[1])))):
        tolerance = 0.51 * 10.0 ** -places[arm]
        spread = _std(column)
        rest = {name: other for name, other in columns.items() if name != arm}
        readings = [(f"the mean of {listed(list(rest))}", np.mean(list(rest.values()), axis=0))]
        readings += [(f"{listed([a])} − {listed([b])}", rest[a] - rest[b]) for a, b in permutations(rest, 2)]
        # Arms that go with each other over the pairs lie near their mean.
        apart = min(_std(rest[a] - rest[b]) for a, b in permutations(rest, 2)) / math.sqrt(2)
        # The columns that it was computed from may have been rounded since.
        reach = tolerance + max(10.0 ** -places[name] for name in rest)
        size = min(spread, apart)
        if not size > 0 or min(1.0, 2 * reach / (2.5 * size)) ** len(order) >= NEVER:
            continue
        for words, reading in readings:
            if np.all(np.abs(column - reading) <= reach):
                text = f"{listed([arm])} is {words} in every pair, and no arm; accepted: arms alone"
                return [Finding(SUMMARIES, text)]
    return []


__all__ = ["KINDS", "Finding", "name_findings", "threshold_findings", "value_findings"]
