"""What a lab does in the load test of many users: who begins which study when, what happens to it, how it must end.

Everything is drawn from one seed beforehand, so that a plan can be made again. The oracle compares what a study left
behind with the same study undisturbed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from tune_bn.records.record import FAILED, Record
from tune_bn.study.driver import FINISHED, STOPPED

USERS = ("ada", "ben", "cleo")
SEARCH_SHAPE, CLAIM_SHAPE, LONG_SHAPE = "search", "claim", "long"
PACES = ("quick", "steady", "slow")
LONG_SEEDS = {"quick": 240, "steady": 120, "slow": 75}
"""More than twenty minutes of two slots can do."""

STOP, TERM, INTERRUPT, KILL, LIMIT, COST = "stop", "SIGTERM", "Ctrl-C", "SIGKILL", "total_hours", "cost"
CANCEL, FOLLOWER = "job cancelled", "connection lost"
SHELL_ACTS = (STOP, TERM, INTERRUPT, KILL, LIMIT, COST)
JOB_ACTS = (STOP, KILL, LIMIT, COST, CANCEL, FOLLOWER)
LIMITS = {LIMIT: "budget.total_hours", COST: "budget.cost"}

KILL_WORKER, KILL_NODE, DRAIN_NODE = "worker killed", "node killed", "node drained"
CLUSTER_EVENTS = {KILL_WORKER: 5, KILL_NODE: 2, DRAIN_NODE: 2}
"""What happens to the cluster, and how often for each other."""


@dataclass(frozen=True)
class Act:
    """Something that happens to the driver of a study."""

    kind: str
    after: int
    """Records that the study has by then, at least."""
    delay: float
    """Seconds after that; of a limit, the limit."""


@dataclass(frozen=True)
class StudyPlan:
    """One study of one user."""

    user: str
    name: str
    """Other users have studies of the same name."""
    number: int
    shape: str
    pace: str
    begins: float
    """Seconds after the start."""
    as_job: bool
    acts: tuple[Act, ...]
    """Each meets another driver; between them the study is resumed."""
    left: bool
    """Nobody goes on after the last one."""

    @property
    def words(self) -> str:
        """Such as ``ada/s03``."""
        return f"{self.user}/{self.name}"

    @property
    def told(self) -> str:
        """How it must end."""
        if not self.left:
            return "finished"
        return "limit" if self.acts[-1].kind in LIMITS else "stopped"


@dataclass(frozen=True)
class ClusterEvent:
    """Something that happens to the cluster, so many seconds after the start."""

    at: float
    kind: str
    away: float
    """Seconds until a lost node is replaced."""


@dataclass(frozen=True)
class Plan:
    """The whole of it."""

    studies: tuple[StudyPlan, ...]
    events: tuple[ClusterEvent, ...]


def make_plan(seed: int, studies: int, minutes: float) -> Plan:
    """Draw a plan; the same arguments give the same one.

    The first study of each user is a long one: it has work all the time, and it is stopped near the end.
    """
    rng, seconds = Random(seed), 60 * minutes
    made = []
    for number in range(studies):
        user, count = USERS[number % len(USERS)], number // len(USERS)
        if count == 0:
            stop = Act(STOP, 1, max(10.0, 0.85 * seconds))
            pace = PACES[number % len(PACES)]
            made.append(StudyPlan(user, "s00", number, LONG_SHAPE, pace, 0.0, number % 2 == 1, (stop,), True))
            continue
        as_job = rng.random() < 0.4
        kinds = JOB_ACTS if as_job else SHELL_ACTS
        acts = tuple(_act(rng, rng.choice(kinds)) for _ in range(rng.choice((0, 0, 1, 1, 1, 2))))
        left = bool(acts) and acts[-1].kind in (STOP, TERM, INTERRUPT, LIMIT, COST, CANCEL) and rng.random() < 0.4
        shape = rng.choice((SEARCH_SHAPE, CLAIM_SHAPE, CLAIM_SHAPE))
        begins = rng.uniform(0, 0.65 * seconds)
        pace = rng.choice(PACES)
        made.append(StudyPlan(user, f"s{count:02}", number, shape, pace, begins, as_job, acts, left))
    events, at = [], 0.0
    while (at := at + rng.uniform(15, 45)) < 0.9 * seconds:
        (kind,) = rng.choices([*CLUSTER_EVENTS], [*CLUSTER_EVENTS.values()])
        events.append(ClusterEvent(at, kind, rng.uniform(10, 50)))
    return Plan(tuple(made), tuple(events))


def made_words(seed: int, studies: int, minutes: float) -> str:
    """What was carried out, in a line."""
    return (
        f"{studies} studies of {len(USERS)} users under one account, with a folder each, on a head and "
        f"8 nodes of one core; {minutes:g} minutes of events, seed {seed}"
    )


def _act(rng: Random, kind: str) -> Act:
    if kind in LIMITS:
        return Act(kind, 0, rng.uniform(4, 12))
    # Also before there is a study, while its driver loads its libraries.
    return Act(kind, rng.choice((0, 1, 1, 2, 3, 5)), rng.uniform(0, 4))


def space_of(plan: StudyPlan, seeds: int | None = None) -> dict[str, Any]:
    """The space file of a study. Proposals depend on no score, so that they are the same whichever run ends first.

    Args:
        plan: of the study.
        seeds: of a claim; None: as many as the plan says.
    """
    content: dict[str, Any] = {
        "name": f"lab{plan.number}",
        "model": {"arch": f"many_users_network:{plan.pace}"},
        "data": {"source": "digits", "train_size": 40, "val_size": 40, "test_size": 40},
        "train": {"epochs": 10, "batch_size": 20},
        "budget": {"max_failures": 100},
        "resources": {"checkpoint_seconds": 0.5, "price_per_device_hour": 3600},
    }
    # The start of a worker costs more than a run.
    content["resources"]["max_concurrent"] = 3 if plan.shape == LONG_SHAPE else 1 + (plan.number % 3 == 0)
    if plan.shape == SEARCH_SHAPE:
        return content | {
            "search": {"gamma": {"log_uniform": [0.05, 1.0]}, "c": {"log_uniform": [1, 100]}},
            "sampler": {"name": "random", "points": "none", "seed": plan.number},
            "scheduler": {"name": "none"},
            "budget": {**content["budget"], "trials": 2, "finalists": 1},
            "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3]},
        }
    if seeds is None:
        seeds = LONG_SEEDS[plan.pace] if plan.shape == LONG_SHAPE else 3
    # Searches and selections have the seeds from 101 on, also where nobody searches.
    first = 1001 if plan.shape == LONG_SHAPE else 1
    arm = {"gamma": round(0.1 + 0.01 * plan.number, 2), "c": 10.0}
    return content | {"claim": {"arms": {"small": arm}}, "seeds": {"confirm": {"from": first, "to": first + seeds - 1}}}


def runs_left(plan: StudyPlan, records: int) -> int:
    """Runs that the stage of a study has left, which are not recorded."""
    ends = {SEARCH_SHAPE: (2, 3, 9), CLAIM_SHAPE: (6,), LONG_SHAPE: (2 * LONG_SEEDS[plan.pace],)}[plan.shape]
    return next((end - records for end in ends if end > records), 0)


@dataclass(frozen=True)
class Step:
    """What one driver of a study did."""

    act: str
    """What happened to it; empty: nothing."""
    exit_code: int | None
    """Of the command; None: it had to be killed."""
    state: str
    """Of ``driver.json``; empty: there is none."""
    reason: str
    seconds_after: float
    """From the act to the driver's end."""
    said: str = ""
    """Last line of the command."""


