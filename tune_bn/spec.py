"""The space file: parsed once, validated, hashed.

``load_space`` turns YAML into a frozen :class:`Space`, or raises :class:`SpecError` with one line that names the file,
the key, the value and what would be accepted. Nothing is started before a whole space is known to be good.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tune_bn.config import Options
from tune_bn.distributions import Distribution, parse_distribution
from tune_bn.errors import ConfigError, SpecError
from tune_bn.method.config import ModelConfig
from tune_bn.records import sha256_of
from tune_bn.runners.base import SchedulerConfig
from tune_bn.sections import (
    LARGEST_COUNT,
    Budget,
    Claim,
    Resources,
    Sampler,
    Scheduler,
    Section,
    Seeds,
    Tracking,
    entry,
)
from tune_bn.space_file import parse_value, parse_yaml
from tune_bn.spec_errors import did_you_mean, error_line, keys_of
from tune_bn.training.config import DataConfig, RunConfig, TrainConfig

SCIENTIFIC = ("gamma", "c")
PAPER_GAMMAS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
PAPER_C = 100.0


class Space(Section):
    """A space file, whole and valid."""

    # Sections come as mappings, which strict validation would refuse; the sections themselves are strict.
    model_config = ConfigDict(strict=False)

    name: str = entry(
        doc="name of the space; studies are named after it",
        accepted="text: a letter or digit, then up to 63 letters, digits, '.', '_' or '-'",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    )
    model: ModelConfig = Field(default_factory=ModelConfig, description="the network")
    data: DataConfig = Field(default_factory=DataConfig, description="the images")
    train: TrainConfig = Field(default_factory=TrainConfig, description="one run of SGD")
    search: dict[str, Any] = entry(
        doc="what is searched: any keys of `model` and `train`, gamma or c among them",
        accepted="a mapping from keys to distributions, such as {gamma: {log_uniform: [0.01, 1.0]}}",
    )
    sampler: Sampler = Field(default_factory=Sampler, description="who proposes")
    scheduler: Scheduler = Field(default_factory=Scheduler, description="who stops early")
    budget: Budget = Field(default_factory=Budget, description="how much may be spent")
    seeds: Seeds = Field(default_factory=Seeds, description="which seeds each stage uses")
    claim: Claim = Field(default_factory=Claim, description="what is to be shown")
    resources: Resources = Field(default_factory=Resources, description="what one trial holds")
    tracking: Tracking = Field(default_factory=Tracking, description="where runs are tracked")

    @model_validator(mode="before")
    @classmethod
    def _values_of_the_declared_types(cls, content: Any) -> Any:
        """Lax validation, which the sections need, would take true and '3' for numbers."""
        for section, owner in (("model", ModelConfig), ("data", DataConfig), ("train", TrainConfig)):
            given = content.get(section) if isinstance(content, Mapping) else None
            if isinstance(given, Mapping):
                for key in keys_of(owner):
                    if key in given:
                        try:
                            _as_declared(owner, key, given[key])
                        except ConfigError as error:
                            raise ConfigError(f"{section}.{key}", error.value, error.accepted) from None
        return content

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.search:
            raise ConfigError("search", self.search, "at least one searched key, such as gamma or c")
        for key, spec in self.search.items():
            if key not in _RUN_KEYS:
                raise ConfigError(f"search.{key}", spec, did_you_mean(key, _RUN_KEYS))
            for value in parse_distribution(f"search.{key}", spec).corners:
                self._checked({key: value}, f"search.{key}")
        if not set(SCIENTIFIC) & set(self.search):
            raise ConfigError("search", sorted(self.search), "gamma, c or both among the searched keys")
        self._checked(self.claim.baseline, "claim.baseline")
        for key in self.nuisance:
            if key in self.claim.baseline:
                raise ConfigError(
                    f"claim.baseline.{key}",
                    self.claim.baseline[key],
                    f"nothing: {key} is searched, for the baseline too",
                )
        self._check_points()
        self._check_amounts()
        return self

    def _check_points(self) -> None:
        for index, point in enumerate(self.sampler.points if isinstance(self.sampler.points, list) else ()):
            place = f"sampler.points.{index}"
            self._checked(point, place)
            for key, value in point.items():
                if key not in self.search:
                    raise ConfigError(f"{place}.{key}", value, f"searched keys: {', '.join(self.search)}")
                if not self.distributions[key].contains(value):
                    raise ConfigError(f"{place}.{key}", value, f"a value of {self.search[key]}")

    def _check_amounts(self) -> None:
        budget, candidates = self.budget, self.claim.candidates
        if self.nuisance and budget.trials < 2:
            raise ConfigError(
                "budget.trials",
                budget.trials,
                f"an integer ≥ 2: {', '.join(self.nuisance)} is searched for the baseline too",
            )
        if candidates > budget.finalists:
            raise ConfigError("claim.candidates", candidates, f"at most budget.finalists = {budget.finalists}")
        if candidates > self.trials_of("candidate"):
            trials = self.trials_of("candidate")
            raise ConfigError("claim.candidates", candidates, f"at most the search trials of the candidates = {trials}")

    def _checked(self, overrides: Mapping[str, Any], place: str) -> RunConfig:
        """The run configuration under ``overrides``, or a ConfigError that names ``place``."""
        for key, value in overrides.items():
            if key not in _RUN_KEYS:
                raise ConfigError(f"{place}.{key}", value, did_you_mean(key, _RUN_KEYS))
        try:
            return self.run_config(overrides)
        except ConfigError as error:
            where = place if place.endswith(f".{error.key}") else f"{place}.{error.key}"
            raise ConfigError(where, error.value, error.accepted) from None

    def _fixed(self, key: str) -> Any:
        return getattr(self.model if key in _MODEL_KEYS else self.train, key)

    @property
    def distributions(self) -> dict[str, Distribution]:
        """The searched keys, in the order of the file."""
        return {key: parse_distribution(f"search.{key}", spec) for key, spec in self.search.items()}

    @property
    def nuisance(self) -> tuple[str, ...]:
        """Searched keys that are no part of the claim; they are tuned for the baseline as well."""
        return tuple(key for key in self.search if key not in SCIENTIFIC)

    @property
    def scheduler_config(self) -> SchedulerConfig | None:
        """The scheduler as a runner takes it; None where nothing can be stopped early."""
        longest = max(self.distributions["epochs"].corners) if "epochs" in self.search else self.train.epochs
        if self.scheduler.name == "none" or self.scheduler.grace >= longest:
            return None
        return SchedulerConfig(self.scheduler.name, self.scheduler.grace, self.scheduler.reduction, longest)

    def trials_of(self, arm: str) -> int:
        """Search trials of an arm. With nuisance keys the budget is split evenly; an odd trial goes to the baseline."""
        if not self.nuisance:
            return self.budget.trials if arm == "candidate" else 0
        half = self.budget.trials // 2
        return half if arm == "candidate" else self.budget.trials - half

    def start_points(self) -> list[dict[str, Any]]:
        """Configurations to try first, restricted to searched keys and their ranges."""
        points = self.sampler.points
        if points == "none":
            return []
        if points == "paper_grid":
            grid: Sequence[Mapping[str, Any]] = [{"gamma": gamma, "c": PAPER_C} for gamma in PAPER_GAMMAS]
        else:
            grid = [point for point in points if isinstance(point, Mapping)]
        kept, distributions = [], self.distributions
        for point in grid:
            inside = {k: v for k, v in point.items() if k in distributions and distributions[k].contains(v)}
            # A grid point that lost a coordinate to a narrower range is no longer a point of the grid.
            if inside and all(k in inside for k in point if k in distributions) and inside not in kept:
                kept.append(inside)
        return kept

    def run_config(self, overrides: Mapping[str, Any]) -> RunConfig:
        """The fixed part of the space with ``overrides`` on top. Raises ConfigError on a value that is refused."""
        values = self.normalized(overrides)
        model = {k: v for k, v in values.items() if k in _MODEL_KEYS}
        train = {k: v for k, v in values.items() if k in _TRAIN_KEYS}
        return RunConfig(model=replace(self.model, **model), data=self.data, train=replace(self.train, **train))

    @property
    def fixed_scientific(self) -> dict[str, Any]:
        """gamma and c of the candidates as far as they are not searched."""
        return {key: self._fixed(key) for key in SCIENTIFIC if key not in self.search}

    @property
    def baseline(self) -> dict[str, Any]:
        """The baseline as overrides; gamma and c are always stated."""
        fixed = {key: self._fixed(key) for key in SCIENTIFIC}
        return self.normalized(fixed | self.claim.baseline)

    def normalized(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """``overrides`` with each value in its key's type: ``1`` for a float key is ``1.0``; one value, one hash."""
        return {k: _as_declared(ModelConfig if k in _MODEL_KEYS else TrainConfig, k, v) for k, v in overrides.items()}

    def to_dict(self) -> dict[str, Any]:
        """The whole space with every default written out; ``parse_space`` of it gives an equal space."""
        content: dict[str, Any] = {}
        for key in type(self).model_fields:
            value = getattr(self, key)
            if isinstance(value, BaseModel):
                content[key] = value.model_dump()
            elif isinstance(value, ModelConfig | DataConfig | TrainConfig):
                content[key] = asdict(value)
            else:
                content[key] = value
        return content

    @property
    def sha256(self) -> str:
        """Hash of what a result depends on: all but how much is spent, where it runs and who tracks it.

        ``1`` and ``1.0`` are the same value of a key, so they give the same hash.
        """
        content = self.to_dict()
        for key in ("budget", "resources", "tracking"):
            del content[key]
        content["search"] = {
            key: {kind: [self.normalized({key: value})[key] for value in body] if kind != "int" else body}
            for key, spec in self.search.items()
            for kind, body in spec.items()
        }
        content["claim"]["baseline"] = self.normalized(self.claim.baseline)
        if isinstance(self.sampler.points, list):
            content["sampler"]["points"] = [self.normalized(point) for point in self.sampler.points]
        return sha256_of(content)


