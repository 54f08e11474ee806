"""The sections of the space file that no training run needs.

``model``, ``data`` and ``train`` are declared in the rooms :mod:`tune_bn.method` and :mod:`tune_bn.training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tune_bn.errors import ConfigError
from tune_bn.protocols.samplers import SAMPLERS
from tune_bn.records.record import fresh_seeds

LARGEST_COUNT = 10**9
"""Counts without an end would outgrow the floats that are computed from them."""


def entry(default: Any = ..., *, doc: str, accepted: str, added: bool = False, **checks: Any) -> Any:
    """A key of a section, with the words that describe it: errors and the reference table read them here.

    ``added`` means what it means to :func:`tune_bn.options.option`.
    """
    return Field(default, description=doc, json_schema_extra={"accepted": accepted, "added": added}, **checks)


def _count(default: int | None, least: int, *, doc: str) -> Any:
    return entry(default, doc=doc, accepted=f"an integer ≥ {least}", ge=least, le=LARGEST_COUNT)


class Section(BaseModel):
    """Base of the sections: frozen, strict in its types, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Sampler(Section):
    """Who proposes configurations."""

    name: str = entry(
        "tpe",
        doc="Optuna sampler; `grid` tries every combination of choices, and of γ and c the paper's values",
        accepted=" | ".join(SAMPLERS),
    )
    baseline: str | None = entry(
        None,
        doc="who proposes the baseline's nuisance parameters; null: `gp` beside `tpe`, since few smooth parameters are "
        "tuned best by it and a baseline that is tuned badly makes false gains (statistics.md), else the same sampler",
        accepted=f"null | {' | '.join(SAMPLERS)}",
        added=True,
    )
    seed: int = entry(
        0,
        doc="seed of the proposals; trial n of a seed is reproducible",
        accepted="an integer from 0 to 2^32 − 1",
        ge=0,
        lt=2**32,
    )
    points: Literal["none", "paper_grid"] | list[dict[str, Any]] = entry(
        "paper_grid",
        doc="configurations tried first; `paper_grid` is the paper's γ grid at c = 100, as far as it is searched, from "
        "γ = 0.1 on, the slow smallest last",
        accepted="paper_grid | none | a list of points such as {gamma: 0.1, c: 100}",
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        for key, name in (("name", self.name), ("baseline", self.baseline)):
            if name is not None and name not in SAMPLERS:
                raise ConfigError(key, name, " | ".join(SAMPLERS))
        if self.baseline is not None and "grid" in (self.name, self.baseline):
            raise ConfigError("baseline", self.baseline, "null beside name: grid, and never grid by itself")
        return self


class Scheduler(Section):
    """Who stops hopeless trials of the search early."""

    name: Literal["asha", "median", "none"] = entry(
        "asha",
        doc="asynchronous successive halving or the median stopping rule, as Ray Tune has them, or none; trials are "
        "compared within their arm, and the first `budget.finalists` of each arm always run to their end",
        accepted="asha | median | none",
    )
    grace: Annotated[int, Field(ge=1, le=LARGEST_COUNT)] | Literal["auto"] = entry(
        "auto",
        doc="epochs before a trial may be stopped; where it is not less than `epochs`, none is. `auto`: the start "
        "points, and 16 trials of each arm at least, run to their end, and trials are stopped from the epoch on from "
        "which the order of the better half of them agrees with their final one, or not at all (statistics.md); where "
        "`epochs` is searched none is stopped",
        accepted="an integer ≥ 1 or auto",
    )
    reduction: int = _count(3, 2, doc="ASHA keeps one trial in so many at each rung")


class Budget(Section):
    """How much may be spent."""

    trials: int = _count(
        24,
        1,
        doc="configurations of the search, start points included; with nuisance keys half are for the "
        "baseline, or as many as it has configurations",
    )
    hours: float | None = entry(
        None,
        doc="wall-clock limit of the search stage, over all its drivers; running trials finish",
        accepted="null or a number > 0",
        gt=0,
        le=LARGEST_COUNT,
    )
    total_hours: float | None = entry(
        None,
        doc="wall-clock limit of the whole study, over all its drivers: it stops as by Ctrl-C, and `--resume` with a "
        "higher limit goes on",
        accepted="null or a number > 0",
        gt=0,
        le=LARGEST_COUNT,
    )
    cost: float | None = entry(
        None,
        doc="limit of the estimated cost of the whole study, in the unit of `resources.price_per_device_hour`, which "
        "must be stated; it stops as by Ctrl-C",
        accepted="null or a number > 0",
        gt=0,
        le=LARGEST_COUNT,
    )
    finalists: int = _count(
        3,
        1,
        doc="best trials of the search that meet on the selection seeds, of each arm; as many of its trials, the first "
        "ones, are never stopped early",
    )
    race_error: float | None = entry(
        0.05,
        doc="finalists that are clearly behind after 3, 5, 8, 11, 15, 20, … selection seeds are dropped; the chance at "
        "most that this drops one that is truly among the best `claim.candidates`; null: all run on every seed",
        accepted="null or a number from 0.0001 to 0.5",
        ge=0.0001,
        le=0.5,
    )
    at_chance: Literal["stop", "go_on"] = entry(
        "stop",
        doc="what happens before the selection where no candidate learned anything: its best score on validation is "
        "what guessing gives",
        accepted="stop | go_on",
    )
    max_failures: int = _count(3, 0, doc="retries of a run that raises, from its checkpoint, with the same seed")


def _seed_list(value: Any) -> Any:
    """``{from: 1, to: 15}`` is short for the list of all seeds from 1 to 15; there is no use for 100,000 of them."""
    if isinstance(value, Mapping) and set(value) == {"from", "to"}:
        first, last = value["from"], value["to"]
        if type(first) is int and type(last) is int and 0 <= first <= last and last - first < 100_000:
            return list(range(first, last + 1))
    return value


SeedList = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], BeforeValidator(_seed_list)]


