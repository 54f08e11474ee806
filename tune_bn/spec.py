"""The space file: parsed once, validated, hashed.

``load_space`` turns YAML into a frozen :class:`Space`, or raises :class:`SpecError` with one line that names the file, the
key, the value and what would be accepted. Nothing is started before a whole space is known to be good.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tune_bn.distributions import Distribution, parse_distribution
from tune_bn.errors import ConfigError, SpecError
from tune_bn.method.config import ModelConfig
from tune_bn.records import sha256_of
from tune_bn.runners.base import SchedulerConfig
from tune_bn.space_file import parse_yaml
from tune_bn.training.config import DataConfig, RunConfig, TrainConfig

SCIENTIFIC = ("gamma", "c")
PAPER_GAMMAS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
PAPER_C = 100.0


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Sampler(_Section):
    """Who proposes configurations."""

    name: Literal["tpe", "random", "qmc", "gp"] = Field("tpe", description="Optuna sampler")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the proposals; trial n of a seed is reproducible")
    points: Literal["none", "paper_grid"] | list[dict[str, Any]] = Field(
        "paper_grid", description="configurations tried first: the paper's γ grid at c = 100, a list of points, or none"
    )


class Scheduler(_Section):
    """Who stops hopeless trials of the search early."""

    name: Literal["asha", "median", "none"] = Field(
        "asha", description="Ray Tune's ASHA, median stopping rule, or none"
    )
    grace: int = Field(10, ge=1, description="epochs before a trial may be stopped")
    reduction: int = Field(3, ge=2, description="ASHA keeps one trial in so many at each rung")


class Budget(_Section):
    """How much may be spent."""

    trials: int = Field(24, ge=1, description="configurations of the search, start points included")
    hours: float | None = Field(None, gt=0, description="wall-clock limit of the search stage; running trials finish")
    finalists: int = Field(3, ge=1, description="best trials of the search that meet on the selection seeds")
    max_failures: int = Field(
        3, ge=0, description="retries of a run that raises, from its checkpoint, with the same seed"
    )


def _seed_list(value: Any) -> Any:
    """``{from: 1, to: 15}`` is short for the list of all seeds from 1 to 15."""
    if isinstance(value, Mapping) and set(value) == {"from", "to"}:
        first, last = value["from"], value["to"]
        if type(first) is int and type(last) is int and 0 <= first <= last and last - first < 100_000:
            return list(range(first, last + 1))
    return value


Seed = Annotated[int, Field(ge=0, lt=2**63)]
SeedList = Annotated[list[Seed], BeforeValidator(_seed_list), Field(min_length=1)]


class Seeds(_Section):
    """Which seeds each stage uses. The stages never share one."""

    search: SeedList = Field([101], description="every trial of the search runs on all of these")
    select: SeedList = Field([201, 202, 203], description="the finalists run on all of these")
    confirm: Annotated[list[Seed], BeforeValidator(_seed_list), Field(min_length=2)] = Field(
        list(range(1, 16)), description="baseline and candidates run on all of these; a list, or {from: 1, to: 15}"
    )

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        stages = {"search": self.search, "select": self.select, "confirm": self.confirm}
        seen: dict[int, str] = {}
        for stage, seeds in stages.items():
            for seed in seeds:
                if seed in seen:
                    raise ConfigError(stage, seed, f"a seed used once; {seed} is already a seed of {seen[seed]}")
                seen[seed] = stage
        return self


class Claim(_Section):
    """What the confirmation is to show. It is copied into the plan and locked there."""

    baseline: dict[str, Any] = Field(
        default_factory=lambda: {"gamma": 1.0, "c": 1.0},
        description="the configuration to beat; keys not named here keep the space's own values",
    )
    metric: Literal["test_accuracy", "final_test_accuracy"] = Field(
        "test_accuracy",
        description="`test_accuracy`: weights of the best validation epoch; `final_…`: of the last epoch",
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="level of the one-sided test, over all candidates together")
    candidates: int = Field(
        1, ge=1, le=20, description="configurations that are confirmed, best of the selection first"
    )
    diverged: Literal["chance"] = Field(
        "chance", description="score of a run whose loss is not finite: `chance` is 100 / classes"
    )


class Resources(_Section):
    """What one trial holds, and where it may find it."""

    cpu: Annotated[float, Field(gt=0)] = Field(1, description="CPU cores per trial; also its threads")
    gpu: Annotated[float, Field(ge=0)] = Field(0, description="GPUs per trial; a fraction lets trials share one")
    max_concurrent: Annotated[int, Field(ge=1)] | None = Field(
        None, description="trials at the same time; null: what fits the cluster at the start of a stage"
    )
    elastic: bool = Field(
        False, description="the cluster may grow: do not refuse work that does not fit it now; needs `max_concurrent`"
    )
    checkpoint_seconds: Annotated[float, Field(gt=0)] = Field(
        60, description="least time between two checkpoints of a trial"
    )

    @model_validator(mode="after")
    def _growth_has_an_end(self) -> Self:
        # What fits a cluster before it has grown says nothing; often that is not even one trial.
        if self.elastic and self.max_concurrent is None:
            raise ConfigError("max_concurrent", None, "with elastic: true, how many trials the grown cluster runs at once")
        return self


class Tracking(_Section):
    """Where runs are tracked."""

    uri: str | None = Field(None, description="MLflow tracking URI; null: SQLite beside the studies")


class Space(_Section):
    """A space file, whole and valid."""

    # Sections come as mappings, which strict validation would refuse; the sections themselves are strict.
    model_config = ConfigDict(strict=False)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="name of the space; studies are named after it"
    )
    model: ModelConfig = Field(default_factory=ModelConfig, description="the network")
    data: DataConfig = Field(default_factory=DataConfig, description="the images")
    train: TrainConfig = Field(default_factory=TrainConfig, description="one run of SGD")
    search: dict[str, Any] = Field(description="what is searched: any key of model or train, as a distribution")
    sampler: Sampler = Field(default_factory=Sampler, description="who proposes")
    scheduler: Scheduler = Field(default_factory=Scheduler, description="who stops early")
    budget: Budget = Field(default_factory=Budget, description="how much may be spent")
    seeds: Seeds = Field(default_factory=Seeds, description="which seeds each stage uses")
    claim: Claim = Field(default_factory=Claim, description="what is to be shown")
    resources: Resources = Field(default_factory=Resources, description="what one trial holds")
    tracking: Tracking = Field(default_factory=Tracking, description="where runs are tracked")

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_for_numbers(cls, content: Any) -> Any:
        """YAML 1.1 reads ``on`` and ``yes`` as true, and lax validation would take true for 1."""
        for section, owner in (("model", ModelConfig), ("data", DataConfig), ("train", TrainConfig)):
            given = content.get(section) if isinstance(content, Mapping) else None
            for item in fields(owner) if isinstance(given, Mapping) else ():
                if item.type != "bool" and isinstance(given.get(item.name), bool):
                    raise ConfigError(f"{section}.{item.name}", given[item.name], item.metadata["accepted"])
        return content

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.search:
            raise ConfigError("search", self.search, "at least one searched key, such as gamma or c")
        for key, spec in self.search.items():
            distribution = parse_distribution(f"search.{key}", spec)
            for value in distribution.corners:
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
        if isinstance(self.sampler.points, list):
            for index, point in enumerate(self.sampler.points):
                place = f"sampler.points[{index}]"
                self._checked(point, place)
                for key, value in point.items():
                    if key not in self.search:
                        raise ConfigError(f"{place}.{key}", value, f"searched keys: {', '.join(self.search)}")
                    if not self.distributions[key].contains(value):
                        raise ConfigError(f"{place}.{key}", value, f"a value of {self.search[key]}")
        if self.claim.candidates > self.budget.finalists:
            raise ConfigError(
                "claim.candidates", self.claim.candidates, f"at most budget.finalists = {self.budget.finalists}"
            )
        return self

    def _checked(self, overrides: Mapping[str, Any], place: str) -> RunConfig:
        """The run configuration under ``overrides``, or a ConfigError that names ``place``."""
        known = sorted(_MODEL_KEYS | _TRAIN_KEYS)
        for key, value in overrides.items():
            if key not in known:
                where = place if place.endswith(f".{key}") else f"{place}.{key}"
                raise ConfigError(where, value, _did_you_mean(str(key), known))
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
        """Hash of what a result depends on: all but how much is spent, where it runs and who tracks it."""
        content = self.to_dict()
        for key in ("budget", "resources", "tracking"):
            del content[key]
        return sha256_of(content)


_MODEL_KEYS = frozenset(f.name for f in fields(ModelConfig))
_TRAIN_KEYS = frozenset(f.name for f in fields(TrainConfig))


def _as_declared(owner: type, key: str, value: Any) -> Any:
    kind = {f.name: f.type for f in fields(owner)}[key]
    accepted = {f.name: f.metadata["accepted"] for f in fields(owner)}[key]
    if kind == "float" and type(value) in (int, float):
        return float(value)
    if kind == "int" and type(value) is int:
        return value
    if kind == "str" and isinstance(value, str):
        return value
    raise ConfigError(key, value, accepted)


def parse_space(content: Any, source: str) -> Space:
    """Validate the content of a space file. ``source`` names it in errors."""
    if not isinstance(content, Mapping):
        raise SpecError(f"{source}: got {type(content).__name__}; accepted: a mapping with the keys {_keys(Space)}")
    try:
        return Space.model_validate(dict(content))
    except ValidationError as error:
        raise SpecError(_one_line(error, source)) from None


def load_space(path: Path, overrides: Sequence[str] = ()) -> Space:
    """Read a space file, apply ``--set`` overrides such as ``train.epochs=5``, validate.

    Raises:
        SpecError: one line with file, key, value and what would be accepted.
    """
    content = parse_yaml(path)
    for override in overrides:
        content = _apply(content, override)
    return parse_space(content, str(path) if not overrides else f"{path} with {' '.join(overrides)}")


def _apply(content: Any, override: str) -> Any:
    from tune_bn.space_file import parse_value

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


def _keys(owner: Any) -> str:
    names = owner.model_fields if hasattr(owner, "model_fields") else [f.name for f in fields(owner)]
    return ", ".join(names)


def _did_you_mean(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return (f"{close[0]} (did you mean it?), or " if close else "") + "one of " + ", ".join(known)


def _one_line(error: ValidationError, source: str) -> str:
    """The first problem of a ValidationError in the form of this project, and how many there are besides."""
    problems = error.errors(include_url=False)
    # An unknown key is the likeliest cause of whatever else is wrong.
    first = next((p for p in problems if p["type"] in ("extra_forbidden", "unexpected_keyword_argument")), problems[0])
    place = ".".join(str(part) for part in first["loc"] if not (isinstance(part, str) and "[" in part))
    value: Any = first.get("input")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        inside = cause.key if not place or cause.key.startswith(place) else f"{place}.{cause.key}"
        place, value, accepted = inside, cause.value, cause.accepted
    elif first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        owner: Any = Space
        for part in first["loc"][:-1]:
            annotation = _annotation(owner, str(part))
            owner = annotation or owner
        known = _keys(owner).split(", ")
        accepted = _did_you_mean(str(first["loc"][-1]), known)
    elif first["type"] == "missing":
        more = len(problems) - 1
        tail = f" (and {more} more)" if more else ""
        return f"{source}: {place}: is missing; accepted: {_description(first['loc'])}{tail}"
    else:
        accepted = _accepted(first)
    tail = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    shown = repr(value)
    shown = shown if len(shown) <= 120 else shown[:117] + "…"
    return f"{source}: {place}: got {shown}; accepted: {accepted}{tail}"


def _annotation(owner: Any, key: str) -> Any:
    if hasattr(owner, "model_fields") and key in owner.model_fields:
        return owner.model_fields[key].annotation
    return None


def _description(loc: Sequence[Any]) -> str:
    field = Space.model_fields.get(str(loc[0])) if loc else None
    return field.description if field is not None and field.description and len(loc) == 1 else "a value"


def _accepted(problem: Mapping[str, Any]) -> str:
    """What would be accepted, from the option's own words where it has some, else from pydantic's message."""
    loc = problem["loc"]
    if len(loc) >= 2:
        owner = _annotation(Space, str(loc[0]))
        for item in getattr(owner, "__dataclass_fields__", {}).values():
            if item.name == loc[1]:
                return str(item.metadata["accepted"])
    message = str(problem["msg"])
    for prefix in ("Input should be ", "Value should be ", "Value should have ", "Value error, "):
        message = message.removeprefix(prefix)
    return message
