"""Synthetic studies whose claim is more than one fixed comparison: group-sequential, or over several settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tests.conftest import SyntheticStudy
from tune_bn.analysis.monitoring import standing
from tune_bn.analysis.plan import plan_from
from tune_bn.analysis.sequential import DEFAULT_LOOKS, design


def scores_of(study: SyntheticStudy) -> dict[str, dict[int, float]]:
    """Arm → seed → test accuracy."""
    found: dict[str, dict[int, float]] = {}
    for record in study.confirm:
        found.setdefault(record.arm, {})[record.seed] = record.scores["test_accuracy"]
    return found


def sequential(study: SyntheticStudy, looks: Sequence[int] = DEFAULT_LOOKS) -> SyntheticStudy:
    """The same study, confirmed group-sequentially: runs after the looks that ended their arms are not there."""
    rule = design(looks, study.plan["alpha"])
    study = study.with_plan(stopping="group_sequential", design=asdict(rule), seeds=list(range(1, looks[-1] + 1)))
    needed = standing(plan_from(study.plan), scores_of(study)).needed
    before = [r for r in study.records if r.stage != "confirm"]
    kept = [r for r in study.confirm if r.seed <= needed[r.arm]]
    # Look by look, as they are run.
    kept.sort(key=lambda record: next(n for n in looks if record.seed <= n))
    return study.with_records([*before, *kept])


def in_settings(
    study: SyntheticStudy, settings: Mapping[str, Mapping[str, Any]], gains: Mapping[str, Sequence[float]]
) -> SyntheticStudy:
    """A claim over several settings, without a search: arms by name with their gain in each setting, in pp."""
    plain = study.plan["baseline"]["config"]
    base = [r for r in study.confirm if r.arm == "baseline"]
    baselines, candidates, made = [], [], []
    rng = np.random.default_rng(7)

    def arm(name: str, setting: str, config: dict[str, Any], gain: float) -> dict[str, Any]:
        for record in base:
            accuracy = record.scores["test_accuracy"] + gain + (rng.normal(0, 0.4) if gain else 0.0)
            score = {**record.scores, "test_accuracy": min(100.0, accuracy)}
            made.append(replace(record, arm=f"{name}.{setting}", trial=None, config=config, scores=score))
        return {"arm": f"{name}.{setting}", "trial": None, "config": config}

    for place, (setting, keys) in enumerate(settings.items()):
        baselines.append(arm("baseline", setting, {**plain, **keys}, 0.0))
        for name, by_setting in gains.items():
            config = {**plain, **keys, "gamma": 0.1 if name == "Ours" else 0.5}
            candidates.append(arm(name, setting, config, by_setting[place]) | {"against": f"baseline.{setting}"})
    first, *others = baselines
    return replace(study, records=made).with_plan(
        baseline=first, baselines=others, candidates=candidates, used_seeds={}
    )


def searched_in_settings(study: SyntheticStudy, settings: Mapping[str, Mapping[str, Any]]) -> SyntheticStudy:
    """The same study, its arms confirmed with the same scores in each setting."""
    baselines, candidates = [], []
    for setting, keys in settings.items():
        for arm in (study.plan["baseline"], *study.plan["candidates"]):
            within = {**arm, "arm": f"{arm['arm']}.{setting}", "config": {**arm["config"], **keys}}
            if arm["arm"] == "baseline":
                baselines.append(within)
            else:
                candidates.append({**within, "against": f"baseline.{setting}"})
    confirmed = [
        replace(record, arm=f"{record.arm}.{setting}", config={**record.config, **keys})
        for setting, keys in settings.items()
        for record in study.confirm
    ]
    before = [record for record in study.records if record.stage != "confirm"]
    first, *others = baselines
    return study.with_records([*before, *confirmed]).with_plan(baseline=first, baselines=others, candidates=candidates)


def with_rivals(study: SyntheticStudy, gains: Sequence[float], *, noise: float = 0.3) -> SyntheticStudy:
    """The same study with rivals whose scores are the baseline's, better by so many points, with noise of their own."""
    rng, base = np.random.default_rng(3), study.plan["baseline"]
    rivals, made = [], []
    for place, gain in enumerate(gains, start=2):
        config = {**base["config"], "lr": 0.1 / place}
        rivals.append({"arm": f"baseline-{place}", "trial": None, "config": config})
        for record in study.confirm:
            if record.arm == "baseline":
                accuracy = record.scores["test_accuracy"] + gain + rng.normal(0, noise)
                scores = {**record.scores, "test_accuracy": accuracy}
                made.append(replace(record, arm=f"baseline-{place}", config=config, scores=scores))
    names = [rival["arm"] for rival in rivals]
    study = study.with_records([*study.records, *made])
    return study.with_plan(rivals=rivals, candidates=[arm | {"rivals": names} for arm in study.plan["candidates"]])