def _seeds(default: list[int], least: int, *, doc: str) -> Any:
    number = "one or more" if least == 1 else "at least two"
    accepted = f"a list of {number} integers ≥ 0, all different, or {{from: 1, to: 15}}"
    return entry(default, doc=doc, accepted=accepted, min_length=least)


class Seeds(Section):
    """Which seeds each stage uses. The stages never share one."""

    search: SeedList = _seeds([101], 1, doc="every trial of the search runs on all of these")
    select: SeedList = _seeds([201, 202, 203], 1, doc="the finalists run on all of these")
    confirm: SeedList = _seeds(list(range(1, 16)), 2, doc="baseline and candidates run on all of these")

    earlier: SeedList = entry(
        [],
        doc="seeds on which earlier studies searched, selected or confirmed what this one starts from; `--warm-start` "
        "adds them. None of them may be a confirmation seed",
        accepted="a list of integers ≥ 0",
    )

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        stages = {"search": self.search, "select": self.select, "confirm": self.confirm}
        taken = {*self.search, *self.select, *self.confirm, *self.earlier}
        seen: dict[int, str] = {}
        for stage, seeds in stages.items():
            fresh = f"such as seeds.{stage}={fresh_seeds(len(set(seeds)), taken)}"
            for seed in seeds:
                if seed in seen:
                    accepted = f"a seed used once, {fresh}; {seed} is already a seed of {seen[seed]}"
                    raise ConfigError(stage, seed, accepted)
                if stage == "confirm" and seed in self.earlier:
                    raise ConfigError(stage, seed, f"a fresh seed, {fresh}; {seed} is one of seeds.earlier")
                seen[seed] = stage
        return self


class Resources(Section):
    """What one trial holds, and where it may find it."""

    cpu: float = entry(1, doc="CPU cores per trial; also its threads", accepted="a number > 0", gt=0, le=LARGEST_COUNT)
    gpu: float = entry(
        0, doc="GPUs per trial; a fraction lets trials share one", accepted="a number ≥ 0", ge=0, le=LARGEST_COUNT
    )
    max_concurrent: int | None = entry(
        None,
        doc="trials at the same time; null: what fits the cluster at the start of a stage",
        accepted="null or an integer ≥ 1",
        ge=1,
        le=LARGEST_COUNT,
    )
    elastic: bool = entry(
        False,
        doc="the cluster may grow: do not refuse work that does not fit it now; needs `max_concurrent`",
        accepted="true or false",
    )
    price_per_device_hour: float | None = entry(
        None,
        doc="price of a GPU for an hour, or of a CPU core where a trial has no GPU; `tune_bn status` estimates costs "
        "from it",
        accepted="null or a number ≥ 0",
        ge=0,
        le=LARGEST_COUNT,
    )
    keep_weights: Literal["none", "confirmed"] = entry(
        "none",
        doc="`confirmed` keeps the weights of the last epoch of every confirmation run, in the study's folder "
        "`weights/`, as far as its workers write there; `tune_bn inspect --checkpoint` opens them",
        accepted="none | confirmed",
    )
    checkpoint_seconds: float = entry(
        60, doc="least time between two checkpoints of a trial", accepted="a number > 0", gt=0, le=LARGEST_COUNT
    )

    @property
    def devices(self) -> float:
        """GPUs that a trial holds, or CPU cores where it has no GPU: what device-hours count."""
        return self.gpu or self.cpu

    @model_validator(mode="after")
    def _growth_has_an_end(self) -> Self:
        # What fits a cluster before it has grown says nothing; often that is not even one trial.
        if self.elastic and self.max_concurrent is None:
            raise ConfigError(
                "max_concurrent", None, "with elastic: true, the trials that the grown cluster runs at once"
            )
        return self


class Tracking(Section):
    """Where runs are tracked."""

    uri: str | None = entry(
        None, doc="MLflow tracking URI; null: SQLite beside the studies", accepted="null or a URI that MLflow takes"
    )
    system_metrics: bool = entry(
        False,
        doc="MLflow's system metrics (processor, memory, disk, net, GPUs) of each run; needs psutil, and runs on the "
        "machine of the driver",
        accepted="true or false",
        added=True,
    )
    log_models: Literal["none", "confirmed"] = entry(
        "none",
        doc="`confirmed` makes an MLflow model of the kept weights of every confirmation run, with signature and "
        "example; needs `resources.keep_weights: confirmed`",
        accepted="none | confirmed",
        added=True,
    )
