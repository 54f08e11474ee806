"""The space file: parsed once, validated, hashed.

``load_space`` turns YAML into a frozen :class:`Space`, or raises :class:`SpecError` with one line that names the file,
the key, the value and what would be accepted. Nothing is started before a whole space is known to be good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tune_bn.data.config import DataConfig
from tune_bn.errors import ConfigError
from tune_bn.method.config import ModelConfig, gamma_of, gamma_parts
from tune_bn.protocols.distributions import Cases, Choice, Distribution
from tune_bn.protocols.runner import SchedulerConfig
from tune_bn.records.files import sha256_of
from tune_bn.records.record import BASELINE, CANDIDATE
from tune_bn.records.score import Score, accuracy
from tune_bn.space.claim import Claim
from tune_bn.space.messages import keys_of, section_of
from tune_bn.space.options import MODEL_KEYS, OPTIONS, RUN_KEYS, TRAIN_KEYS, as_declared
from tune_bn.space.search import PAPER_GRID, SearchSpace, owner
from tune_bn.space.sections import Budget, Resources, Sampler, Scheduler, Section, Seeds, Tracking, entry
from tune_bn.space.trainer import TrainerSection, check_name
from tune_bn.training.config import RunConfig, TrainConfig

if TYPE_CHECKING:
    from tune_bn.analysis.sequential import Design

STATED = ("gamma", "c")
"""What every configuration of a study states, searched or not."""
SCIENTIFIC = frozenset(
    ("norm", "unit_gate", "plain_shortcuts", "gamma", "gamma_branch_end", "c", "c_beta", "freeze_gamma")
)
"""What a claim may be about. Any other searched key is a nuisance parameter, tuned for the baseline as well."""


class Space(Section):
    """A space file, every value of its kind; :func:`tune_bn.space.loading.parse_space` checks that they agree."""

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
    trainer: TrainerSection | None = entry(
        None,
        doc="training code of the user's own, in place of `model`, `data` and `train`",
        accepted="a mapping with command or function, steps and score; or with name and steps",
        added=True,
    )
    search: dict[str, Any] = entry(
        {},
        doc="what is searched: any keys of `model` and `train`, gamma or c among them; left out with `claim.arms`",
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
        for section, options in (("model", ModelConfig), ("data", DataConfig), ("train", TrainConfig)):
            given = content.get(section) if isinstance(content, Mapping) else None
            if isinstance(given, Mapping):
                for key in keys_of(options):
                    if key in given:
                        try:
                            as_declared(options, key, given[key])
                        except ConfigError as error:
                            raise ConfigError(f"{section}.{key}", error.value, error.accepted) from None
        return content

    def _fixed(self, key: str) -> Any:
        return getattr(self.model if key in MODEL_KEYS else self.train, key)

    @property
    def searched(self) -> SearchSpace:
        """The searched keys with their distributions."""
        return SearchSpace(self.search, None if "arch" in self.search or self.trainer else self.model.arch)

    @property
    def distributions(self) -> dict[str, Distribution]:
        """The distributions by name, in the order of the file."""
        return self.searched.distributions

    @property
    def nuisance(self) -> tuple[str, ...]:
        """Searched keys that are no part of the claim; they are tuned for the baseline as well."""
        return tuple(key for key in self.search if key not in self.scientific)

    @property
    def scientific(self) -> frozenset[str]:
        """The keys that the claim is about."""
        if self.trainer is None:
            return SCIENTIFIC
        return frozenset(self.claim.about if self.claim.about is not None else [*STATED])

    @property
    def run_keys(self) -> Sequence[str]:
        """The keys that a configuration may state."""
        if self.trainer is None:
            return RUN_KEYS
        stated = [key for given in (self._own_baseline, *self.claim.arms.values()) for key in given]
        return list(dict.fromkeys([*self.trainer.params, *self.search, *stated]))

    @property
    def _own_baseline(self) -> Mapping[str, Any]:
        """What the space file says of the baseline of a trainer of the user's own; the default has no strange keys."""
        if "baseline" in self.claim.model_fields_set or self.trainer is None:
            return self.claim.baseline
        known = {*self.trainer.params, *self.search}
        return {key: value for key, value in self.claim.baseline.items() if key in known}

    @property
    def scheduler_config(self) -> SchedulerConfig | None:
        """The scheduler as a runner takes it; None where nothing can be stopped early."""
        longest = self.train.epochs if self.trainer is None else self.trainer.steps
        if "epochs" in self.search and self.trainer is None:
            longest = max(self.distributions["epochs"].corners)
        name, grace, reduction = self.scheduler.name, self.scheduler.grace, self.scheduler.reduction
        if name == "none":
            return None
        if grace == "auto":
            # The order of trials at an epoch says nothing where each has a course of its own.
            own = "epochs" in self.search and self.trainer is None
            return None if own or longest < 2 else SchedulerConfig(name, None, reduction, longest)
        return None if grace >= longest else SchedulerConfig(name, grace, reduction, longest)

    def trials_of(self, arm: str) -> int:
        """Search trials of an arm. With nuisance keys the budget is split evenly; an odd trial goes to the baseline.

        Where the baseline has fewer configurations than its share, it tries each of them once, and the rest goes to the
        candidates: to run one again on the same seeds would only repeat its score.
        """
        if not self.search or (arm == BASELINE and not self.nuisance):
            return 0
        trials, own = self.budget.trials, 0
        if self.nuisance:
            share, every = trials - trials // 2, self._every_baseline
            own = share if every is None else min(share, len(every))
        trials = own if arm == BASELINE else trials - own
        return min(trials, len(self.searched_by(arm).grid())) if self.sampler.name == "grid" else trials

    @property
    def _every_baseline(self) -> list[dict[str, Any]] | None:
        """Every configuration of the baseline's search; None where they are not a list of choices."""
        searched = self.searched_by(BASELINE)
        return searched.grid() if all(isinstance(d, Choice) for d in searched.distributions.values()) else None

    @property
    def most_rivals(self) -> int:
        """Further tunings of the baseline that are confirmed in each setting, at most; see ``claim.rivals``."""
        own = self.trials_of(BASELINE)
        if self.claim.rivals == "none" or not own:
            return 0
        most = min(self.budget.finalists, own) - 1 + self.claim.candidates
        every = self._every_baseline
        return most if every is None else min(most, len(every) - 1)

    def at_tuning_of(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The baseline at the nuisance values of a configuration, as overrides."""
        return self.normalized({**self.baseline, **{key: overrides[key] for key in self.nuisance if key in overrides}})

    def sampler_of(self, arm: str) -> str:
        """The name of the sampler that proposes the configurations of an arm."""
        name, own = self.sampler.name, self.sampler.baseline
        if arm != BASELINE:
            return name
        if own is not None:
            return own
        # It cannot be told which case of a conditional key a value belongs to.
        nested = any(isinstance(found, Cases) for found in self.searched_by(BASELINE).distributions.values())
        return "gp" if name == "tpe" and not nested else name

    def searched_by(self, arm: str) -> SearchSpace:
        """What the search of an arm proposes: the baseline takes part in the nuisance keys alone."""
        return self.searched.only(self.nuisance) if arm == BASELINE else self.searched

    def start_points(self, arm: str = CANDIDATE) -> list[dict[str, Any]]:
        """Configurations of an arm to try first, by the names of its distributions.

        The baseline gets the nuisance coordinates of the points: who knew good ones for the candidates knew them for
        the baseline as well. Where it has a trial for each of its configurations, the others follow.
        """
        searched = self.searched_by(arm)
        if self.sampler.name == "grid":
            return searched.grid()
        points = searched.start_points(self.points)
        every = self._every_baseline if arm == BASELINE else None
        if every is None or len(every) > self.trials_of(BASELINE):
            return points
        whole = [point for point in points if set(point) == set(searched.distributions)]
        return whole + [point for point in every if point not in whole]

    @property
    def points(self) -> Sequence[Mapping[str, Any]]:
        """The start points as the space names them; those of the paper's grid also where they are not searched."""
        points = self.sampler.points
        return points if isinstance(points, list) else PAPER_GRID if points == "paper_grid" else []

    def run_config(self, overrides: Mapping[str, Any]) -> Any:
        """The fixed part of the space with ``overrides`` on top: a :class:`RunConfig` of the built-in loop, a mapping
        from names to values of another trainer. Raises ConfigError on a value that is refused."""
        values = self.normalized(overrides)
        if self.trainer is not None:
            return {**self.normalized(self.trainer.params), **values}
        if parts := {key: values.pop(key) for key in list(values) if owner(key) == "gamma"}:
            values["gamma"] = gamma_of(parts)
        model = {k: v for k, v in values.items() if k in MODEL_KEYS}
        train = {k: v for k, v in values.items() if k in TRAIN_KEYS}
        return RunConfig(model=replace(self.model, **model), data=self.data, train=replace(self.train, **train))

    @property
    def stated(self) -> dict[str, Any]:
        """The keys of :data:`STATED` as the fixed part of the space has them."""
        if self.trainer is not None:
            return {key: value for key, value in self.trainer.params.items() if key in self.scientific}
        return {key: self._fixed(key) for key in STATED}

    @property
    def fixed_scientific(self) -> dict[str, Any]:
        """gamma and c of the candidates as far as they are not searched."""
        return {key: value for key, value in self.stated.items() if key not in self.search}

    @property
    def baseline(self) -> dict[str, Any]:
        """The baseline as overrides; gamma and c are always stated."""
        return self.normalized({**self.stated, **self._own_baseline})

    def is_baseline(self, overrides: Mapping[str, Any]) -> bool:
        """Whether a configuration is the baseline at its own nuisance values."""
        return bool(self.run_config(overrides) == self.run_config(self.at_tuning_of(overrides)))

    @property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Overrides of each setting of the claim by its name; the space itself has no name where it is the only one."""
        return self.claim.across or {"": {}}

    @property
    def score(self) -> Score:
        """What its runs are scored by; the score of a diverged run of the built-in loop is its data's to say."""
        return accuracy(self.claim.metric) if self.trainer is None else self.trainer.scored

    @property
    def design(self) -> Design | None:
        """The looks of the confirmation and their boundaries; None where every seed is run.

        Raises:
            ConfigError: there are no such looks.
        """
        if self.claim.stopping == "fixed":
            return None
        # SciPy is not loaded for spaces that have no use for it.
        from tune_bn.analysis.sequential import default_looks, design

        looks = self.claim.looks
        return design(
            default_looks(len(self.seeds.confirm)) if looks is None else looks,
            self.claim.alpha,
            futility=self.claim.futility,
        )

    @property
    def archs(self) -> tuple[str, ...]:
        """Every network of the built-in trainer that a run of this space may train."""
        if self.trainer is not None:
            return ()
        arms = (self.baseline, *map(self.arm_config, self.claim.arms), *self.claim.across.values())
        stated = [self.run_config(given) for given in arms]
        searched = self.distributions["arch"].corners if "arch" in self.search else ()
        return tuple(dict.fromkeys([*(config.model.arch for config in stated), *searched]))

    def arm_config(self, name: str) -> dict[str, Any]:
        """An arm of ``claim.arms`` as overrides; gamma and c are always stated."""
        return self.normalized(self.stated | self.claim.arms[name])

    def normalized(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """``overrides`` as they are recorded: each value in its key's type, so that one value has one hash.

        ``1`` for a float key is ``1.0``; a γ by stage or depth becomes one key for each of its numbers.
        """
        values: dict[str, Any] = {}
        if self.trainer is not None:
            return {key: self._own_value(key, value) for key, value in overrides.items()}
        for key, value in overrides.items():
            own = owner(key)
            declared = as_declared(ModelConfig if own in MODEL_KEYS else TrainConfig, own, value)
            values |= gamma_parts(declared) if key == "gamma" else {key: declared}
        return values

    def _own_value(self, key: str, value: Any) -> Any:
        """A parameter of a trainer of the user's own: a float wherever the space says one of it anywhere."""
        check_name("", key) if key not in self.run_keys else None
        if not isinstance(value, str | bool | int | float) or value != value or value in (float("inf"), -float("inf")):
            raise ConfigError(key, value, "a finite number, a word, true or false")
        floats = [
            *(given[key] for given in (self.claim.baseline, *self.claim.arms.values()) if key in given),
            *([self.trainer.params[key]] if self.trainer is not None and key in self.trainer.params else []),
        ]
        spec = self.search.get(key)
        ranged = isinstance(spec, Mapping) and {"uniform", "log_uniform"} & set(spec)
        floats += spec["choice"] if isinstance(spec, Mapping) and isinstance(spec.get("choice"), list) else []
        return float(value) if type(value) is int and (ranged or float in map(type, floats)) else value

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
    def fixed_sections(self) -> dict[str, Any]:
        """The sections that decide a result, without what is searched: the same for all runs of a study."""
        content = self.to_dict()
        for key in ("name", "search", "budget", "resources", "tracking"):
            del content[key]
        for section in ("model", "train"):
            content[section] = {key: value for key, value in content[section].items() if key not in self.search}
        return content

    @property
    def sha256(self) -> str:
        """Hash of what a result depends on: all but how much is spent, where it runs and who tracks it.

        ``1`` and ``1.0`` are the same value of a key, so they give the same hash.
        """
        return sha256_of(self._decisive())

    @property
    def runs_sha256(self) -> str:
        """Hash of what a single run depends on, and of which runs there can be: not of how they are chosen, on which
        seeds they are repeated, and what is concluded from them.
        """
        content = self._decisive()
        kept = {key: content[key] for key in ("model", "data", "train", "trainer", "search") if key in content}
        return sha256_of(kept | {key: content["claim"].get(key) for key in ("about", "baseline", "arms", "across")})

    def _decisive(self) -> dict[str, Any]:
        content = self.to_dict()
        for key in ("budget", "resources", "tracking"):
            del content[key]
        if self.trainer is None:
            del content["trainer"]
        else:
            # How it is ended and where it lies decide no result.
            for key in ("root", "timeout", "grace", "save_every", "pty"):
                del content["trainer"][key]
        for section, key, default in _added_keys():
            if content.get(section) is not None and content[section][key] == default:
                del content[section][key]
        if self.scheduler.grace == "auto" and (self.scheduler.name == "none" or not self.search):
            # What it was by default in the first studies, where it means nothing.
            content["scheduler"]["grace"] = 10
        content["search"] = {
            key: [self.normalized({key: value})[key] for value in found.values]
            if isinstance(found, Choice)
            else asdict(found)
            for key, found in self.distributions.items()
        }
        content["claim"]["baseline"] = self.normalized(self.claim.baseline)
        content["claim"]["arms"] = {name: self.arm_config(name) for name in self.claim.arms}
        content["claim"]["across"] = {name: self.normalized(given) for name, given in self.claim.across.items()}
        if isinstance(self.sampler.points, list):
            content["sampler"]["points"] = [self.normalized(point) for point in self.sampler.points]
        return content


def _added_keys() -> Iterator[tuple[str, str, Any]]:
    """Section, name and default of every key that is younger than the first studies."""
    for section, field in Space.model_fields.items():
        kind: Any = section_of(field.annotation)
        if kind in OPTIONS:
            found = [(name, item.default) for name, item in OPTIONS[kind].items() if item.metadata["added"]]
        else:
            own = getattr(kind, "model_fields", {})
            extra = {name: item.json_schema_extra for name, item in own.items()}
            found = [(name, item.default) for name, item in own.items() if extra[name] and extra[name]["added"]]
        yield from ((section, name, default) for name, default in found)
