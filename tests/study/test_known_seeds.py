"""The remark on confirmation seeds on which another study has the same baseline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.study.test_warm_start import CONTENT, PLAN
from tune_bn.analysis.plan import seal
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.known_seeds import NAMED, remark

SEEDS = {"search": [101], "select": [201], "confirm": {"from": 1, "to": 15}}


def space_with(**sections: Any) -> Space:
    return parse_space({**CONTENT, "seeds": SEEDS, **sections}, "new.yaml")


def confirmed(path: Path, **sections: Any) -> StudyFolder:
    space = space_with(**sections)
    folder = StudyFolder(path).created(space)
    plan = {**PLAN, "space_sha256": space.sha256, "seeds": space.seeds.confirm}
    folder.plan_file.write_text(json.dumps(seal(plan)))
    return folder


def test_a_study_of_the_same_space_is_named_with_its_seeds_and_fresh_ones(tmp_path: Path) -> None:
    other = confirmed(tmp_path / "small-1")
    assert remark(space_with(), [other]) == (
        "remark: small-1 confirms the same baseline on the seeds 1–15 of seeds.confirm: its runs will be the same, so "
        "the verdicts are not independent, and whoever has read one knows the seeds of the other; fresh ones: --set "
        "'seeds.confirm={from: 16, to: 30}'"
    )


@pytest.mark.parametrize(
    ("sections", "same"),
    [
        ({"search": {"gamma": {"uniform": [0.1, 0.5]}}}, True),
        ({"sampler": {"seed": 7}, "claim": {"alpha": 0.01}}, True),
        ({"seeds": {"search": [5], "select": [6], "confirm": [15, 16]}}, True),
        ({"seeds": {"search": [5], "select": [6], "confirm": [16, 17]}}, False),
        ({"train": {"epochs": 7}}, False),
        ({"data": {"source": "digits", "train_size": 50}}, False),
        ({"model": {"arch": "resnet20"}}, False),
        ({"claim": {"baseline": {"gamma": 0.5, "c": 1}}}, False),
    ],
)
def test_only_a_baseline_that_is_the_same_run_is_remarked(tmp_path: Path, sections: Any, same: bool) -> None:
    other = confirmed(tmp_path / "small-1", **sections)
    assert (remark(space_with(), [other]) is not None) == same


def test_studies_that_were_not_planned_or_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    unplanned = StudyFolder(tmp_path / "a").created(space_with())
    spoilt = confirmed(tmp_path / "b")
    spoilt.plan_file.write_text("{")
    unreadable = confirmed(tmp_path / "c", sampler={"seed": 3})
    unreadable.space_file.write_text("name: [")
    assert remark(space_with(), [unplanned, spoilt, unreadable]) is None
    assert remark(space_with(), []) is None


def test_of_many_studies_the_latest_are_named(tmp_path: Path) -> None:
    others = [confirmed(tmp_path / f"small-{n}") for n in range(1, NAMED + 3)]
    said = remark(space_with(), others)
    assert said is not None
    assert said.startswith("remark: small-5, small-4, small-3 and 2 more confirm the same baseline on the seeds 1–15 ")
