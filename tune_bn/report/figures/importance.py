"""How much of the search's ups and downs each searched key explains, by Optuna's fANOVA.

The only module of this room that knows Optuna, and only once there is enough to ask it about.

Scores of trials that were stopped early stand for fewer epochs, so they are never mixed with the others. Two questions
are asked instead. Of the trials of full length: what made their final score? They are what the scheduler left, so bad
regions are missing. Of all trials: what made their score after as many epochs as every one of them was trained? That
takes the learning curves, and a key that acts late looks unimportant.

Source: Hutter, Hoos and Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance, ICML 2014.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tune_bn.analysis.wording import config_keys, symbol
from tune_bn.records.record import CANDIDATE, COMPLETED, PRUNED, SEARCH
from tune_bn.report.figures.canvas import BLUE, VERMILION, legend_below, new_figure, plain, tidy
from tune_bn.report.study import StudyFiles, Trial

FEWEST_TRIALS = 8
"""Trials below which a forest of regression trees says nothing."""
MOST_TRIALS = 1000
"""Trials beyond which a sample of them is asked, evenly over the search: the time grows with them."""
REPEATS = 5
TREES = 32
DEPTH = 6
"""Of a tree. Deeper ones fit the noise of single trials, which gives every key a share, and take the square of them."""
FULL_LENGTH = "at full length"
SHARE = "share of the explained variance"
"""What a bar is: shares sum to 100 %, so they are of what the keys explain alone, and not of all ups and downs."""
CONTROL = "random numbers"
"""A key that no trial has seen; its share is what chance gets."""


@dataclass(frozen=True)
class Importance:
    """The answer to one of the two questions."""

    score: str
    """What the trials are compared by."""
    trials: int
    """How many were asked."""
    shares: Mapping[str, tuple[float, ...]]
    """Of the explained variance what each key has alone, in percent, one for each repetition; with the control."""


def importances(study: StudyFiles) -> list[Importance]:
    """For trials of full length and, where some were stopped early, for all trials at equal epochs.

    Of more than :data:`MOST_TRIALS` trials a sample is asked. Left out is what has fewer than
    :data:`FEWEST_TRIALS`, and where all scores or all configurations are the same.
    Equal for equal input: forests and control come from fixed generators.
    """
    trials = [trial for trial in study.trials[SEARCH] if trial.arm == CANDIDATE]
    full = [(trial, trial.score) for trial in trials if trial.status == COMPLETED]
    found = [_importance(study, FULL_LENGTH, [(trial, score) for trial, score in full if score is not None])]
    if any(trial.status == PRUNED for trial in trials):
        epochs, early = _at_equal_epochs(study, [trial for trial in trials if trial.status in (COMPLETED, PRUNED)])
        found.append(_importance(study, f"after {epochs} {study.score.step}{'s' if epochs > 1 else ''}", early))
    return [importance for importance in found if importance is not None]


def importance_figure(found: Sequence[Importance], words: str = "validation accuracy") -> Figure:
    """Bars: the mean share over the repetitions; whiskers: the least and the largest."""
    keys = list(found[0].shares)
    figure = new_figure(7.0, 1.6 + 0.34 * len(keys) * len(found))
    axes = figure.add_subplot()
    height = 0.8 / len(found)
    for index, (importance, colour, hatch) in enumerate(zip(found, (BLUE, VERMILION), ("", "///"), strict=False)):
        shares = [importance.shares.get(key, (0.0,)) for key in keys]
        means = np.array([fmean(share) for share in shares])
        places = np.arange(len(keys)) + (index - (len(found) - 1) / 2) * height
        whiskers = np.array([[mean - min(share), max(share) - mean] for mean, share in zip(means, shares, strict=True)])
        axes.barh(
            places,
            means,
            height=0.9 * height,
            color=colour if not hatch else "white",
            edgecolor=colour,
            hatch=hatch,
            xerr=np.abs(whiskers.T),
            error_kw={"elinewidth": 1.2, "capsize": 3},
            label=f"{importance.score} (n = {importance.trials} trials)",
        )
    axes.set_yticks(range(len(keys)), [plain(CONTROL if key == CONTROL else symbol(key)) for key in keys])
    axes.set_ylim(len(keys) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{SHARE} of {words}, %")
    tidy(axes, grid="x")
    legend_below(figure, axes, columns=1)
    return figure


def _at_equal_epochs(study: StudyFiles, trials: Sequence[Trial]) -> tuple[int, list[tuple[Trial, float]]]:
    """The epochs that all runs have, and each trial's best score so far at that epoch, as a mean over its runs."""
    score = study.score
    known = [
        (trial, [[point.metrics.get(score.validation, np.nan) for point in study.curves[run]] for run in trial.runs])
        for trial in trials
        if all(study.curves.get(run) for run in trial.runs)
    ]
    epochs = min((len(run) for _, runs in known for run in runs), default=0)
    scored = [(trial, fmean(score.objectives(run[:epochs])[-1] for run in runs)) for trial, runs in known]
    return epochs, [(trial, value) for trial, value in scored if np.isfinite(value)]


def load_evaluator() -> None:
    """Load what asks and answers, which takes a second. May be called in another thread."""
    import optuna

    # Optuna loads it, and scikit-learn with it, at its first use.
    _ = optuna.importance.FanovaImportanceEvaluator


def _importance(study: StudyFiles, score: str, trials: Sequence[tuple[Trial, float]]) -> Importance | None:
    if len(trials) > MOST_TRIALS:
        trials = [trials[index] for index in np.linspace(0, len(trials) - 1, MOST_TRIALS).round().astype(int)]
    values = np.array([value for _, value in trials])
    if values.size < FEWEST_TRIALS or np.ptp(values) == 0:
        return None
    configs = [trial.config for trial, _ in trials]
    keys = [key for key in config_keys(configs) if all(key in config for config in configs)]
    keys = [key for key in keys if any(config[key] != configs[0][key] for config in configs)]
    if not keys:
        return None
    rounds = [_fanova(study, configs, keys, values, repeat) for repeat in range(REPEATS)]
    return Importance(score, len(trials), {key: tuple(100 * shares[key] for shares in rounds) for key in rounds[0]})


def _fanova(
    study: StudyFiles, configs: Sequence[Mapping[str, Any]], keys: Sequence[str], values: Any, repeat: int
) -> dict[str, float]:
    """Shares of all keys and of the control, which sum to 1."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    distributions: dict[str, Any] = {CONTROL: FloatDistribution(0.0, 1.0)}
    for key in keys:
        seen = [config[key] for config in configs]
        if "choice" in study.declared(key) or not all(type(value) in (int, float) for value in seen):
            distributions[key] = CategoricalDistribution(sorted(set(seen), key=str))
        else:
            # Of a range that depends on another key, the range over all its cases.
            log = study.is_logarithmic(key) and min(seen) > 0
            distributions[key] = FloatDistribution(float(min(seen)), float(max(seen)), log=log)
    control = np.random.default_rng(repeat).uniform(size=len(configs))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    memory = optuna.create_study(direction="maximize")
    memory.add_trials(
        [
            optuna.trial.create_trial(
                params={key: config[key] for key in keys} | {CONTROL: float(chance)},
                distributions=distributions,
                value=float(value),
            )
            for config, chance, value in zip(configs, control, values, strict=True)
        ]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=repeat)
    shares = optuna.importance.get_param_importances(memory, evaluator=evaluator)
    return {key: float(shares[key]) for key in (*keys, CONTROL)}
