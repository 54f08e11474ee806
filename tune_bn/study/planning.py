"""The plan of a study: which arms are confirmed, in which settings, on which seeds, by which test and stopping rule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from tune_bn.analysis.plan import plan_problem, read_plan, sealed
from tune_bn.analysis.sequential import design
from tune_bn.errors import StudyError
from tune_bn.protocols.observer import StudyInfo
from tune_bn.records.files import write_json, writing
from tune_bn.records.ledger import earlier_claims, enter_claim, entering, key_of, spending, spent_level
from tune_bn.records.plan import SCHEMA_VERSION, EarlierClaim, Plan, PlannedArm, PlannedCandidate
from tune_bn.records.record import BASELINE, CANDIDATE, CONFIRM
from tune_bn.records.times import utc_now
from tune_bn.space.space import Space
from tune_bn.study.continuity import device_kind, require_same_code
from tune_bn.study.folder import StudyFolder
from tune_bn.study.selection import Selection


def locked_plan(
    folder: StudyFolder,
    space: Space,
    info: StudyInfo,
    selection: Selection,
    changes: Callable[[], bytes] | None = None,
) -> Plan:
    """The plan of the study; made and locked where there is none yet, with the hash of ``code.diff`` beside it.

    Args:
        changes: gives what the code differs by from its commit.

    Raises:
        RecordError, StudyError: the plan was changed, belongs to another space, was locked under other code, or is
            missing although runs were made under it.
    """
    if folder.plan_file.exists():
        plan = read_plan(folder.plan_file)
        problem = plan_problem(plan)
        if problem is None and plan.space_sha256 != space.sha256:
            problem = "space_sha256: it was made for another space"
        if problem is not None:
            raise StudyError(f"{folder.plan_file}: {problem}; accepted: the plan as it was locked")
        require_same_code(folder, plan, info.versions, info.commit)
        return plan
    if any(record.stage == CONFIRM for record in selection.recorder.records):
        raise StudyError(f"{folder.plan_file}: missing, with confirmation runs made under it; accepted: that plan")
    arms = _in_settings(space, _stated_arms(space) if space.claim.arms else _selected_arms(selection))
    diff = b"" if changes is None else changes()
    with writing(folder.code_diff):
        if diff:
            folder.code_diff.write_bytes(diff)
        else:
            folder.code_diff.unlink(missing_ok=True)
    with entering(folder.path.parent, info.data):
        made = _made(space, info, arms, earlier_claims(folder.path.parent, info.data))
        plan = sealed(replace(made, code_diff=hashlib.sha256(diff).hexdigest() if diff else None))
        with writing(folder.plan_file):
            write_json(folder.plan_file, plan.to_json())
            folder.plan_file.chmod(folder.plan_file.stat().st_mode & 0o444)
        enter_claim(folder.path.parent, plan)
    return plan


@dataclass(frozen=True)
class _Arms:
    """What is confirmed, in a setting or in all of them."""

    baselines: Sequence[PlannedArm]
    rivals: Sequence[PlannedArm]
    candidates: Sequence[PlannedCandidate]


def _made(space: Space, info: StudyInfo, arms: _Arms, earlier: Sequence[EarlierClaim]) -> Plan:
    """The plan before it is sealed; ``earlier`` are the claims before it on the same test data."""
    claim, seeds, rule, alpha = space.claim, space.seeds, space.design, space.claim.alpha
    spends = claim.alpha_spending != "none"
    if spends:
        if key_of(info.data) is None:
            accepted = "none, since it is not known which test data the runs read"
            raise StudyError(f"claim.alpha_spending: got {claim.alpha_spending!r}; accepted: {accepted}")
        alpha = spent_level(claim.alpha, len(earlier) + 1)
        rule = None if rule is None else design(rule.looks, alpha, futility=claim.futility)
    stated = claim.stated
    return Plan(
        schema_version=SCHEMA_VERSION,
        study=info.name,
        space_sha256=space.sha256,
        created_at=utc_now(),
        baseline=arms.baselines[0],
        baselines=tuple(arms.baselines[1:]),
        rivals=tuple(arms.rivals),
        candidates=tuple(arms.candidates),
        metric=info.score.test,
        score=info.score,
        test="paired_t_greater",
        # A plan that claims a gain of whatever size says no more than it always did.
        kind=None if stated.is_plain else stated.kind,
        margin=None if stated.is_plain else stated.margin,
        alpha=alpha,
        alpha_spending=spending(claim.alpha, earlier) if spends else None,
        # One comparison has nothing to be corrected for.
        correction="none" if claim.holds == "all" else claim.correction if len(arms.candidates) > 1 else "holm",
        holds=None if claim.holds == "any" else claim.holds,
        failed=None if claim.failed == "invalid" else claim.failed,
        stopping=claim.stopping,
        design=None if rule is None else asdict(rule),
        seeds=tuple(seeds.confirm),
        used_seeds=_used_seeds(space),
        commit=info.commit,
        versions=dict(info.versions),
        data=dict(info.data),
        device_kind=device_kind(space),
        earlier_claims=tuple(earlier),
        plan_sha256="",
    )


def _used_seeds(space: Space) -> dict[str, list[int]]:
    """The seeds by which the candidates came about."""
    seeds = space.seeds
    used = {} if space.claim.arms else {"search": seeds.search, "select": seeds.select}
    return used | ({"earlier": seeds.earlier} if seeds.earlier else {})


def _stated_arms(space: Space) -> _Arms:
    """Baseline and candidates as the space states them."""
    arms = [PlannedCandidate(name, None, space.arm_config(name)) for name in space.claim.arms]
    return _Arms([PlannedArm(BASELINE, None, space.baseline)], [], arms)


def _selected_arms(selection: Selection) -> _Arms:
    """Baseline and candidates as the selection ranks them; the baseline is tuned where anything is.

    A candidate owes a part of its score to what was tuned for it. So that it is no better for having been tuned more
    luckily, it meets whichever of the baseline's finalists the race could not tell from the best, and the baseline
    at its own nuisance values: where γ and c do nothing, that one has the same expected score.
    """
    space, ranked = selection.space, selection.ranked()
    tuned = [
        PlannedArm(f"{BASELINE}-{place}" if place > 1 else BASELINE, finalist.trial, dict(finalist.overrides), scores)
        for place, (finalist, scores) in enumerate(ranked.get(BASELINE, ()), start=1)
    ] or [PlannedArm(BASELINE, None, space.baseline)]
    if space.claim.rivals == "none":
        tuned = tuned[:1]
    met = {arm.arm: space.run_config(arm.config) for arm in tuned}
    finalists, candidates = [arm.arm for arm in tuned[1:]], list[PlannedCandidate]()
    for place, (finalist, scores) in enumerate(ranked[CANDIDATE][: space.claim.candidates], start=1):
        name, rivals = f"{CANDIDATE}-{place}", list(finalists)
        if BASELINE in ranked and space.claim.rivals != "none":
            own = PlannedArm(f"{BASELINE}-at-{name}", None, space.at_tuning_of(finalist.overrides))
            config = space.run_config(own.config)
            same = next((arm for arm, other in met.items() if other == config), None)
            if same is None:
                same, met[own.arm] = own.arm, config
                tuned.append(own)
            if same != BASELINE and same not in rivals:
                rivals.append(same)
        candidates.append(
            PlannedCandidate(name, finalist.trial, dict(finalist.overrides), scores, rivals=tuple(rivals))
        )
    return _Arms(tuned[:1], tuned[1:], candidates)


Arm = TypeVar("Arm", bound=PlannedArm)


def _in_settings(space: Space, arms: _Arms) -> _Arms:
    """Every arm in every setting of the claim, named ``ARM.SETTING``, each candidate against its setting's baseline."""
    if not space.claim.across:
        return arms

    def within(arm: Arm, setting: str, overrides: Mapping[str, Any]) -> Arm:
        return replace(arm, arm=f"{arm.arm}.{setting}", config=space.normalized({**arm.config, **overrides}))

    baselines, rivals, candidates = list[PlannedArm](), list[PlannedArm](), list[PlannedCandidate]()
    for setting, overrides in space.claim.across.items():
        baselines += [within(arm, setting, overrides) for arm in arms.baselines]
        rivals += [within(arm, setting, overrides) for arm in arms.rivals]
        candidates += [
            replace(
                within(arm, setting, overrides),
                against=f"{BASELINE}.{setting}",
                rivals=tuple(f"{name}.{setting}" for name in arm.rivals),
            )
            for arm in arms.candidates
        ]
    return _Arms(baselines, rivals, candidates)
