"""``tune_bn validate``: what a search would do and cost. Starts nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from tune_bn.analysis.wording import config_words, detectable_words
from tune_bn.errors import DataError
from tune_bn.method.config import ModelConfig
from tune_bn.records import BASELINE, CANDIDATE
from tune_bn.spec import Space
from tune_bn.training.data import DataSummary

# Sustained training rates, FLOP/s, for an estimate of the order of magnitude: a plain PyTorch loop reaches about these
# on a data-centre GPU and on a core of a server, whatever the peak on the data sheet says.
GPU_RATE = 30e12
CORE_RATE = 60e9
STEP_SECONDS = {"gpu": 0.004, "cpu": 0.010}
"""Least time of a step, however small the network: launching its kernels."""


@dataclass(frozen=True)
class Plan:
    """How many runs a search makes at most, by stage."""

    trials: int
    search: int
    select: int
    confirm: int

    @property
    def runs(self) -> int:
        """All runs."""
        return self.search + self.select + self.confirm


def planned(space: Space) -> Plan:
    """The runs of a space, if nothing is stopped early."""
    arms = [arm for arm in (CANDIDATE, BASELINE) if space.trials_of(arm)]
    trials = sum(space.trials_of(arm) for arm in arms)
    finalists = sum(min(space.budget.finalists, space.trials_of(arm)) for arm in arms)
    return Plan(
        trials=trials,
        search=trials * len(space.seeds.search),
        select=finalists * len(space.seeds.select),
        confirm=len(space.settings) * (1 + _candidates(space)) * len(space.seeds.confirm),
    )


def _candidates(space: Space) -> int:
    """Candidates in each setting."""
    return len(space.claim.arms) or space.claim.candidates


def power_words(space: Space) -> str:
    """What the confirmation of the space can find."""
    return detectable_words(len(space.seeds.confirm), space.claim.alpha, len(space.settings) * _candidates(space))


def run_seconds(space: Space, data: DataSummary) -> float:
    """Estimated seconds of one full run on the resources of one trial."""
    from tune_bn.training.cost import BACKWARD, forward_flops

    forward = forward_flops(space.model, data.image_shape, data.num_classes)
    train, config = data.train_size, space.train
    flops = config.epochs * forward * ((1 + BACKWARD) * train + data.val_size) + forward * data.test_size
    steps = config.epochs * -(-train // config.batch_size)
    kind = "gpu" if space.resources.gpu else "cpu"
    rate = GPU_RATE * space.resources.gpu if kind == "gpu" else CORE_RATE * space.resources.cpu
    return max(flops / rate, steps * STEP_SECONDS[kind])


def check_surroundings(space: Space) -> DataSummary:
    """Check what the space names outside itself, its data, networks and tracking store, without starting anything.

    Raises:
        DataError: the data is missing or does not fit.
        MethodError: a network does not exist, cannot be treated as asked, or does not take the images.
        TrackingError: the tracking URI is not one that MLflow takes.
    """
    from tune_bn.tracking.mlflow_uri import check_tracking_uri
    from tune_bn.training.data import describe_data

    if space.tracking.uri is not None:
        check_tracking_uri(space.tracking.uri)
    data = describe_data(space.data)
    searched = space.distributions.get("batch_size")
    for size in [space.train.batch_size] if searched is None else searched.corners:
        if data.train_size % size == 1:
            raise DataError(
                f"train.batch_size: got {size}, which leaves a last batch of one of {data.train_size} images; "
                "accepted: a size that leaves none or more, since batch norm cannot normalize one image"
            )
    _check_networks(space, data)
    return data


def _check_networks(space: Space, data: DataSummary) -> None:
    from tune_bn.method.build import check_network

    # One proposal, and what is searched of words and switches in every combination with it.
    proposal = {key: distribution.corners[0] for key, distribution in space.distributions.items()}
    kinds = {
        key: distribution.corners
        for key, distribution in space.distributions.items()
        if isinstance(distribution.corners[0], str | bool)
    }
    given = [proposal | dict(zip(kinds, values, strict=True)) for values in product(*kinds.values())]
    arms = [space.baseline, *map(space.arm_config, space.claim.arms), *given]
    given = [{**arm, **setting} for setting in ({}, *space.claim.across.values()) for arm in arms]
    checked: list[ModelConfig] = []
    for overrides in given:
        model = space.run_config(overrides).model
        # Any network takes any single number.
        model = model if isinstance(model.gamma, dict) else replace(model, gamma=1.0)
        if model not in checked:
            check_network(model, data.image_shape, data.num_classes)
            checked.append(model)


def describe(space: Space, path: Path) -> str:
    """The answer of ``tune_bn validate``, in lines. Raises what :func:`check_surroundings` raises."""
    data, plan = check_surroundings(space), planned(space)
    seconds = run_seconds(space, data)
    gpus, cpus = space.resources.gpu, space.resources.cpu
    holding = f"{gpus:g} GPU" if gpus else f"{cpus:g} CPU core"
    hours = plan.runs * seconds / 3600 * (gpus or cpus)
    shape = "×".join(str(side) for side in data.image_shape)
    lines = [
        f"{path}: valid (space {space.sha256[:12]})",
        f"model      {space.model.arch}, norm {space.model.norm}, input norm {space.model.input_norm}",
        f"data       {space.data.source}: {data.train_size:,} train, {data.val_size:,} validation, {data.test_size:,} "
        f"test images of {shape}, {data.num_classes} classes",
        f"run        {space.train.epochs} epochs, batch {space.train.batch_size}, {space.train.precision}; "
        f"about {_duration(seconds)} each on {holding}",
        *_slow_precision(space),
        *_stages(space, plan),
        f"power      {power_words(space)}",
        f"in all     at most {plan.runs} runs, about {hours:.2g} {'GPU' if gpus else 'core'}-hours without early "
        f"stopping (an estimate from {'30 TFLOP/s per GPU' if gpus else '60 GFLOP/s per core'}; this machine has "
        f"{os.cpu_count()} cores)",
    ]
    return "\n".join(lines)


def _slow_precision(space: Space) -> list[str]:
    """A line where the precision makes runs slower instead of faster."""
    if space.train.precision != "bf16" or space.resources.gpu:
        return []
    from tune_bn.training.precision import bf16_is_emulated

    if not bf16_is_emulated():
        return []
    return ["           this CPU has no bfloat16 arithmetic: bf16 is several times slower here than fp32"]


def _stages(space: Space, plan: Plan) -> list[str]:
    claim, seeds, rule = space.claim, len(space.seeds.confirm), space.design
    against = f"against {config_words(space.baseline)} on {claim.metric}"
    if claim.across:
        against += f" in each of {len(claim.across)} settings ({', '.join(claim.across)})"
    if rule is not None:
        against += f"; group-sequential, looks at {', '.join(map(str, rule.looks))} pairs"
    most = "" if rule is None else "at most "
    if claim.arms:
        arms = f"{len(claim.arms)} arm{'s' if len(claim.arms) > 1 else ''} ({', '.join(claim.arms)})"
        return [f"confirm    {most}{plan.confirm} runs ({seeds} seeds, {arms} {against}); nothing is searched"]
    searched = ", ".join(f"{key} {_words(spec)}" for key, spec in space.search.items())
    scheduler = space.scheduler_config
    stopping = "none"
    if scheduler is not None:
        searching = [arm for arm in (CANDIDATE, BASELINE) if space.trials_of(arm)]
        spared = " and ".join(f"{min(space.budget.finalists, space.trials_of(arm))} {arm}" for arm in searching)
        within = ", each arm by itself" if len(searching) > 1 else ""
        stopping = (
            f"{scheduler.name} after {scheduler.grace} epochs{within}; the first {spared} trials run to their end"
        )
    candidates = f"{claim.candidates} candidate{'s' if claim.candidates > 1 else ''}"
    return [
        f"search     {plan.trials} trials × {len(space.seeds.search)} seeds = {plan.search} runs over {searched}; "
        f"{space.sampler.name}, early stopping {stopping}",
        f"select     {plan.select} runs",
        f"confirm    {most}{plan.confirm} runs ({seeds} seeds, {candidates} {against})",
    ]


def _words(spec: object) -> str:
    if isinstance(spec, dict) and len(spec) == 1:
        ((kind, body),) = spec.items()
        return f"{kind} {_words(body)}"
    return f"[{', '.join(map(_words, spec))}]" if isinstance(spec, list) else str(spec)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"
