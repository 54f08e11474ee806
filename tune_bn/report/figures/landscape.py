"""The landscape of a search: where its trials lay and how well they did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tune_bn.analysis.wording import config_keys, config_words, metric_words, number_words, symbol
from tune_bn.records.record import BASELINE, CANDIDATE, CONFIRM, DIVERGED, PRUNED, SEARCH
from tune_bn.records.score import PERCENT, Score
from tune_bn.report.arms import name_without, setting_of
from tune_bn.report.figures.canvas import (
    FEW_ARMS,
    GREY,
    VERMILION,
    arm_style,
    legend_below,
    new_figure,
    plain,
    tidy,
)
from tune_bn.report.study import StudyFiles, Trial

LABELS = {"gamma": r"initial BN scale $\gamma$", "c": r"$c$, divisor of the learning rate of $\gamma$"}
_STOPPED: Mapping[str, dict[str, Any]] = {
    PRUNED: {"facecolors": "none", "edgecolors": GREY},
    DIVERGED: {"color": "black", "marker": "x"},
}
MANY = 1000
"""Points beyond which they are drawn smaller, and as one picture in an SVG, which is else as large as their number."""


def landscape(study: StudyFiles) -> Figure | None:
    """Trials over γ and c, coloured by their validation score; over one of them where the other was not searched.

    Returns None where no trial has a score.
    """
    trials = [trial for trial in study.trials[SEARCH] if trial.arm == CANDIDATE]
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        return None
    axes_keys = _axes_keys(scored)
    figure = new_figure(7.0, 5.0)
    if len(axes_keys) == 2:
        axes = figure.add_subplot()
        _landscape_2d(figure, axes, study, scored, axes_keys)
    else:
        axes = _landscape_1d(figure, study, scored, axes_keys[0] if axes_keys else None)
    axes.set_title(f"Search: {len(trials)} trials", loc="left")
    legend = legend_below(figure, axes, columns=3)
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        words = text.get_text()
        if words == "completed" and isinstance(handle, PathCollection) and len(axes_keys) == 2:
            # The colour of any one of them would be read as theirs.
            handle.set_array(None)
            handle.set_facecolor("white")
            text.set_text("completed, coloured by its score")
        elif len(axes_keys) == 2 and words in (names := _ring_names(study)):
            text.set_text(f"{names.index(words) + 1}: {words}")
    return figure


def landscape_words(study: StudyFiles) -> str:
    """What is to be said below the picture, of what it shows."""
    scored = [trial for trial in study.trials[SEARCH] if trial.arm == CANDIDATE and trial.score is not None]
    words = "Search: each point is one trial."
    names, planar = _ring_names(study), len(_axes_keys(scored)) == 2
    if planar and 0 < len(names) <= FEW_ARMS:
        rings = [f"{place} is {name}" for place, name in enumerate(names, start=1)]
        words += f" The number beside a ring is that of its candidate: {', '.join(rings)}."
    elif len(names) > FEW_ARMS:
        words += " The number beside a ring is that of its candidate, in the order of the plan."
    if not any(trial.status in _STOPPED for trial in scored):
        return words
    shown = "it has no colour" if len(_axes_keys(scored)) == 2 else "it lies in the strip below"
    return f"{words} The score of a trial that was stopped early is not comparable, so {shown}."


def best_words(study: StudyFiles) -> str:
    """The best of the trials that ran to their end, and where it lay."""
    trials = [trial for trial in study.trials[SEARCH] if trial.arm == CANDIDATE]
    whole = [(trial, score) for trial in trials if trial.status not in _STOPPED and (score := trial.score) is not None]
    if not whole:
        return f"none of {len(trials)} trials ran to its end"
    best, score = max(whole, key=lambda one: study.score.objective(one[1]))
    where = f"{study.score.value_words(score)} at {config_words(best.config)}"
    return f"best {study.score.words} {where}, of {len(trials)} trials"


def _ring_names(study: StudyFiles) -> list[str]:
    """The candidates whose rings bear the numbers 1, 2, …"""
    return [plain(name) for name, _ in _arms(study)[1:]]


def _axes_keys(trials: Sequence[Trial]) -> list[str]:
    """γ and c where they were searched, of a γ by stage or depth its two ends; else one other number; else none."""

    def varies(key: str) -> bool:
        values = [trial.config.get(key) for trial in trials]
        return all(map(_is_number, values)) and len(set(values)) > 1

    keys = [key for key in config_keys([trial.config for trial in trials]) if varies(key)]
    gammas = [key for key in keys if _owner(key) == "gamma"]
    if len(gammas) > 1:
        return [gammas[0], gammas[-1]]
    return [*gammas, *(key for key in keys if key == "c")] or keys[:1]


def _landscape_2d(figure: Figure, axes: Axes, study: StudyFiles, trials: Sequence[Trial], keys: list[str]) -> None:
    first, second = keys
    completed = [trial for trial in trials if trial.status not in _STOPPED]
    # The best are drawn last, on top.
    score = study.score
    completed.sort(key=lambda trial: score.worst if trial.score is None else score.objective(trial.score))
    if completed:
        colours = np.array([trial.score for trial in completed], dtype=float)
        # One bad trial must not flatten the colours of all the others.
        good = colours if score.higher_is_better else -colours
        least = 0.5 if score.unit == PERCENT else 0.0
        floor = max(good.min(), np.median(good) - 3 * (good.max() - np.median(good)) - least)
        ends = {"vmin": floor} if score.higher_is_better else {"vmax": -floor}
        points = axes.scatter(
            [trial.config[first] for trial in completed],
            [trial.config[second] for trial in completed],
            c=colours,
            cmap="cividis" if score.higher_is_better else "cividis_r",
            edgecolors="black",
            label="completed",
            zorder=3,
            **ends,
            **_size(len(completed), 75),
        )
        extend = "neither" if good.min() >= floor else "min" if score.higher_is_better else "max"
        bar = figure.colorbar(points, ax=axes, extend=extend, pad=0.02)
        bar.set_label(_label(score))
        bar.outline.set_visible(False)
    for status, style in _STOPPED.items():
        some = [trial for trial in trials if trial.status == status]
        if some:
            x, y = [trial.config[first] for trial in some], [trial.config[second] for trial in some]
            axes.scatter(x, y, label=status, zorder=2, **_size(len(some), 45), **style)
    marked = _mark_arms(axes, study, keys)
    for axis, key in (("x", first), ("y", second)):
        _scale(axes, axis, key, study, trials)
    _number(axes, marked, [(float(trial.config[first]), float(trial.config[second])) for trial in trials])


def _landscape_1d(figure: Figure, study: StudyFiles, trials: Sequence[Trial], key: str | None) -> Axes:
    """Scores over one key, and in a strip below them where trials lay that have no comparable score."""

    def places(some: Sequence[Trial]) -> list[float]:
        return [float(trial.config[key] if key else trial.number or 0) for trial in some]

    stopped = [status for status in _STOPPED if any(trial.status == status for trial in trials)]
    axes: Axes
    strip: Axes
    if stopped:
        axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=(8, 0.6 + 0.5 * len(stopped)))
        for row, status in enumerate(stopped):
            some = [trial for trial in trials if trial.status == status]
            strip.scatter(places(some), [row] * len(some), **_size(len(some), 45), **_STOPPED[status])
        strip.set_ylim(len(stopped) - 0.4, -0.6)
        strip.set_yticks(range(len(stopped)), [f"{status}, no score" for status in stopped])
        strip.tick_params(axis="y", length=0)
    else:
        axes = strip = figure.add_subplot()
    completed = [trial for trial in trials if trial.status not in _STOPPED]
    axes.scatter(
        places(completed),
        [math.nan if trial.score is None else trial.score for trial in completed],
        facecolors="white",
        edgecolors="black",
        label="completed",
        zorder=3,
        **_size(len(completed), 55),
    )
    axes.set_ylabel(_label(study.score))
    if key is None:
        strip.set_xlabel("trial")
        strip.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(axes)
    else:
        _mark_arms_1d(axes, study, completed, key)
        _scale(strip, "x", key, study, trials)
        tidy(axes)
    axes.margins(y=0.12)
    if strip is not axes:
        tidy(strip, grid="x")
        axes.tick_params(labelbottom=False)
    return axes


def _mark_arms_1d(axes: Axes, study: StudyFiles, completed: Sequence[Trial], key: str) -> None:
    """The arms at their score: that of their trial in the search, else that of their confirmation."""
    arms = _arms(study)
    for index, (name, config) in enumerate(arms):
        value = _value(config, key)
        if not _is_number(value):
            continue
        style = arm_style(index, len(arms) - 1)
        score, where = _score_of(study, name, config, completed)
        if score is None:
            axes.axvline(value, color=style.colour, linestyle=style.dashes, linewidth=1.2, zorder=1)
            axes.annotate(
                plain(name),
                (value, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(3, -3),
                rotation=90,
                fontsize=9,
                textcoords="offset points",
                va="top",
                color=style.colour,
            )
            continue
        label = f"{plain(name)}{where}" if len(arms) <= FEW_ARMS + 1 or index == 0 else None
        shape: dict[str, Any] = (
            {"marker": "D", "s": 70, "color": style.colour}
            if index == 0
            else {
                "s": 190,
                "facecolors": "none",
                "edgecolors": style.colour,
                "linewidths": 2.2,
            }
        )
        axes.scatter(value, score, label=label, zorder=4, **shape)
        if index and len(arms) > FEW_ARMS + 1:
            axes.annotate(str(index), (value, score), xytext=(8, 8), textcoords="offset points", fontweight="bold")


def _score_of(
    study: StudyFiles, name: str, config: Mapping[str, Any], completed: Sequence[Trial]
) -> tuple[float | None, str]:
    """The validation score of an arm, and where it is from if not from the search."""
    own = [trial.score for trial in completed if dict(trial.config) == dict(config)]
    if found := [score for score in own if score is not None]:
        return max(found, key=study.score.objective), ""
    confirmed = [trial.score for trial in study.trials[CONFIRM] if trial.arm == name]
    known = [score for score in confirmed if score is not None]
    return (fmean(known), ", in the confirmation") if known else (None, "")


def _label(score: Score) -> str:
    return f"{score.axis_words} ({score.at_words})"


def _size(points: int, usual: float) -> dict[str, Any]:
    """Area in square points, line width and kind of so many markers."""
    share = min(1.0, MANY / max(1, points))
    return {"s": max(3.0, usual * share), "linewidths": max(0.1, 0.8 * share), "rasterized": points > MANY}


_AROUND = ((9, 9), (9, -17), (-17, 9), (-17, -17), (13, -4), (-22, -4), (-4, 13), (-4, -21))
"""Where a number may stand beside its ring, in points; the first of the places that are free."""


def _number(axes: Axes, rings: Mapping[int, tuple[float, float]], points: Sequence[tuple[float, float]]) -> None:
    """Write the numbers of rings where they lie on no other ring or number, and on as few points as may be."""
    if not rings:
        return
    # In points of the page, so that distances are those of the picture; its axes have their final scales.
    scale = 72 / axes.figure.dpi
    places = {index: scale * axes.transData.transform(place) for index, place in rings.items()}
    dots = scale * axes.transData.transform(points)
    written: list[Any] = []
    for index, ring in places.items():
        others = [place for other, place in places.items() if other != index]

        def crowd(offset: tuple[int, int], ring: Any = ring, others: Sequence[Any] = others) -> float:
            middle = ring + np.array(offset) + 4

            def within(some: Any, reach: float) -> int:
                return sum(float(np.hypot(*(middle - one))) < reach for one in some)

            return 10 * within(written, 13) + 5 * within(others, 14) + within(list(dots), 7)

        best = min(_AROUND, key=crowd)
        written.append(ring + np.array(best) + 4)
        axes.annotate(str(index), rings[index], xytext=best, textcoords="offset points", fontweight="bold", zorder=5)


def _mark_arms(axes: Axes, study: StudyFiles, keys: Sequence[str]) -> dict[int, tuple[float, float]]:
    """Draw a baseline and the rings of candidates; where each ring is, by its number."""
    rings: dict[int, tuple[float, float]] = {}
    arms = _arms(study)
    many = len(arms) > FEW_ARMS + 1
    for index, (name, config) in enumerate(arms):
        if not all(_is_number(_value(config, key)) for key in keys):
            continue
        x, y = (float(_value(config, key)) for key in keys)
        if index == 0:
            axes.scatter(x, y, s=80, marker="D", facecolors="white", edgecolors="black", label=plain(name), zorder=4)
            continue
        # Of many only the numbers tell them apart.
        colour = VERMILION if many else arm_style(index, len(arms) - 1).colour
        label = plain(name) if not many else "candidate, by its number" if index == 1 else None
        axes.scatter(x, y, s=230, facecolors="none", edgecolors=colour, linewidths=2.2, label=label, zorder=4)
        rings[index] = x, y
    return rings


def _arms(study: StudyFiles) -> list[tuple[str, Mapping[str, Any]]]:
    """The arms to mark, with their configurations: the baseline, then the planned candidates."""
    candidates = [] if study.plan is None else study.plan.candidates
    # In every setting a candidate has the same place.
    found = {name_without(arm.arm, setting_of(arm.opponent)): arm.config for arm in reversed(candidates)}
    return [(BASELINE, study.baseline_config), *reversed(found.items())]


def _owner(key: str) -> str:
    return key.partition(".")[0]


def _value(config: Mapping[str, Any], key: str) -> Any:
    """The value of a key; one γ for all stands for each of its parts."""
    return config.get(key, config.get(_owner(key)))


def _scale(axes: Axes, axis: str, key: str, study: StudyFiles, trials: Sequence[Trial]) -> None:
    """Label and scale of the axis of a searched key: logarithmic for γ and c, and where the space says so."""
    values = [trial.config[key] for trial in trials]
    target = axes.xaxis if axis == "x" else axes.yaxis
    target.set_label_text(LABELS.get(key, metric_words(symbol(key))))
    if study.is_logarithmic(key) and min(values) > 0:
        (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
        target.set_major_locator(LogLocator(subs=(1.0, 3.0) if max(values) < 200 * min(values) else (1.0,)))
        target.set_major_formatter(FuncFormatter(lambda value, _: number_words(value)))
        target.set_minor_formatter(NullFormatter())
    tidy(axes)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
