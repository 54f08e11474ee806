"""A claim that was really trained, bundled, and trained anew on other seeds: what is said of it, by the stated rule."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.study.local_studies import CONTENT, study_in, tiny_dataset
from tune_bn.analysis.bundles import replication, verify_bundle
from tune_bn.analysis.plan import read_plan
from tune_bn.analysis.verdict import write_verdict
from tune_bn.cli.bundles import require_same_space, verdict_on_bundle
from tune_bn.cli.proof import _space_of
from tune_bn.errors import StudyError
from tune_bn.records.bundle import unpacked, write_bundle
from tune_bn.records.ledger import spent_level
from tune_bn.records.verdict import verdict_from
from tune_bn.space.file import dump_yaml, parse_yaml
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.continuity import code_changes

CLAIM: dict[str, Any] = {
    # At so small a rate nothing is learnt in two epochs, so that a claim can be shown by few seeds.
    "baseline": {"lr": 1e-5},
    "arms": {"ours": {"lr": 0.1}},
    "alpha": 0.1,
    "alpha_spending": "budget",
}


def judged(folder: Path, space: Space) -> dict[str, Any]:
    study = study_in(folder, tiny_dataset(), space)
    study.run()
    return write_verdict(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("claims") / "one"
    content = {key: value for key, value in CONTENT.items() if key != "search"}
    content["seeds"] = {"search": [101], "select": [201], "confirm": [1, 2, 3, 4, 5]}
    verdict = judged(folder, parse_space(content | {"train": {"epochs": 3, "batch_size": 10}, "claim": CLAIM}, "one"))
    assert verdict["verdict"] == "supported", verdict["reason"]
    out = folder.parent / "out.zip"
    write_bundle(folder, out, {})
    return out


def test_the_claim_is_tested_again_at_its_level_and_replicated(bundle: Path, tmp_path: Path) -> None:
    before = verify_bundle(bundle)
    space = _space_of(bundle, before, [301, 302, 303, 304], [])
    after = judged(tmp_path / "again", space)
    plan = read_plan(tmp_path / "again" / "plan.json").to_json()
    assert plan["seeds"] == [301, 302, 303, 304]
    assert plan["alpha"] == pytest.approx(spent_level(0.1, 1))
    assert "alpha_spending" not in plan
    assert after["space_sha256"] != before.space_sha256
    found = replication(before, verdict_from(after))
    assert (found["outcome"], found["candidates"][0]["outcome"]) == ("replicated", "replicated")
    with zipfile.ZipFile(bundle) as archive:
        assert "code.diff" not in archive.namelist(), "nobody told this study of changes"


def test_what_would_be_trained_is_the_space_of_the_plan(bundle: Path, tmp_path: Path) -> None:
    before = verify_bundle(bundle)
    require_same_space(bundle, before)
    assert verdict_on_bundle(bundle).remarks == before.remarks
    with unpacked(bundle) as folder:
        content = parse_yaml(folder / "space.yaml")
        content["train"]["epochs"] = 2
        (folder / "space.yaml").write_text(dump_yaml(content), encoding="utf-8")
        write_bundle(folder, tmp_path / "other.zip", {})
    with pytest.raises(StudyError, match=r"other\.zip: its space\.yaml is not the space that the plan was made for"):
        require_same_space(tmp_path / "other.zip", verify_bundle(tmp_path / "other.zip"))
    assert "is not the space that the plan was made for" in verdict_on_bundle(tmp_path / "other.zip").remarks[-1]


def test_other_code_than_the_claim_s_is_named(bundle: Path) -> None:
    with unpacked(bundle) as folder:
        plan = read_plan(folder / "plan.json")
    assert code_changes(plan, plan.versions, plan.commit) == []
    changed = code_changes(plan, {**plan.versions, "torch": "9.9"}, "f00")
    assert changed == [f"commit {plan.commit or 'none'} (now f00)", f"torch {plan.versions.get('torch')} (now 9.9)"]


def test_what_shows_no_gain_any_more_is_not_replicated(bundle: Path, tmp_path: Path) -> None:
    """As where the candidate hardly learns either, under the same plan else."""
    before = verify_bundle(bundle)
    space = _space_of(bundle, before, [301, 302, 303, 304], [])
    arms = {"ours": {**space.claim.arms["ours"], "lr": 1e-3}}
    space = space.model_copy(update={"claim": space.claim.model_copy(update={"arms": arms})})
    after = judged(tmp_path / "again", space)
    found = replication(before, verdict_from(after))
    assert found["outcome"] == "not replicated", (found, after["reason"])
    assert found["candidates"][0]["new_interval"][1] < found["candidates"][0]["interval"][0]
