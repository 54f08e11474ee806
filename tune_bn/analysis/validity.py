"""What the confirmation records amount to under a plan: one score per arm and seed, or the reasons why not."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_bn.analysis.circumstances import data_problems, device_problems, distinct, remarks
from tune_bn.analysis.monitoring import Standing, standing
from tune_bn.analysis.plan import design_of
from tune_bn.errors import listed
from tune_bn.records.files import canonical_json
from tune_bn.records.per_image import is_share_right
from tune_bn.records.plan import WORST, Plan
from tune_bn.records.provenance import OF_A_NETWORK
from tune_bn.records.record import COMPLETED, CONFIRM, DIVERGED, FAILED, Record, fresh_seeds
from tune_bn.records.score import PERCENT

_LONGEST_REASON = 300

__all__ = ["Evidence", "gather", "shortened"]


@dataclass(frozen=True)
class Evidence:
    """Scores, events and problems, in the order of the plan's arms and seeds."""

    scores: Mapping[str, Mapping[int, float]]
    """Arm → seed → score; only scores that could be used."""
    diverged: tuple[str, ...] = ()
    """Keys of runs that diverged and were scored by the plan's rule."""
    retried: tuple[str, ...] = ()
    """Keys of runs that were begun more than once: after an error, or because their worker was lost."""
    imputed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Arm → seeds of the runs that failed for good and have the score that is worst for the claim, by the plan."""
    problems: tuple[str, ...] = ()
    """Every rule that is broken, one sentence each."""
    remarks: tuple[str, ...] = ()
    """What breaks no rule and a reader should know, one sentence each; see :mod:`tune_bn.analysis.circumstances`."""
    standing: Standing | None = None
    """The looks of a group-sequential confirmation; None where there is nothing that could be judged."""


class _Problems:
    """Problems in the order in which they were first met; runs with the same problem share one sentence."""

    def __init__(self) -> None:
        self._runs: dict[str, list[str]] = {}

    def add(self, sentence: str) -> None:
        self._runs.setdefault(sentence, [])

    def add_run(self, what: str, key: str) -> None:
        self._runs.setdefault(what, []).append(key)

    @property
    def any(self) -> bool:
        return bool(self._runs)

    def sentences(self) -> tuple[str, ...]:
        return tuple(f"{what}: {listed(runs)}" if runs else what for what, runs in self._runs.items())


def gather(plan: Plan, records: Sequence[Record]) -> Evidence:
    """Check the records against the plan, which must be of sound structure, and take the score of each run."""
    problems = _Problems()
    for sentence in _seed_problems(plan, records):
        problems.add(sentence)
    confirm = [record for record in records if record.stage == CONFIRM]
    scored: dict[tuple[str, int], Record] = {}
    failed: dict[tuple[str, int], Record] = {}
    scores: dict[str, dict[int, float]] = {arm.arm: {} for arm in plan.arms}
    for record in records:
        if record.stage != CONFIRM and plan.metric != plan.score.validation and plan.metric in record.scores:
            problems.add_run(f"the test score {plan.metric!r} was known before the confirmation", record.key)
    for record in confirm:
        for problem in _identity_problems(plan, record):
            problems.add_run(problem, record.key)
        if record.arm not in scores or record.seed not in plan.seeds:
            continue
        place = (record.arm, record.seed)
        if place in scored:
            problems.add_run("a run was repeated although it had a score", record.key)
        elif record.status == FAILED:
            failed.setdefault(place, record)
        elif record.status not in (COMPLETED, DIVERGED):
            problems.add_run(f"a confirmation run was stopped early (status {record.status!r})", record.key)
        else:
            scored[place] = record
            refusal = _score_problem(plan, record)
            if refusal is None:
                scores[record.arm][record.seed] = float(record.scores[plan.metric])
            else:
                problems.add_run(refusal, record.key)
    imputed = _impute(plan, scores, scored, failed)
    # A run whose score cannot be used was made all the same; its own sentence says what is wrong with it.
    held = None if problems.any else standing(plan, scores)
    for sentence in _missing_problems(plan, {*scored, *imputed}, held, failed):
        problems.add(sentence)
    if held is not None:
        for sentence in _look_problems(plan, confirm, scored, held):
            problems.add(sentence)
    for sentence in [*_mixture_problems(plan, list(scored.values())), *data_problems(plan, records, scored)]:
        problems.add(sentence)
    for sentence in device_problems(plan, scored):
        problems.add(sentence)
    told = list(remarks(plan, records, scored))
    if imputed:
        keys = [failed[place].key for place in imputed]
        told.append(
            f"{listed(keys)} failed for good and count by the plan with the score that is worst for the claim, so the "
            f"effect of these arms is a bound, and no loss of them is shown; the first raised: "
            f"{shortened(failed[imputed[0]].reason)}"
        )
    again = [place for place in scored if place in failed or _began_again(scored[place])]
    if again:
        told.append(
            f"begun more than once, after an error or since their worker was lost, with the same seed: "
            f"{listed([_tries(scored[place], failed.get(place)) for place in again])}"
        )
    planned = [(arm, seed) for arm in scores for seed in plan.seeds if (arm, seed) in scored]
    return Evidence(
        scores={arm: {seed: got[seed] for seed in plan.seeds if seed in got} for arm, got in scores.items()},
        diverged=tuple(scored[place].key for place in planned if scored[place].status == DIVERGED),
        retried=tuple(scored[place].key for place in planned if place in again),
        imputed={arm: tuple(seed for name, seed in imputed if name == arm) for arm in dict(imputed)},
        problems=problems.sentences(),
        remarks=tuple(told),
        standing=held,
    )


def _impute(
    plan: Plan,
    scores: Mapping[str, dict[int, float]],
    scored: Mapping[tuple[str, int], Record],
    failed: Mapping[tuple[str, int], Record],
) -> list[tuple[str, int]]:
    """Give every planned run that failed for good the score that is worst for the claim, where the plan says so.

    For a candidate that is the worse end of the score's range, for a baseline the better one: a failure must help no
    claim, whoever failed.
    """
    score = plan.score
    if plan.failed != WORST or score.low is None or score.high is None:
        return []
    baselines = {arm.arm for arm in plan.every_tuning}
    ends = sorted((score.low, score.high), key=score.objective)
    found = [place for place in failed if place not in scored]
    for arm, seed in found:
        scores[arm][seed] = ends[1] if arm in baselines else ends[0]
    return found


def _tries(record: Record, failed: Record | None) -> str:
    """A run that was begun again, with its last error where it is known."""
    return record.key if failed is None else f"{record.key} ({shortened(failed.reason)})"


def _began_again(record: Record) -> bool:
    return type(record.attempts) is int and record.attempts > 1


def _missing_problems(
    plan: Plan,
    scored: Container[tuple[str, int]],
    held: Standing | None,
    failed: Mapping[tuple[str, int], Record],
) -> list[str]:
    """Which runs the plan asks for that there are not. Before a first look every planned design asks for its pairs."""
    reasons: dict[str, list[str]] = {}
    for (name, seed), record in failed.items():
        if (name, seed) not in scored:
            reasons.setdefault(name, []).append(record.reason)
    found, rule = [], design_of(plan)
    first = len(plan.seeds) if rule is None else rule.looks[0]
    for arm in plan.arms:
        needed = first if held is None else held.needed[arm.arm]
        missing = [seed for seed in plan.seeds[:needed] if (arm.arm, seed) not in scored]
        if missing:
            until = "" if rule is None else f" of the look at {needed} pairs"
            found.append(
                f"{arm.arm} has no finished run for seed {listed(missing)}{until}, so the arms are not paired"
                + _raised_words(reasons.get(arm.arm, ()))
            )
    return found


def _raised_words(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    what = "1 of its runs raised" if len(reasons) == 1 else f"{len(reasons)} of its runs raised, the first"
    return f"; {what}: {shortened(reasons[0])}; --resume tries again"


def shortened(reason: str) -> str:
    """The beginning of a reason, which may be a long message of a library."""
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"


def _look_problems(
    plan: Plan,
    confirm: Sequence[Record],
    scored: Mapping[tuple[str, int], Record],
    held: Standing,
) -> list[str]:
    """Looks that the plan does not have: runs beyond the look that ended an arm, or before their turn."""
    rule, seeds = design_of(plan), plan.seeds
    if rule is None or held.problem is not None:
        return []
    found = []
    for arm, needed in held.needed.items():
        beyond = [seed for seed in seeds[needed:] if (arm, seed) in scored]
        if beyond:
            after = "that ended it" if held.finished else "that is not held yet"
            found.append(
                f"a look was taken outside the plan: {arm} ran on seed {listed(beyond)} beyond the look at {needed} "
                f"pairs {after}"
            )
    place = {seed: index for index, seed in enumerate(seeds)}
    ran: set[tuple[str, int]] = set()
    early = []
    for record in confirm:
        if (record.arm, record.seed) not in scored or record.status == FAILED:
            continue
        before = max((n for n in rule.looks if n <= place[record.seed]), default=0)
        due = [arm for arm, needed in held.needed.items() if needed >= before]
        if any((arm, seed) not in ran for arm in due for seed in seeds[:before]):
            early.append(record.key)
        ran.add((record.arm, record.seed))
    if early:
        found.append(
            f"a look was taken outside the plan: runs ended before all pairs of the look before them: {listed(early)}"
        )
    return found


def _seed_problems(plan: Plan, records: Sequence[Record]) -> list[str]:
    seeds = plan.seeds
    found = []
    if len(set(seeds)) < 2:
        found.append(f"the plan has fewer than two different seeds ({list(seeds)})")
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        found.append(f"the plan names seed {listed(twice)} more than once")
    used = {stage: set(earlier) for stage, earlier in plan.used_seeds.items()}
    for record in records:
        if record.stage != CONFIRM:
            used.setdefault(record.stage, set()).add(record.seed)
    for stage, earlier in used.items():
        overlap = sorted(earlier.intersection(seeds))
        if overlap:
            taken = {*seeds}.union(*used.values())
            found.append(
                f"confirmation seed {listed(overlap)} was already used in {stage}; fresh seeds are needed, in a new "
                f"study with seeds.confirm={fresh_seeds(len(set(seeds)), taken)} for example"
            )
    return found


def _identity_problems(plan: Plan, record: Record) -> list[str]:
    """Is this the run of a planned arm and seed, in this study, under this plan?"""
    found = []
    arm = next((arm for arm in plan.arms if arm.arm == record.arm), None)
    if arm is None:
        found.append(f"the plan has no arm {record.arm!r}")
    elif record.trial != arm.trial or record.config != arm.config:
        found.append(f"the configuration differs from the plan's {record.arm}")
    if record.seed not in plan.seeds:
        found.append("a confirmation run has a seed that the plan does not name")
    for name in ("study", "space_sha256", "plan_sha256"):
        if getattr(record, name) != getattr(plan, name):
            found.append(f"{name} differs from the plan's")
    return found


def _score_problem(plan: Plan, record: Record) -> str | None:
    """Why a finished run gives no score that can be used."""
    metric, declared = plan.metric, plan.score
    if record.status == COMPLETED and not (type(record.epochs) is int and record.epochs == record.epochs_planned > 0):
        return "a confirmation run is not of full length"
    if record.status == DIVERGED and declared.diverged is None:
        return f"a run diverged, and the plan declares no score for that ({metric!r} has no worst value)"
    if metric not in record.scores:
        return f"the score {metric!r} is missing"
    score = record.scores[metric]
    if not declared.holds(score):
        return f"the score {metric!r} is not {declared.range_words}"
    if record.status == DIVERGED and score != declared.diverged:
        return f"a diverged run does not have the score {declared.diverged:g} that the plan declares"
    if record.status == COMPLETED and declared.unit == PERCENT and is_share_right(score, record.test) is False:
        return f"the score {metric!r} is another than that of the images that its record counts as right"
    return None


def _mixture_problems(plan: Plan, scored: Sequence[Record]) -> list[str]:
    """Runs that are compared must come from the same code, the same libraries and the same length of training."""
    found = []
    configs = plan.configs
    for name in sorted({str(name) for record in scored for name in record.versions}):
        by_network: dict[str | None, list[Any]] = {}
        for record in scored:
            # Arms may differ in the source of their network only where the network is part of their configuration.
            arch = canonical_json(configs[record.arm].get("arch")) if name in OF_A_NETWORK else None
            by_network.setdefault(arch, []).append(record.versions.get(name))
        for versions in map(distinct, by_network.values()):
            if len(versions) > 1:
                found.append(f"the confirmation runs mix versions of {name} ({listed(versions)})")
    commits = distinct(record.commit for record in scored)
    if len(commits) > 1:
        found.append(f"the confirmation runs mix commits ({listed(commits)})")
    lengths: dict[str, list[Any]] = {}
    for record in scored:
        # Arms may differ in length only where the number of epochs is part of their configuration.
        lengths.setdefault(canonical_json(configs[record.arm].get("epochs")), []).append(record.epochs_planned)
    for planned in map(distinct, lengths.values()):
        if len(planned) > 1:
            found.append(f"the confirmation runs mix numbers of planned epochs ({listed(planned)})")
    return found
