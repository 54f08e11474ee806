"""Which design to choose: the fixed one and group-sequential ones that find a given gain with a wished power."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tune_bn.analysis.characteristics import Course, Stage, course
from tune_bn.analysis.power import seeds_needed, t_test_power
from tune_bn.analysis.sequential import DEFAULT_FUTILITY, Design, design
from tune_bn.analysis.spending import FIRST_LOOK, LARGEST_LEVEL, MOST_PAIRS

LOOKS = (3, 5, 8)
"""Numbers of looks that are tried. Each look is a moment at which runs wait for each other, and more than eight save
little more."""
FIRST_SHARE = 0.3
"""Share of the pairs at which the first look is. Looks before it show nothing by the boundaries of O'Brien and Fleming,
and where there is no gain one in four candidates ends there."""
WORTH = 0.02
"""Share of the pairs that more looks must save to be recommended."""


@dataclass(frozen=True)
class Option:
    """A design with what becomes of a candidate that has the gain, and of one that has none."""

    rule: Design | None
    """None: the fixed design."""
    gain: Course
    none: Course

    @property
    def pairs(self) -> int:
        """Pairs at most."""
        return self.gain.stages[-1].n

    @property
    def looks(self) -> int:
        """Looks, the last one counted too; 1 of the fixed design."""
        return len(self.gain.stages)


def fixed_option(d_z: float, pairs: int, *, alpha: float = 0.05, candidates: int = 1) -> Option:
    """The fixed design with so many pairs. Arguments and errors as in :func:`tune_bn.analysis.power.t_test_power`."""

    def end(effect: float) -> Course:
        power = t_test_power(effect, 1.0, pairs, alpha=alpha, candidates=candidates)
        return Course((Stage(pairs, power, 1 - power),))

    return Option(None, end(d_z), end(0.0))


def sequential_option(d_z: float, rule: Design, *, candidates: int = 1) -> Option:
    """A group-sequential design. Arguments and errors as in :func:`tune_bn.analysis.characteristics.course`."""
    return Option(rule, course(rule, d_z, candidates=candidates), course(rule, 0.0, candidates=candidates))


def spread_looks(pairs: int, number: int) -> tuple[int, ...]:
    """At most so many looks, evenly from :data:`FIRST_SHARE` of the pairs to all of them, none before 3."""
    shares = [FIRST_SHARE + (1 - FIRST_SHARE) * k / (number - 1) for k in range(number - 1)]
    return (*sorted({n for share in shares if (n := max(FIRST_LOOK, round(share * pairs))) < pairs}), pairs)


def options(
    d_z: float,
    *,
    alpha: float = 0.05,
    candidates: int = 1,
    power: float = 0.8,
    futility: float | None = DEFAULT_FUTILITY,
) -> list[Option]:
    """The designs that show a true gain of ``d_z`` with probability ``power``, each with as few pairs as it takes.

    The fixed design first, then those with more and more looks, where there is room for any: with 4 pairs at least, at
    most 10,000, and alpha ≤ 0.3. Of more than two hundred pairs the last percent is not searched. Empty where more
    pairs are needed than :func:`tune_bn.analysis.power.seeds_needed` counts.

    Args:
        d_z: true mean difference in standard deviations of the paired differences, > 0.
        alpha, candidates, power: as in :func:`tune_bn.analysis.power.seeds_needed`.
        futility: as in :func:`tune_bn.analysis.sequential.design`.

    Raises:
        ConfigError: a value is out of range.
    """
    needed = seeds_needed(d_z, 1.0, alpha=alpha, candidates=candidates, power=power)
    if needed is None:
        return []
    found = [fixed_option(d_z, needed, alpha=alpha, candidates=candidates)]
    if alpha > LARGEST_LEVEL:
        return found
    for number in LOOKS:

        def sequential(pairs: int, number: int = number) -> Option | None:
            if not FIRST_LOOK < pairs <= MOST_PAIRS:
                return None
            rule = design(spread_looks(pairs, number), alpha, futility=futility)
            return sequential_option(d_z, rule, candidates=candidates)

        best = _with_fewest_pairs(sequential, needed, power)
        if best is not None and all(best.rule != other.rule for other in found):
            found.append(best)
    return found


def recommended(found: list[Option]) -> Option:
    """The option with the fewest looks whose mean number of pairs, where the gain is there, is within :data:`WORTH` of
    the least.
    """
    least = min(option.gain.expected_pairs for option in found)
    return next(option for option in found if option.gain.expected_pairs <= (1 + WORTH) * least)


def _with_fewest_pairs(sequential: Callable[[int], Option | None], needed: int, power: float) -> Option | None:
    """Looks cost some power, so it begins at the pairs of the fixed design, goes up in growing steps, and back."""
    enough = max(needed, FIRST_LOOK + 1)
    few, step, finest = enough - 1, 1, max(1, needed // 100)
    while (best := sequential(enough)) is not None and best.gain.power < power:
        few, enough, step = enough, enough + step * finest, 2 * step
    while best is not None and enough - few > finest:
        middle = (few + enough) // 2
        option = sequential(middle)
        if option is not None and option.gain.power >= power:
            best, enough = option, middle
        else:
            few = middle
    return best