@dataclass(frozen=True)
class Left:
    """What a study left behind."""

    plan: StudyPlan
    steps: tuple[Step, ...]
    records: tuple[Record, ...]
    has_verdict: bool
    locked: bool
    files: tuple[str, ...]
    """Those in its folder that nobody needs."""


def essence(records: Iterable[Record]) -> dict[str, tuple[Any, ...]]:
    """What no disturbance may change, by run: of those that did not fail."""
    return {
        record.key: (dict(record.config), record.status, record.epochs, dict(record.scores))
        for record in records
        if record.status != FAILED
    }


def faults_of(left: Left, undisturbed: Sequence[Record]) -> list[str]:
    """What is wrong with a study, in words."""
    plan, wrong = left.plan, []
    expected, found = essence(undisturbed), essence(left.records)
    finished = left.has_verdict
    ended = left.steps[-1] if left.steps else None
    if plan.told == "finished" and not finished:
        wrong.append("has no verdict")
    if finished:
        wrong += [f"lost: {key}" for key in expected.keys() - found.keys()]
        if ended is not None and ended.exit_code not in (0, 1) and ended.act != FOLLOWER:
            wrong.append(f"finished with exit code {ended.exit_code}: {ended.said}")
    wrong += [f"more than the undisturbed study: {key}" for key in found.keys() - expected.keys()]
    wrong += [f"differs: {key}" for key in found.keys() & expected.keys() if found[key] != expected[key]]
    counts = Counter(record.key for record in left.records if record.status != FAILED)
    wrong += [f"doubled: {key} ({count} times)" for key, count in counts.items() if count > 1]
    wrong += [f"failed: {record.key} ({record.reason})" for record in left.records if record.status == FAILED]
    for step in left.steps:
        wrong += _faults_of_step(step)
    if left.locked:
        wrong.append("is still locked")
    wrong += [f"left behind: {name}" for name in left.files]
    return sorted(wrong)


def _faults_of_step(step: Step) -> list[str]:
    if step.exit_code is None:
        return [f"{step.act or 'undisturbed'}: its driver did not end"]
    if step.state == FINISHED or step.act in (KILL, FOLLOWER):
        # A study may come to its end before anything happens to it.
        return []
    if step.act in LIMITS:
        right = step.state == STOPPED and step.reason.startswith(LIMITS[step.act]) and step.exit_code == 130
    elif step.act:
        # Before there is a study, a signal ends a process that has none.
        right = step.state in (STOPPED, "") and step.exit_code in (130, 143, -2, -15)
        right = right or (step.act == CANCEL and step.state == STOPPED)
    else:
        right = False
    said = f"state {step.state or 'none'} ({step.reason}), exit code {step.exit_code}: {step.said}"
    return [] if right else [f"{step.act or 'undisturbed'}: {said}"]


def step_row(step: Step) -> dict[str, Any]:
    """As JSON."""
    return asdict(step)
