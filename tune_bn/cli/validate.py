"""``tune_bn validate``: what a search would do and cost. Starts nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tune_bn.analysis.wording import claim_words, config_words, detectable_words, number_words, with_unit
from tune_bn.cli.cost import cost_of_a_run
from tune_bn.data.cache import Progress
from tune_bn.front.surroundings import checked_door
from tune_bn.host.machine import usable_cores
from tune_bn.protocols.trainer import Cost
from tune_bn.records.ledger import spent_level
from tune_bn.records.record import BASELINE, CANDIDATE
from tune_bn.space.messages import spec_words
from tune_bn.space.space import Space
from tune_bn.study.auto_grace import first_trials

START_SECONDS = 10
"""Imports, the start of Ray, the verdict and the report."""


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
        confirm=len(space.settings) * (1 + space.most_rivals + _candidates(space)) * len(space.seeds.confirm),
    )


def _candidates(space: Space) -> int:
    """Candidates in each setting."""
    return len(space.claim.arms) or space.claim.candidates


def power_words(space: Space) -> str:
    """What the confirmation of the space can find."""
    candidates = len(space.settings) * _candidates(space)
    spends = space.claim.alpha_spending != "none"
    alpha = spent_level(space.claim.alpha, 1) if spends else space.claim.alpha
    words = detectable_words(len(space.seeds.confirm), alpha, candidates, rule=space.design)
    if spends:
        words += "; at the level of a first claim on its test data, a later one has less (claim.alpha_spending)"
    claim = space.claim.stated
    if claim.is_plain:
        return words
    start = with_unit(number_words(claim.null), space.score.difference_unit_words)
    return f"{words}; the claim is {claim_words(claim)}, so that this counts from {start} on"


def describe(
    space: Space, path: Path, *, output: Path | None = None, measure: bool | None = False, read: bool = False
) -> str:
    """The answer of ``tune_bn validate``, in lines.

    Args:
        space: what is asked.
        path: its file.
        output: folder of studies, which may say how long runs take.
        measure: see :func:`tune_bn.cli.cost.cost_of_a_run`.
        read: whether :func:`describe_images` tries what else is to be known of the data.

    Raises:
        DataError, MethodError, TrackingError: see :func:`tune_bn.front.surroundings.check_surroundings`.
    """
    remarks: list[str] = []
    door, _ = checked_door(space, remarks.append)
    plan, described = planned(space), door.describe()
    middle = [*_stages(space, plan), f"power      {power_words(space)}", f"tracking   {_tracking_words(space)}"]
    notes = [f"note       {line}" for line in remarks]
    cost = cost_of_a_run(door, output, measure) if described.run else None
    if cost is None:
        check = shlex.join(["tune_bn", "check", "--space", str(path)])
        end = f"in all     at most {plan.runs} runs; `{check}` says how long each takes"
        return "\n".join([f"{path}: valid (space {space.sha256[:12]})", *described.what, *notes, *middle, end])
    lacking = _lacking(space)
    gpus, cpus = space.resources.gpu, space.resources.cpu
    holding = f"{gpus:g} GPU" if gpus else f"{cpus:g} CPU core"
    device_hours = [plan.runs * seconds / 3600 * (gpus or cpus) for seconds in (cost.low, cost.high)]
    lines = [
        f"{path}: valid (space {space.sha256[:12]})" + (f", but not for this machine: {lacking}" if lacking else ""),
        *described.what,
        f"run        {described.run}; {_range(cost.low, cost.high)} each on {holding} ({cost.source})",
        *(f"           {line}" for line in described.remarks),
        *notes,
        *middle,
        f"in all     at most {plan.runs} runs, {_numbers(*device_hours)} {'GPU' if gpus else 'core'}-hours without "
        "early stopping",
        f"here       {lacking or _here_words(space, plan, cost)}",
        f"not tried  {'; '.join(_not_tried(space, () if read else described.not_tried))}",
    ]
    return "\n".join(lines)


def _lacking(space: Space) -> str:
    """What a trial holds and this machine has not, so that a search must go elsewhere; empty: nothing."""
    elsewhere = "`tune_bn search` needs --address of a cluster that has them"
    if space.resources.gpu:
        import torch

        there = torch.cuda.device_count()
        if space.resources.gpu > there:
            return f"resources.gpu = {space.resources.gpu:g} per trial, and it has {there} GPUs; {elsewhere}"
    cores, needed = usable_cores(), space.resources.cpu
    if needed > cores:
        return f"resources.cpu = {needed:g} per trial, and {cores} CPU cores may be used; {elsewhere}"
    return ""


def _here_words(space: Space, plan: Plan, cost: Cost) -> str:
    """What this machine has for the study, and how long it takes on it."""
    if space.resources.gpu:
        import torch

        there = torch.cuda.device_count()
        words, room = f"{there} GPU{'s' if there > 1 else ''} of this machine may be used", there / space.resources.gpu
    else:
        cores = usable_cores()
        words = f"{cores} CPU core{'s' if cores > 1 else ''} of this machine may be used"
        room = cores / space.resources.cpu
    at_once = max(1, min(int(room + 1e-9), space.resources.max_concurrent or int(room), plan.trials or plan.runs))
    trials = f"{at_once} trial{'s' if at_once > 1 else ''}"
    times = _range(*(plan.runs * seconds / at_once for seconds in (cost.low, cost.high)))
    return f"{words}: {trials} at a time, {times} and about {START_SECONDS} s for starting"


def _not_tried(space: Space, own: Sequence[str]) -> list[str]:
    """What a search will need and this verb does not try."""
    from tune_bn.observers.mlflow.uri import is_server, named_uri

    tracked = named_uri(space.tracking.uri)
    return [
        "the whole course of a run",
        *own,
        *(["whether the tracking server answers"] if tracked is not None and is_server(tracked.uri) else []),
        "whether Ray starts",
    ]


def _tracking_words(space: Space) -> str:
    """Where MLflow will have the runs, who says so, and what of the environment is not used."""
    from tune_bn.observers.mlflow.uri import VARIABLE, named_uri, shown

    tracked, unused = named_uri(space.tracking.uri), []
    if tracked is None:
        words = f"SQLite beside the studies, mlflow.db (neither tracking.uri nor {VARIABLE} is set)"
    else:
        words = f"{shown(tracked.uri)} (by {tracked.place})"
        unused = [VARIABLE] if tracked.place != VARIABLE and os.environ.get(VARIABLE) else []
    unused += [name for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID") if os.environ.get(name)]
    words += f"; experiment {space.name}"
    return f"{words}; not used: {', '.join(unused)}" if unused else words


def describe_images(space: Space, progress: Progress | None = None) -> str:
    """The answer of ``tune_bn validate --data``, in lines, after reading every image that the space uses.

    Raises:
        DataError: images cannot be read, or used; all of them are counted.
    """
    from tune_bn.trainers.door import door_of

    return "\n".join(door_of(space).read(progress))


def _stages(space: Space, plan: Plan) -> list[str]:
    claim, seeds, rule = space.claim, len(space.seeds.confirm), space.design
    metric = space.score.test
    against = f"against {config_words(space.baseline)} on {metric}"
    if claim.across:
        against += f" in each of {len(claim.across)} settings ({', '.join(claim.across)})"
    if rule is not None:
        against += f"; group-sequential, looks at {', '.join(map(str, rule.looks))} pairs"
    most = "" if rule is None else "at most "
    if claim.arms:
        arms = f"{len(claim.arms)} arm{'s' if len(claim.arms) > 1 else ''} ({', '.join(claim.arms)})"
        return [f"confirm    {most}{plan.confirm} runs ({seeds} seeds, {arms} {against}); nothing is searched"]
    searched = ", ".join(f"{key} {spec_words(spec)}" for key, spec in space.search.items())
    scheduler = space.scheduler_config
    stopping = "none"
    searching = [arm for arm in (CANDIDATE, BASELINE) if space.trials_of(arm)]
    if scheduler is not None and scheduler.grace is None:
        first = " and ".join(f"{first_trials(space, arm)} {arm}" for arm in searching)
        if all(first_trials(space, arm) == space.trials_of(arm) for arm in searching):
            stopping = f"none, as the first {first} trials, which run to their end, are all"
        else:
            stopping = (
                f"by {scheduler.name}, once the first {first} trials, which run to their end, show when it is safe"
            )
    elif scheduler is not None:
        spared = " and ".join(f"{min(space.budget.finalists, space.trials_of(arm))} {arm}" for arm in searching)
        within = ", each arm by itself" if len(searching) > 1 else ""
        stopping = (
            f"by {scheduler.name} after {scheduler.grace} epochs{within}; the first {spared} trials run to their end"
        )
    candidates = f"{claim.candidates} candidate{'s' if claim.candidates > 1 else ''}"
    if rivals := space.most_rivals:
        against += f"; and against up to {_count(rivals, 'further tuning')} of the baseline (claim.rivals)"
    elif searching == [CANDIDATE, BASELINE]:
        against += "; against its best tuning alone (claim.rivals)"
    times = f"{_count(plan.trials, 'trial')} × {_count(len(space.seeds.search), 'seed')}"
    return [
        f"search     {times} = {plan.search} runs over {searched}, proposed by {_samplers(space)}; "
        f"early stopping: {stopping}",
        f"select     {plan.select} runs",
        f"confirm    {most}{plan.confirm} runs ({seeds} seeds, {candidates} {against})",
    ]


def _samplers(space: Space) -> str:
    own = space.sampler_of(BASELINE) if space.trials_of(BASELINE) else space.sampler.name
    return space.sampler.name if own == space.sampler.name else f"{space.sampler.name}, the baseline's by {own}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _range(low: float, high: float) -> str:
    """``about 4.1 s``, ``4.1 to 6 s``, ``50 s to 2.5 min``."""
    first, last = _duration(low), _duration(high)
    if first == last:
        return f"about {last}"
    number, unit = first.split()
    return f"{number if unit == last.split()[1] else first} to {last}"


def _numbers(low: float, high: float) -> str:
    first, last = f"{low:.2g}", f"{high:.2g}"
    return f"about {last}" if first == last else f"{first} to {last}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"
