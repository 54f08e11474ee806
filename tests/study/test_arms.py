"""Studies without a search: arms that the space states are confirmed as they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.study.local_studies import CONTENT, Follower, essence, study_in, tiny_dataset
from tune_bn.analysis.plan import read_plan
from tune_bn.analysis.verdict import verify_study
from tune_bn.cli.validate import describe, planned
from tune_bn.data.dataset import Dataset, load_dataset
from tune_bn.errors import Interrupted, SpecError
from tune_bn.records.ledger import spent_level
from tune_bn.records.record import BASELINE, CONFIRM
from tune_bn.space.loading import load_space, parse_space
from tune_bn.space.locate import find_space
from tune_bn.space.space import Space


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return tiny_dataset()


ARMS: dict[str, Any] = {"ours": {"gamma": 0.1, "c": 100}, "lr-only": {"c": 100}}


def space_with(**claim: Any) -> Space:
    content = {key: value for key, value in CONTENT.items() if key != "search"}
    return parse_space({**content, "claim": {"baseline": {"norm": "base"}, "arms": ARMS, **claim}}, "arms")


def refusal(**claim: Any) -> str:
    with pytest.raises(SpecError) as caught:
        space_with(**claim)
    return str(caught.value)


def test_every_arm_is_confirmed_on_every_seed_and_nothing_else_is_run(dataset: Dataset, tmp_path: Path) -> None:
    follower = Follower()
    study = study_in(tmp_path / "arms-1", dataset, space_with(), follower)
    study.run()
    assert Counter((record.stage, record.arm) for record in study.folder.records) == {
        (CONFIRM, BASELINE): 3,
        (CONFIRM, "ours"): 3,
        (CONFIRM, "lr-only"): 3,
    }
    assert follower.stages == [(CONFIRM, 9, 0)]
    verdict = verify_study(study.folder.path)
    assert [arm["arm"] for arm in verdict["candidates"]] == ["ours", "lr-only"]
    assert verdict["candidates"][1]["config"] == {"gamma": 1.0, "c": 100.0}
    assert verdict["baseline"]["config"] == {"norm": "base", "gamma": 1.0, "c": 1.0}
    assert verdict["verdict"] in ("supported", "not_supported")
    assert planned(study.space).runs == 9


def test_each_claim_on_the_same_test_data_is_locked_at_its_part_of_the_budget(dataset: Dataset, tmp_path: Path) -> None:
    """By the ledger of the folder; and where each seed draws its split, both arms of a pair share it."""
    levels = []
    for name in ("one", "two"):
        study = study_in(tmp_path / "studies" / name, dataset, space_with(alpha_spending="budget"))
        study.run()
        verdict = verify_study(study.folder.path)
        assert verdict["verdict"] in ("supported", "not_supported"), verdict["problems"]
        levels.append(verdict["alpha"])
    assert levels == [spent_level(0.05, 1), spent_level(0.05, 2)]
    assert any(
        "this is claim 2 on the same test images in this folder (before it: one)" in r for r in verdict["remarks"]
    )
    drawn = space_with().model_copy(update={"data": replace(space_with().data, split="per_seed")})
    study = study_in(tmp_path / "drawn", load_dataset(drawn.data), drawn)
    study.run()
    splits: dict[int, set[str]] = {}
    for record in study.folder.records:
        splits.setdefault(record.seed, set()).add(record.environment["split"])
    assert [len(found) for found in splits.values()] == [1, 1, 1]
    assert len(set.union(*splits.values())) == 3
    verdict = verify_study(study.folder.path)
    assert verdict["verdict"] in ("supported", "not_supported"), verdict["problems"]
    assert "captured by the test: the split into training and validation images" in verdict["covers"]
    assert read_plan(study.folder.plan_file).data["pool"]["count"] == 1757


def test_an_interrupted_study_of_arms_goes_on(dataset: Dataset, tmp_path: Path) -> None:
    whole = study_in(tmp_path / "whole", dataset, space_with())
    whole.run()
    with pytest.raises(Interrupted):
        study_in(tmp_path / "torn", dataset, space_with(), Follower(stop_after=4)).run()
    torn = study_in(tmp_path / "torn", dataset, space_with())
    assert len(essence(torn)) == 4
    torn.run()
    assert essence(torn) == essence(whole)


def test_a_search_alone_leaves_arms_alone(dataset: Dataset, tmp_path: Path) -> None:
    study = study_in(tmp_path / "arms-1", dataset, space_with())
    study.search()
    assert not study.folder.plan_file.exists()
    assert not list(study.folder.records)


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ({"baseline": {"c": 2}}, "claim.arms: got 'baseline'; accepted: a name of up to 40"),
        ({"a/b": {"c": 2}}, "claim.arms: got 'a/b'"),
        ({"": {"c": 2}}, "claim.arms: got ''"),
        ({"x": {"gama": 0.1}}, "claim.arms.x.gama: got 0.1; accepted: gamma (did you mean it?)"),
        ({"x": {"gamma": 2}}, "claim.arms.x.gamma: got 2.0; accepted: a number in (0, 1]"),
        ({"x": {"norm": "base", "c": 5}}, "claim.arms.x.c: got 5.0; accepted: 1 with norm: base"),
        ({"x": {"norm": "base"}}, "claim.arms.x: got {'norm': 'base'}; accepted: a configuration of its own; this one"),
        ({"x": {"c": 2}, "y": {"c": 2.0}}, "this one is x's"),
        ({"x": {"unit_gate": True}}, "claim.arms.x.unit_gate: got True; accepted: false with norm: scaled"),
        ([], "claim.arms: got []; accepted: a mapping from names"),
    ],
)
def test_an_arm_that_cannot_be_run_is_refused_at_the_door(arms: Any, words: str) -> None:
    assert words in refusal(arms=arms)


def test_arms_and_a_search_exclude_each_other() -> None:
    with pytest.raises(SpecError, match=r"claim\.arms: got \['ours'\]; accepted: no arms in a space that searches"):
        parse_space({**CONTENT, "claim": {"arms": {"ours": {"gamma": 0.1}}}}, "x")


def test_the_order_of_arms_is_part_of_no_hash_but_their_content_is() -> None:
    assert space_with().sha256 == space_with(arms=dict(reversed(ARMS.items()))).sha256
    assert space_with().sha256 != space_with(arms={"ours": ARMS["ours"]}).sha256
    assert space_with().sha256 == space_with(arms={**ARMS, "lr-only": {"c": 100.0, "gamma": 1}}).sha256


def test_the_embedded_table_of_methods_has_every_row_of_the_paper_and_the_controls() -> None:
    space = load_space(find_space("digits_methods.yaml"))
    norms = {space.run_config(space.arm_config(name)).model.norm for name in space.claim.arms}
    assert norms | {space.claim.baseline["norm"]} == {"base", "scaled", "rbn", "rbn_star", "iebn", "iebn_star"}
    assert len(space.seeds.confirm) == 15
    assert "13 arms (ours, rbn, rbn_star" in describe(space, Path("digits_methods.yaml"))
