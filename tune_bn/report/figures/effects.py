"""The forest of effects: each candidate's gain with its interval, and the gain that could have been seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tune_bn.analysis.claims import claim_in
from tune_bn.analysis.wording import correction_words, decimals_of_verdict, score_of_verdict
from tune_bn.records.verdict import Candidate, Verdict, known
from tune_bn.report.arms import confidence_of, is_sequential, percent_words, states_losses
from tune_bn.report.blocks import typeset
from tune_bn.report.figures.canvas import BLUE, FARTHEST, GREEN, GREY, VERMILION, legend_below, new_figure, plain, tidy


def forest(verdict: Verdict) -> Figure | None:
    """One row per candidate: effect, the interval of its test, that of its decision, minimum detectable effect.

    Returns None where no candidate has an effect, as in an invalid verdict.
    """
    candidates = [arm for arm in verdict.candidates if arm.effect is not None]
    if not candidates:
        return None
    score, digits = score_of_verdict(verdict), decimals_of_verdict(verdict)
    figure = new_figure(8.0, 1.9 + 0.42 * len(candidates))
    axes = figure.add_subplot()
    axes.axvline(0, color="black", linewidth=0.9)
    claim = claim_in(verdict)
    for margin in () if claim.is_plain else {claim.null, claim.null if claim.ceiling is None else claim.ceiling}:
        label = f"margin of the claim ({claim.kind})" if margin == claim.null else None
        axes.axvline(margin, color=VERMILION, linewidth=0.9, linestyle="--", label=label)
    view = _view(candidates, verdict)
    for row, arm in enumerate(candidates):
        _row(axes, row, arm, verdict, view, name_parts=row == 0, effect_words=_effect_words(candidates))
        weight = "bold" if arm.supported or arm.worse else "normal"
        words = typeset(f"{arm.effect:+.{digits}f}")
        axes.text(1.01, row, words, transform=axes.get_yaxis_transform(), va="center", fontweight=weight)
    if any(arm.worse for arm in candidates) and not candidates[0].worse:
        _marker(axes, [], [], worse=True, label=WORSE)
    if candidates[0].worse and not all(arm.worse for arm in candidates):
        _marker(axes, [], [], worse=False, label=_effect_words(candidates))
    names = [plain(arm.arm) + ("\n(not tested)" if arm.not_tested else "") for arm in candidates]
    axes.set_yticks(range(len(candidates)), names)
    axes.set_ylim(len(candidates) - 0.5, -0.5)
    words = "effect: gain over the baseline" + ("" if score.higher_is_better else " (+ is lower)")
    axes.set_xlabel(f"{words}, {score.difference_unit_words}" if score.difference_unit_words else words)
    repeated = "repeated intervals: they hold at all looks together; " if is_sequential(verdict) else ""
    bold = "bold: significant" if any(arm.supported or arm.worse for arm in candidates) else ""
    axes.set_title(f"{repeated}{bold}".removesuffix("; "), loc="left", fontsize=10)
    tidy(axes, grid="x")
    legend_below(figure, axes, columns=2)
    return figure


WORSE = "significantly worse"


def _effect_words(candidates: Sequence[Candidate]) -> str:
    return "effect (filled square: supported)" if any(arm.supported for arm in candidates) else "effect"


def shapes_words(verdict: Verdict) -> str:
    """What is drawn, as far as it is there, for the caption."""
    candidates = [arm for arm in verdict.candidates if arm.effect is not None]
    shapes = {
        "circle: effect": any(not (arm.supported or arm.worse) for arm in candidates),
        "filled square: effect, supported": any(arm.supported and not arm.worse for arm in candidates),
        "cross: effect, significantly worse": any(arm.worse for arm in candidates),
        bars_words(verdict): any(_bars(arm, verdict) for arm in candidates),
    }
    words = "; ".join(shape for shape, there in shapes.items() if there)
    if any(arm.minimum_detectable_effect is not None for arm in candidates):
        words += (
            "; triangle: the smallest true gain that the planned seeds find with power 0.8, if the differences spread "
            "as these do. A gain below the triangle may well exist and not be seen here"
        )
    low, high = _view(candidates, verdict)
    ends = [end for arm in candidates for bar in _bars(arm, verdict) for end in bar[0] if end is not None]
    if any(not low <= end <= high for end in ends):
        words += ". An arrow: the interval goes on beyond the picture"
    return f"{words[:1].upper()}{words[1:]}."


def bars_words(verdict: Verdict) -> str:
    """What the bars are, for the caption."""
    if not states_losses(verdict):
        return "blue: down to its one-sided lower bound, the bound of the test; grey: two-sided interval"
    if len(verdict.candidates) == 1:
        return "blue: the two-sided interval that belongs to the one-sided test"
    return (
        f"grey: interval at the levels of its own {correction_words(verdict)} step, which excludes 0 where the arm is "
        "found better or worse; "
        "blue: interval of its test alone, not adjusted for several candidates"
    )


def _view(candidates: Sequence[Candidate], verdict: Verdict) -> tuple[float, float]:
    """What the picture shows: of each interval as much as :data:`FARTHEST` allows, of any arm whatever lies there."""
    lows, highs = [0.0], [0.0]
    for arm in candidates:
        effect, std = known(arm.effect), arm.std_difference
        reach = math.inf if std is None else FARTHEST * std
        stated = [end for ends, *_ in _bars(arm, verdict) for end in ends if end is not None]
        shown = [min(max(end, effect - reach), effect + reach) for end in stated]
        detectable = arm.minimum_detectable_effect
        shown += [effect, *([] if detectable is None else [detectable])]
        lows.append(min(shown))
        highs.append(max(shown))
    return min(lows), max(highs)


def _row(
    axes: Axes,
    row: int,
    arm: Candidate,
    verdict: Verdict,
    view: tuple[float, float],
    *,
    name_parts: bool,
    effect_words: str,
) -> None:
    def label(words: str) -> str | None:
        return words if name_parts else None

    effect, detectable = known(arm.effect), arm.minimum_detectable_effect
    for ends, words, colour, width, size in _bars(arm, verdict):
        _bar(axes, row, effect, ends, view, colour=colour, width=width, size=size, label=label(words))
    kind = WORSE if arm.worse else effect_words
    _marker(axes, [effect], [row], worse=arm.worse, filled=arm.supported, label=label(kind))
    if detectable is not None:
        axes.plot(
            detectable,
            row - 0.3,
            marker="v",
            markersize=6,
            linestyle="",
            color=GREEN,
            markerfacecolor="white",
            label=label("smallest gain found with power 0.8"),
            zorder=3,
        )


Ends = tuple[float | None, float | None]


def _bars(arm: Candidate, verdict: Verdict) -> list[tuple[Ends, str, str, float, float]]:
    """The intervals of an arm, the widest first: ends, what it is, colour, line width, size of its ends."""
    found: list[tuple[Ends, str, str, float, float]] = []
    level = percent_words(confidence_of(verdict))
    interval, adjusted = arm.ci, arm.ci_adjusted
    if not states_losses(verdict):
        if interval:
            found.append(((interval[0], interval[1]), "two-sided interval", GREY, 1.4, 8))
        if arm.ci_low is not None:
            found.append(((arm.ci_low, arm.effect), "one-sided lower bound", BLUE, 3.2, 13))
        return found
    if adjusted and len(verdict.candidates) > 1:
        found.append(((adjusted[0], adjusted[1]), f"interval at its {correction_words(verdict)} step", GREY, 1.4, 8))
    if interval:
        not_adjusted = ", not adjusted" if found else ""
        found.append(((interval[0], interval[1]), f"{level} interval{not_adjusted}", BLUE, 3.2, 13))
    return found


def _bar(
    axes: Axes,
    row: int,
    effect: float,
    ends: Ends,
    view: tuple[float, float],
    *,
    colour: str,
    width: float,
    size: float,
    label: str | None,
) -> None:
    """A bar between the ends that are closed; one that goes on beyond the view ends in an arrow."""
    closed = [end for end in ends if end is not None]
    if not closed:
        return
    drawn = [min(max(end, view[0]), view[1]) for end in closed]
    span = drawn if len(drawn) == 2 else [*drawn, effect]
    axes.plot(span, [row, row], color=colour, linewidth=width, solid_capstyle="butt", label=label, zorder=2)
    for end, stated in zip(drawn, closed, strict=True):
        if stated == effect:
            continue
        marker = "|" if end == stated else "<" if stated < end else ">"
        axes.plot(end, row, color=colour, marker=marker, markersize=size, markeredgewidth=0.75 * width, zorder=3)


def _marker(
    axes: Axes, x: list[float], y: list[int], *, worse: bool, filled: bool = False, label: str | None = None
) -> None:
    axes.plot(
        x,
        y,
        marker="X" if worse else "s" if filled else "o",
        markersize=8 if worse else 7,
        linestyle="",
        color=VERMILION if worse else "black",
        markerfacecolor=VERMILION if worse else "black" if filled else "white",
        label=label,
        zorder=4,
    )