_OPTIONS: dict[type[Options], dict[str, Any]] = {
    owner: {item.name: item for item in fields(owner)} for owner in (ModelConfig, DataConfig, TrainConfig)
}
_MODEL_KEYS = frozenset(_OPTIONS[ModelConfig])
_TRAIN_KEYS = frozenset(_OPTIONS[TrainConfig])
_RUN_KEYS = sorted(_MODEL_KEYS | _TRAIN_KEYS)


def _as_declared(owner: type[Options], key: str, value: Any) -> Any:
    item = _OPTIONS[owner][key]
    kind, _, optional = str(item.type).partition(" | ")
    if value is None and optional:
        return None
    if kind in ("float", "Gamma") and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if kind == "int" and type(value) is int and abs(value) <= LARGEST_COUNT:
        return value
    if kind in ("str", "bool") and type(value).__name__ == kind:
        return value
    raise ConfigError(key, value, item.metadata["accepted"])


def parse_space(content: Any, source: str) -> Space:
    """Validate the content of a space file. ``source`` names it in errors."""
    if not isinstance(content, Mapping):
        found = "an empty file" if content is None else type(content).__name__
        raise SpecError(f"{source}: got {found}; accepted: a mapping with the keys {', '.join(keys_of(Space))}")
    try:
        return Space.model_validate(dict(content))
    except ValidationError as error:
        raise SpecError(error_line(error, source, Space)) from None


def load_space(path: Path, overrides: Sequence[str] = ()) -> Space:
    """Read a space file, apply ``--set`` overrides such as ``train.epochs=5``, validate.

    Raises:
        SpecError: one line with file, key, value and what would be accepted.
    """
    content = parse_yaml(path)
    for override in overrides:
        content = _apply({} if content is None else content, override)
    return parse_space(content, source_words(path, overrides))


def source_words(path: Path, overrides: Sequence[str] = ()) -> str:
    """What an error calls a space file that was read with these overrides."""
    return f"{path} with {' '.join(overrides)}" if overrides else str(path)


def _apply(content: Any, override: str) -> Any:
    key, sign, text = override.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts):
        raise SpecError(f"--set {override}: accepted: KEY=VALUE with dots between sections, such as train.epochs=5")
    if not isinstance(content, Mapping):
        return content
    root = dict(content)
    node = root
    for part in parts[:-1]:
        below = node.get(part)
        if below is not None and not isinstance(below, Mapping):
            raise SpecError(f"--set {override}: {part} is no section but {below!r}; accepted: a key of a section")
        node[part] = dict(below or {})
        node = node[part]
    node[parts[-1]] = parse_value(text, f"--set {override}")
    return root
