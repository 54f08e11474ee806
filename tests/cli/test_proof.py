"""The verbs for those who check a claim, as they are typed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tune_bn.analysis.verdict import write_verdict
from tune_bn.space.file import dump_yaml
from tune_bn.space.loading import load_space

pytestmark = pytest.mark.long

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"


@pytest.fixture
def study(synthetic_study, tmp_path):
    """Writes a study of that effect as ``studies/one``."""

    def make(**what):
        folder = synthetic_study(**what).write(tmp_path / "studies" / "one")
        content = load_space(SPACE, ["tracking.uri=http://user:secret@example.org"]).to_dict()
        (folder / "space.yaml").write_text(dump_yaml(content))
        write_verdict(folder)
        return folder

    return make


@pytest.mark.parametrize(("effect", "status"), [(1.25, 0), (0.0, 3), (-1.25, 3)])
def test_gate_answers_programs(study, typed, effect, status):
    study(effect=effect)
    code, out, err = typed("gate", "one", "--require", "supported")
    answer = json.loads(out)
    assert (code, answer["status"], err) == (status, status, "")
    assert answer["passed"] is (status == 0)
    assert answer["reasons"] == ([] if status == 0 else ["the verdict is not_supported"])
    assert answer["candidates"][0]["outcome"] == {1.25: "supported", 0.0: "undecided", -1.25: "worse"}[effect]


def test_gate_on_an_invalid_study_and_bad_input(study, typed):
    folder = study()
    records = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(records[:-1]))
    code, out, _ = typed("gate", "one")
    assert code == 1
    assert "has no finished run for seed" in json.loads(out)["reasons"][0]
    assert typed("gate", "one", "--require", "significant")[0] == 2
    code, _, err = typed("gate", "nothing")
    assert code == 2
    assert err.startswith("error: STUDY: got nothing") or "nothing" in err


def test_gate_on_a_plan_that_cannot_be_read(study, typed):
    (study() / "plan.json").write_text("{")
    code, out, err = typed("gate", "one")
    assert (code, err) == (1, "")
    answer = json.loads(out)
    assert "plan.json" in answer["reasons"][0]
    assert (answer["kind"], answer["candidates"]) == (None, [])


def test_a_bundle_is_verified_and_passes_the_gate(study, typed, tmp_path):
    study(effect=1.25)
    code, out, _ = typed("bundle", "one", "out.zip")
    assert code == 0
    assert "sha256:" in out
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert "environment.json" in archive.namelist()
        assert b"secret" not in archive.read("space.yaml"), "who checks a claim needs no password"
    code, out, _ = typed("verify", "out.zip")
    assert code == 0
    assert out.startswith("verdict: supported\n")
    assert "about:   Factors of variability captured by the test: initialization" in out
    assert "seal:    none: that the plan was there before the runs, " in out
    another = "its space.yaml is not the space that the plan was made for (its hash is "
    assert another in out, "the plan was made up"
    code, out, _ = typed("gate", "out.zip")
    assert code == 0
    assert json.loads(out)["remarks"][-1].startswith(another)
    code, _, err = typed("replicate", "out.zip", "--seeds", "900-904")
    assert code == 2
    assert err.startswith(f"error: out.zip: {another}")
    assert json.loads(typed("verify", "out.zip", "--json")[1])["bundle"]["file"] == "out.zip"
    assert typed("bundle", "one", "out.zip")[0] == 2
    assert typed("bundle", "one", "out.tar")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seeds", "1-3"), "--seeds: got 1; accepted: seeds that the claim has not used, such as 204-206"),
        (("--seeds", "900"), "--seeds: got '900'; accepted: two or more seeds, each once"),
        (("--seeds", "9-3"), "accepted: seeds such as 101-105"),
        (("--seeds", "900-904", "--set", "train.epochs=1"), "--set: got 'train.epochs=1'; accepted: data.root="),
        (("--seeds", "900-904", "--set", "claim.alpha=0.4"), "--set: got 'claim.alpha=0.4'"),
    ],
)
def test_what_is_no_replication_is_refused(study, typed, arguments, said):
    study(effect=1.25)
    typed("bundle", "one", "out.zip")
    code, _, err = typed("replicate", "out.zip", *arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "named", [{"trainer": {"command": "rm -rf ~", "steps": 1}}, {"model": {"arch": "evil.py:Net"}}]
)
def test_a_stranger_s_bundle_runs_no_code_unasked(study, typed, named):
    folder = study(effect=1.25)
    content = load_space(SPACE).to_dict()
    (folder / "space.yaml").write_text(dump_yaml({**content, **named}))
    from tune_bn.records.bundle import write_bundle

    write_bundle(folder, folder.parent.parent / "out.zip", {})
    code, _, err = typed("replicate", "out.zip", "--seeds", "900-904")
    assert code == 2
    assert "its space names code to run" in err
    assert "accepted: --trust" in err


def test_a_claim_that_does_not_hold_is_not_replicated(study, typed):
    study(effect=0.0)
    typed("bundle", "one", "out.zip")
    code, _, err = typed("replicate", "out.zip", "--seeds", "900-904")
    assert code == 2
    assert "its verdict is not_supported; accepted: a bundle whose claim is supported" in err


def test_a_kit_is_written_where_nothing_is(study, typed, tmp_path):
    study(effect=1.25)
    code, out, _ = typed("paperkit", "one", "kit")
    assert code == 0
    assert "kit/table.tex" in out
    assert typed("paperkit", "one", "kit")[0] == 2
    assert (tmp_path / "kit" / "checklist.md").read_text().startswith("# Checklist of ")


TABLE = "arm,seed,score\n" + "".join(
    f"{arm},{seed},{score}\n"
    for seed in range(1, 9)
    for arm, score in (("base", 90 + seed % 3), ("ours", 89.9 + seed % 3 + 0.1 * (seed % 2)))
)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--kind", "noninferior", "--margin", "0.5"), 0, "verdict: supported: noninferior, margin 0.5"),
        (("--kind", "equivalent", "--margin", "0.5"), 0, "is equivalent to base"),
        (("--margin", "0.5"), 0, "verdict: not_supported: superior, margin 0.5"),
        (("--kind", "noninferior"), 2, "--margin: got None; accepted: a number > 0 for kind noninferior"),
        (("--kind", "equivalent", "--margin", "-1"), 2, "--margin: got -1.0"),
        (("--kind", "better"), 2, "--kind: got 'better'; accepted: superior | noninferior | equivalent"),
        (("--kind", "equivalent", "--margin", "1", "--looks", "4,8"), 2, "--kind: got 'equivalent'"),
    ],
)
def test_kinds_for_a_table(judged, arguments, code, said):
    status, out, err = judged(TABLE, "--baseline", "base", *arguments)
    assert status == code
    assert said in out + err


def test_a_kind_is_a_plan_s_own(typed, study):
    study()
    code, _, err = typed("verify", "one", "--kind", "noninferior", "--margin", "1")
    assert code == 2
    assert "--kind: got 'noninferior' without --scores" in err


def test_a_bundle_has_the_changes_of_the_code_and_weights_where_they_are_asked_for(study, typed, tmp_path):
    from tune_bn.analysis.plan import seal

    folder = study(effect=1.25)
    code, _, err = typed("bundle", "one", "out.zip", "--weights")
    assert code == 2
    assert "--weights: got" in err
    assert "accepted: a study that kept its weights (resources.keep_weights: confirmed)" in err
    (folder / "weights").mkdir()
    (folder / "weights" / "confirm-baseline-s1.pt").write_bytes(b"weights")
    (folder / "code.diff").write_text("+x = 1\n")
    assert typed("bundle", "one", "out.zip")[0] == 0
    assert typed("bundle", "one", "heavy.zip", "--weights")[0] == 0
    for name, weights in (("out.zip", False), ("heavy.zip", True)):
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert ("weights/confirm-baseline-s1.pt" in archive.namelist()) is weights
            assert archive.read("code.diff") == b"+x = 1\n"
        assert typed("verify", name)[0] == 0
    plan = json.loads((folder / "plan.json").read_text())
    assert seal(plan | {"code_diff": "0" * 64})["code_diff"] == "0" * 64
