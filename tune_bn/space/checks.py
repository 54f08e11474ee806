"""What must fit together in a space file, beyond each value alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tune_bn.analysis.family import check_correction
from tune_bn.data.config import DataConfig
from tune_bn.errors import ConfigError
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.distributions import Cases
from tune_bn.records.files import canonical_json
from tune_bn.records.record import CANDIDATE
from tune_bn.space.messages import did_you_mean
from tune_bn.space.options import LAYER_KEYS
from tune_bn.space.search import owner
from tune_bn.space.space import Space
from tune_bn.space.trainer import check_name
from tune_bn.training.config import TrainConfig


def check(space: Space) -> None:
    """Raises :class:`ConfigError` where keys of the space contradict each other."""
    arms = space.claim.arms
    if space.search and arms:
        raise ConfigError("claim.arms", sorted(arms), "no arms in a space that searches")
    if not space.search and not arms:
        raise ConfigError("search", space.search, "at least one searched key, such as gamma or c; or claim.arms")
    _check_trainer(space)
    _check_search(space)
    _checked(space, space.claim.baseline, "claim.baseline")
    for key in space.nuisance:
        if key in space.claim.baseline:
            raise ConfigError(
                f"claim.baseline.{key}",
                space.claim.baseline[key],
                f"nothing: {key} is searched, for the baseline too",
            )
    _check_arms(space)
    _check_settings(space)
    _check_stopping(space)
    _check_margin(space)
    _check_failed(space)
    _check_points(space)
    _check_models(space)
    if space.search:
        _check_amounts(space)


def _check_trainer(space: Space) -> None:
    if space.trainer is None:
        if space.claim.about is not None:
            accepted = "null without a trainer of your own: claims are about γ, c and what belongs to them"
            raise ConfigError("claim.about", space.claim.about, accepted)
        return
    for key, default in (("model", ModelConfig()), ("data", DataConfig()), ("train", TrainConfig())):
        if getattr(space, key) != default:
            accepted = "no such section beside trainer, which has parameters of its own in trainer.params"
            raise ConfigError(key, asdict(getattr(space, key)), accepted)
    if space.claim.metric != "test_accuracy":
        accepted = "no such key beside trainer, whose trainer.score says what is compared"
        raise ConfigError("claim.metric", space.claim.metric, accepted)
    for key, given in (("search", space.search), *((f"claim.arms.{n}", a) for n, a in space.claim.arms.items())):
        for name in given:
            check_name(key, name)
    for key in space.claim.about or ():
        if key not in space.search and not any(key in arm for arm in space.claim.arms.values()):
            raise ConfigError("claim.about", space.claim.about, f"searched keys: {', '.join(space.search) or 'none'}")
    for key in sorted(space.scientific & {*space.search, *(key for arm in space.claim.arms.values() for key in arm)}):
        if key not in space.baseline:
            raise ConfigError(f"claim.baseline.{key}", None, "a value: the claim is about it, and the baseline has one")
    if space.trainer.ask:
        for key, value in (("hours", space.budget.hours), ("total_hours", space.budget.total_hours)):
            if value is not None:
                raise ConfigError(f"budget.{key}", value, "null with trainer.ask: who asks spends their own time")
        if space.budget.cost is not None:
            raise ConfigError("budget.cost", space.budget.cost, "null with trainer.ask")
    for stage in ("search", "select", "confirm"):
        if 0 in getattr(space.seeds, stage):
            accepted = "integers ≥ 1: many scripts take seed 0 for none"
            raise ConfigError(f"seeds.{stage}", getattr(space.seeds, stage), accepted)


def _check_models(space: Space) -> None:
    if space.tracking.log_models == "none":
        return
    if space.trainer is not None:
        accepted = "none with a trainer of your own, which knows its weights: its script may log a model itself"
        raise ConfigError("tracking.log_models", space.tracking.log_models, accepted)
    if space.resources.keep_weights == "none":
        accepted = "none, or resources.keep_weights: confirmed beside it"
        raise ConfigError("tracking.log_models", space.tracking.log_models, accepted)


def _check_search(space: Space) -> None:
    known = space.run_keys
    for key, spec in space.search.items():
        if key not in known:
            raise ConfigError(f"search.{key}", spec, did_you_mean(key, known))
    for key, distribution in space.distributions.items():
        own = owner(key)
        for value in distribution.corners:
            _checked(space, {own: value}, f"search.{own}")
            # Whether a layer takes a value may depend on which layer it is.
            for layer in LAYER_KEYS & set(space.search) - {own}:
                for kind in space.distributions[layer].corners:
                    _checked(space, {layer: kind, own: value}, "search")
    for key in space.nuisance:
        found = space.distributions[key]
        if isinstance(found, Cases) and found.key in space.scientific:
            accepted = f"cases of a nuisance key: the baseline tunes {key} as well, and has no {found.key} to tune"
            raise ConfigError(f"search.{key}", space.search[key], accepted)
    if space.search and not space.scientific & set(space.search):
        accepted = "gamma, c or both among the searched keys" + (", or claim.about" if space.trainer else "")
        raise ConfigError("search", sorted(space.search), accepted)


def _check_arms(space: Space) -> None:
    seen = {canonical_json(space.baseline): "baseline"}
    for name, overrides in space.claim.arms.items():
        _checked(space, {**space.stated, **overrides}, f"claim.arms.{name}")
        twin = seen.setdefault(canonical_json(space.arm_config(name)), name)
        if twin != name:
            raise ConfigError(f"claim.arms.{name}", overrides, f"a configuration of its own; this one is {twin}'s")


def _check_settings(space: Space) -> None:
    taken = {*space.scientific, *space.search, *space.claim.baseline}.union(*space.claim.arms.values())
    seen: dict[str, str] = {}
    for name, overrides in space.claim.across.items():
        place = f"claim.across.{name}"
        for key, value in overrides.items():
            if key in taken:
                accepted = "a key that is neither part of the claim nor searched nor stated by an arm"
                raise ConfigError(f"{place}.{key}", value, accepted)
        for given in ({}, space.baseline, *map(space.arm_config, space.claim.arms)):
            _checked(space, {**given, **overrides}, place)
        twin = seen.setdefault(canonical_json(_plain(space.run_config(overrides))), name)
        if twin != name:
            raise ConfigError(place, overrides, f"a setting of its own; this one is {twin}'s")


def _check_stopping(space: Space) -> None:
    claim = space.claim
    if claim.holds != "any":
        candidates = len(claim.arms) or claim.candidates
        if len(claim.across) < 2 or candidates > 1 or claim.stopping != "fixed" or claim.correction != "holm":
            accepted = (
                f"any; {claim.holds} goes with two or more settings in claim.across, one candidate, stopping: fixed "
                "and correction: holm"
            )
            raise ConfigError("claim.holds", claim.holds, accepted)
    comparisons = claim.candidates * max(1, len(claim.across))
    if space.most_rivals and (claim.holds == "pooled" or (claim.correction == "max_t" and comparisons > 1)):
        beside = "holds: pooled" if claim.holds == "pooled" else "correction: max_t"
        raise ConfigError("claim.rivals", claim.rivals, f"none, beside {beside} where nuisance parameters are searched")
    try:
        check_correction(
            claim.correction, claim.stated, seeds=len(space.seeds.confirm), fixed=claim.stopping == "fixed"
        )
    except ConfigError as error:
        raise ConfigError(f"claim.{error.key}", error.value, error.accepted) from None
    try:
        rule = space.design
    except ConfigError as error:
        if error.key == "looks" and space.claim.looks is None:
            accepted = "3 to 10,000 seeds, since claim.stopping is group_sequential"
            raise ConfigError("seeds.confirm", space.seeds.confirm, accepted) from None
        raise ConfigError(f"claim.{error.key}", error.value, error.accepted) from None
    if rule is not None and rule.looks[-1] != len(space.seeds.confirm):
        accepted = f"looks of which the last is at {len(space.seeds.confirm)} pairs, the number of seeds.confirm"
        raise ConfigError("claim.looks", list(rule.looks), accepted)


def _check_margin(space: Space) -> None:
    margin, score = space.claim.margin, space.score
    # Whatever is within the whole range of the score would be shown of any two arms.
    if margin is not None and score.low is not None and score.high is not None and margin >= score.high - score.low:
        accepted = f"a number below {score.high - score.low:g}, the width of the score's range"
        raise ConfigError("claim.margin", margin, accepted)


def _check_failed(space: Space) -> None:
    claim, score = space.claim, space.score
    if claim.failed != "invalid" and (claim.stopping != "fixed" or score.low is None or score.high is None):
        accepted = "invalid; worst goes with stopping: fixed and a score that has a range"
        raise ConfigError("claim.failed", claim.failed, accepted)


def _check_points(space: Space) -> None:
    for index, point in enumerate(space.sampler.points if isinstance(space.sampler.points, list) else ()):
        _checked(space, point, f"sampler.points.{index}")
        space.searched.check_point(f"sampler.points.{index}", point)
    if space.sampler.name == "grid":
        space.searched.grid()


def _check_amounts(space: Space) -> None:
    budget, candidates = space.budget, space.claim.candidates
    if space.nuisance and budget.trials < 2:
        raise ConfigError(
            "budget.trials",
            budget.trials,
            f"an integer ≥ 2: {', '.join(space.nuisance)} is searched for the baseline too",
        )
    if budget.cost is not None and space.resources.price_per_device_hour is None:
        raise ConfigError("budget.cost", budget.cost, "null, or resources.price_per_device_hour beside it")
    if candidates > budget.finalists:
        raise ConfigError("claim.candidates", candidates, f"at most budget.finalists = {budget.finalists}")
    if candidates > space.trials_of(CANDIDATE):
        trials = space.trials_of(CANDIDATE)
        raise ConfigError("claim.candidates", candidates, f"at most the search trials of the candidates = {trials}")


def _plain(config: Any) -> Any:
    return dict(config) if isinstance(config, Mapping) else asdict(config)


def _checked(space: Space, overrides: Mapping[str, Any], place: str) -> Any:
    """The run configuration under ``overrides``, or a ConfigError that names ``place``."""
    known = space.run_keys
    for key, value in overrides.items():
        if key not in known:
            raise ConfigError(f"{place}.{key}", value, did_you_mean(key, known))
    try:
        return space.run_config(overrides)
    except ConfigError as error:
        where = place if place.endswith(f".{error.key}") else f"{place}.{error.key}"
        raise ConfigError(where, error.value, error.accepted) from None
