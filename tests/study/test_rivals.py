"""Where nuisance parameters are tuned, a candidate meets every tuning of the baseline that may be its best."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.study.local_studies import CONTENT
from tests.study.scripted_runner import scripted_study
from tune_bn.analysis.plan import read_plan
from tune_bn.analysis.verdict import write_verdict
from tune_bn.cli.validate import planned
from tune_bn.errors import SpecError
from tune_bn.protocols.runner import Task
from tune_bn.records.plan import Plan
from tune_bn.records.record import BASELINE
from tune_bn.report import write_report
from tune_bn.report.paperkit import write_paperkit
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.study import Study

LR = {"log_uniform": [0.01, 1.0]}


def space_with(search: dict[str, Any], **sections: Any) -> Space:
    content = {**CONTENT, "search": search, "seeds": {"search": [101], "select": [201, 202], "confirm": [1, 2, 3, 4]}}
    return parse_space({**content, "budget": {"trials": 12, "finalists": 2, "race_error": None}, **sections}, "tiny")


def score(task: Task, seed: int) -> float:
    """The learning rate is all that matters, the best of the candidates another; with noise of a run's own."""
    lr = float(task.overrides.get("lr", 0.1))
    best = 0.1 if task.arm.startswith(BASELINE) else 0.5
    return 90 - 3 * abs(lr - best) + zlib.crc32(f"{task.arm} {lr} {seed}".encode()) % 1000 / 2000


def confirmed(folder: Path, space: Space) -> tuple[Study, Plan]:
    study, _ = scripted_study(folder, space, score)
    study.run()
    return study, read_plan(study.folder.plan_file)


def test_the_finalists_of_the_baseline_and_the_baseline_at_the_candidate_s_own_values(tmp_path: Path) -> None:
    space = space_with({"gamma": {"log_uniform": [0.05, 0.9]}, "lr": LR})
    study, plan = confirmed(tmp_path / "tiny-1", space)
    (candidate,) = plan.candidates
    assert candidate.opponents == ("baseline", "baseline-2", "baseline-at-candidate-1")
    by_name = {arm.arm: arm for arm in plan.rivals}
    own = by_name["baseline-at-candidate-1"]
    assert own.config == {**space.baseline, "lr": candidate.config["lr"]}
    assert own.trial is None
    # The order of the selection.
    means = [arm.selection["val_accuracy_mean"] for arm in (plan.baseline, *plan.rivals) if arm.selection is not None]
    assert means == sorted(means, reverse=True)
    assert len(means) == 2
    assert len([r for r in study.folder.records if r.stage == "confirm"]) == 4 * 4 == planned(space).confirm
    verdict = write_verdict(study.folder.path)
    assert verdict["problems"] == []
    assert "each of 3 tunings of the baseline" in verdict["covers"]
    write_report(study.folder.path)
    write_paperkit(study.folder.path, tmp_path / "kit")
    assert "tested against 3 tunings of the baseline" in (tmp_path / "kit" / "methods.md").read_text(encoding="utf-8")
    assert "baseline-at-candidate-1" in (tmp_path / "kit" / "table.tex").read_text(encoding="utf-8")
    page = study.folder.path.joinpath("report.md").read_text(encoding="utf-8")
    assert [name for name in candidate.opponents if f"| candidate-1 | {name} |" in page.replace("**", "")] == list(
        candidate.opponents
    )


def test_one_that_has_the_configuration_of_another_is_run_once(tmp_path: Path) -> None:
    """Of two learning rates the baseline tries both, and the candidate has one of them."""
    space = space_with({"gamma": {"log_uniform": [0.05, 0.9]}, "lr": {"choice": [0.1, 0.05]}})
    _, plan = confirmed(tmp_path / "tiny-1", space)
    assert [arm.arm for arm in plan.rivals] == ["baseline-2"]
    assert plan.candidates[0].rivals == ("baseline-2",)
    assert space.most_rivals == 1


def test_candidates_meet_the_finalists_and_their_own(tmp_path: Path) -> None:
    space = space_with({"gamma": {"log_uniform": [0.05, 0.9]}, "lr": LR}, claim={"candidates": 2})
    _, plan = confirmed(tmp_path / "tiny-1", space)
    assert [arm.rivals[-1] for arm in plan.candidates] == ["baseline-at-candidate-1", "baseline-at-candidate-2"]
    assert all(len(arm.rivals) == 2 for arm in plan.candidates)


def test_each_setting_has_rivals_of_its_own(tmp_path: Path) -> None:
    across = {"small": {"batch_size": 20}, "large": {"batch_size": 40}}
    for claim in ({"across": across}, {"across": across, "holds": "all"}):
        space = space_with({"gamma": {"log_uniform": [0.05, 0.9]}, "lr": LR}, claim=claim)
        study, plan = confirmed(tmp_path / f"tiny-{len(claim)}", space)
        assert {name.partition(".")[2] for arm in plan.candidates for name in arm.opponents} == {"small", "large"}
        assert all(name.endswith(arm.arm.partition(".")[2]) for arm in plan.candidates for name in arm.opponents)
        assert write_verdict(study.folder.path)["problems"] == []
        write_report(study.folder.path)


@pytest.mark.parametrize(
    ("search", "claim"), [({"gamma": {"log_uniform": [0.05, 0.9]}}, {}), ({"lr": LR, "c": LR}, {"rivals": "none"})]
)
def test_there_are_none_without_nuisance_parameters_or_where_none_are_wanted(
    tmp_path: Path, search: dict[str, Any], claim: dict[str, Any]
) -> None:
    space = space_with(search, claim=claim)
    _, plan = confirmed(tmp_path / "tiny-1", space)
    assert (plan.rivals, plan.candidates[0].rivals, space.most_rivals) == ((), (), 0)


def test_what_does_not_go_with_them_is_refused_at_the_door() -> None:
    search = {"gamma": {"log_uniform": [0.05, 0.9]}, "lr": LR}
    seeds = {"search": [101], "select": [201, 202], "confirm": [1, 2, 3, 4, 5]}
    with pytest.raises(SpecError, match=re.escape("claim.rivals: got 'all'; accepted: none, beside correction: max_t")):
        space_with(search, claim={"candidates": 2, "correction": "max_t"}, seeds=seeds)
    across = {"small": {"batch_size": 20}, "large": {"batch_size": 40}}
    with pytest.raises(SpecError, match=re.escape("claim.rivals: got 'all'; accepted: none, beside holds: pooled")):
        space_with(search, claim={"across": across, "holds": "pooled"})
    space_with(search, claim={"candidates": 2, "correction": "max_t", "rivals": "none"}, seeds=seeds)


def test_the_baseline_s_few_parameters_are_proposed_by_a_gaussian_process() -> None:
    search = {"gamma": {"log_uniform": [0.05, 0.9]}, "lr": LR}
    for sampler, own in (({}, "gp"), ({"name": "random"}, "random"), ({"baseline": "tpe"}, "tpe")):
        space = space_with(search, sampler={"points": "none", **sampler})
        assert space.sampler_of(BASELINE) == own
        assert space.sampler_of("candidate") == space.sampler.name
    for sampler in ({"baseline": "grid"}, {"name": "grid", "baseline": "tpe"}):
        with pytest.raises(SpecError, match=re.escape("sampler.baseline")):
            space_with(search, sampler=sampler)
    with pytest.raises(SpecError, match=re.escape("sampler.baseline: got 'nobody'")):
        space_with(search, sampler={"baseline": "nobody"})
