"""Bundles: what is written reads back, and what a stranger has done to one is refused in one line."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import subprocess
import sys
import zipfile

import pytest

from tune_bn.analysis.bundles import replication, verify_bundle
from tune_bn.analysis.verdict import write_verdict
from tune_bn.errors import StudyError
from tune_bn.records.bundle import MANIFEST, unpacked, write_bundle
from tune_bn.records.verdict import Candidate, Verdict


@pytest.fixture(scope="module")
def made(synthetic_study, tmp_path_factory):
    """A study and its bundle, made once."""
    place = tmp_path_factory.mktemp("made")
    folder = synthetic_study(effect=1.25).write(place / "study")
    write_verdict(folder)
    if not (folder / "space.yaml").exists():
        (folder / "space.yaml").write_text("name: made-up\n")
    write_bundle(folder, place / "out.zip", {"environment.json": b"{}\n"})
    return place


@pytest.fixture
def bundle(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out.zip"


def again(path, change):
    """The archive with its members changed; each entry is (name or ZipInfo, bytes)."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in change(members):
            archive.writestr(name, data)


def test_a_bundle_has_the_verdict_of_its_study(bundle, tmp_path):
    verdict = verify_bundle(bundle).to_json()
    stored = json.loads((tmp_path / "study" / "verdict.json").read_text())
    for key in ("verdict", "headline", "reason", "candidates", "plan_sha256"):
        assert verdict[key] == stored[key]
    assert not [remark for remark in verdict["remarks"] if "bundle" in remark]


def test_nothing_is_left_behind(bundle):
    with unpacked(bundle) as folder:
        assert (folder / "plan.json").is_file()
    assert not folder.exists()


@pytest.mark.long
def test_a_stranger_needs_numpy_and_scipy_alone(bundle):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['x', {str(bundle)!r}]\n"
        "try: runpy.run_module('tune_bn.analysis', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "odd = {'torch', 'ray', 'mlflow', 'optuna', 'pydantic', 'typer', 'yaml', 'pandas', 'rich'} & set(sys.modules)\n"
        "assert not odd, odd\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["verdict"] == "supported"


LINK = zipfile.ZipInfo("link")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: [(n, d + b" " if n == "plan.json" else d) for n, d in m], "plan.json was changed"),
        (
            lambda m: [(n, d.replace(b"9", b"8", 1) if n == "records.jsonl" else d) for n, d in m],
            "records.jsonl was changed",
        ),
        (lambda m: [e for e in m if e[0] != "records.jsonl"], "records.jsonl is missing"),
        (lambda m: [e for e in m if e[0] != MANIFEST], "MANIFEST.json is missing"),
        (lambda m: [*m, ("more.txt", b"x")], "more.txt is not in the manifest"),
        (lambda m: [*m, ("../evil", b"x")], "called '../evil', which is no plain name"),
        (lambda m: [*m, ("a/../../evil", b"x")], "which is no plain name"),
        (lambda m: [*m, ("/etc/evil", b"x")], "called '/etc/evil', which is no plain name"),
        (lambda m: [*m, ("C:evil", b"x")], "which is no plain name"),
        (lambda m: [*m, ("a\\..\\evil", b"x")], "which is no plain name"),
        (lambda m: [*m, ("a//b", b"x")], "which is no plain name"),
        (lambda m: [*m, ("./plan.json", b"x")], "which is no plain name"),
        (lambda m: [*m, ("folder/", b"")], "which is no plain name"),
        (lambda m: [*m, ("PLAN.json", b"{}")], "PLAN.json is there twice"),
        (lambda m: [*m, (LINK, b"/etc/passwd")], "link is no plain file"),
        (lambda m: [(n, b"[]" if n == MANIFEST else d) for n, d in m], "MANIFEST.json is no manifest"),
        (lambda m: [(n, b"[" * 100_000 if n == MANIFEST else d) for n, d in m], "MANIFEST.json is no manifest"),
        (lambda m: [(n, d.replace(b'_version": 1', b'_version": 9') if n == MANIFEST else d) for n, d in m], "is 9"),
        (lambda m: [*m, ("zeros", bytes(2**30))], "it would unpack to"),
    ],
)
def test_what_was_done_to_a_bundle_is_said(bundle, change, said):
    again(bundle, change)
    with pytest.raises(StudyError) as caught:
        verify_bundle(bundle)
    assert said in str(caught.value)
    assert "accepted: a bundle" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.long
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_archive_is_refused(bundle, damage):
    data = bundle.read_bytes()
    changed = {
        "cut": data[: len(data) // 2],
        "flip": data[:200] + bytes([data[200] ^ 255]) + data[201:],
        "empty": b"",
        "text": b"no archive",
    }[damage]
    bundle.write_bytes(changed)
    with pytest.raises(StudyError, match="accepted: a bundle as"):
        verify_bundle(bundle)


@pytest.mark.long
def test_a_size_that_is_a_lie_unpacks_no_more_than_it_states(bundle):
    """The header says 10 bytes, the stream holds 50 MB."""
    again(bundle, lambda members: [*members, ("bomb", bytes(50_000_000))])
    data = bytearray(bundle.read_bytes())
    real, lie = (50_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    assert real in data
    bundle.write_bytes(bytes(data).replace(real, lie))
    with pytest.raises(StudyError, match="accepted: a bundle as"):
        verify_bundle(bundle)


def otherwise(**changes):
    """Members with a verdict that says something else, and a manifest that knows of it."""

    def lie(members):
        found = dict(members)
        verdict = json.loads(found["verdict.json"])
        row = {key: value for key, value in changes.items() if key not in verdict}
        verdict |= {key: value for key, value in changes.items() if key in verdict}
        verdict["candidates"][0] |= row
        found["verdict.json"] = data = json.dumps(verdict).encode()
        manifest = json.loads(found[MANIFEST])
        manifest["members"]["verdict.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        found[MANIFEST] = json.dumps(manifest).encode()
        return list(found.items())

    return lie


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": "not_supported", "headline": "not_supported"}, "verdict 'not_supported', and"),
        ({"headline": "a triumph"}, "headline 'a triumph', and"),
        ({"reason": "It is better."}, "reason 'It is better.', and"),
        ({"p_value": 0.5}, "p_value of candidate-1 '0.5', and"),
        ({"effect": None}, "effect of candidate-1 'None', and"),
    ],
)
def test_a_verdict_that_was_rewritten_with_its_manifest_does_not_count(bundle, changes, said):
    again(bundle, otherwise(**changes))
    verdict = verify_bundle(bundle)
    assert verdict.is_supported
    (remark,) = [remark for remark in verdict.remarks if "bundle" in remark]
    assert remark.startswith(f"the bundle's own verdict has {said} its plan and records give '")


@pytest.mark.parametrize("candidates", [b"null", b"3", b"[3]", b'[{"arm": ["x"]}]', b"[{}]"])
def test_a_verdict_of_an_odd_shape_says_nothing(bundle, candidates):
    def odd(members):
        found = dict(otherwise()(members))
        verdict = json.loads(found["verdict.json"]) | {"candidates": json.loads(candidates)}
        found["verdict.json"] = data = json.dumps(verdict).encode()
        manifest = json.loads(found[MANIFEST])
        manifest["members"]["verdict.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        found[MANIFEST] = json.dumps(manifest).encode()
        return list(found.items())

    again(bundle, odd)
    verdict = verify_bundle(bundle)
    assert verdict.is_supported
    assert not [remark for remark in verdict.remarks if "bundle" in remark]


def test_a_bundle_is_never_written_over(bundle, tmp_path):
    with pytest.raises(StudyError, match="exists; accepted: the name of a new file"):
        write_bundle(tmp_path / "study", bundle, {})
    assert zipfile.ZipFile(io.BytesIO(bundle.read_bytes())).testzip() is None


# Replication.


def verdict_of(effect, low, high, *, supported=True, worse=False, kind="superior", margin=0.0, word="supported"):
    ends = {"ci": (low, high), "ci_adjusted": (low, high)}
    arm = Candidate(arm="candidate-1", config={}, scores={}, effect=effect, **ends, supported=supported, worse=worse)
    return Verdict(verdict=word, kind=kind, margin=margin, candidates=(arm,))


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        (verdict_of(0.6, 0.2, 1.0), "replicated"),
        (verdict_of(0.2, 0.1, 0.3), "replicated"),
        (verdict_of(0.4, -0.2, 1.0, supported=False), "inconclusive"),
        (verdict_of(0.0, -0.3, 0.3, supported=False), "not replicated"),
        (verdict_of(-1.0, -1.3, -0.7, supported=False, worse=True), "not replicated"),
        (verdict_of(None, None, None, supported=False, word="invalid"), "inconclusive"),
    ],
)
def test_the_rule_of_a_replication(after, outcome):
    found = replication(verdict_of(0.7, 0.4, 1.0), after)
    assert found["outcome"] == outcome
    assert found["candidates"][0]["smaller"] is (after.candidates[0].effect == 0.2)


@pytest.mark.parametrize(
    ("low", "high", "supported", "outcome"),
    [(-0.3, 0.4, True, "replicated"), (0.6, 0.9, False, "not replicated"), (-0.2, 0.6, False, "inconclusive")],
)
def test_the_rule_for_equivalence(low, high, supported, outcome):
    before = verdict_of(0.0, -0.2, 0.2, kind="equivalent", margin=0.5)
    after = verdict_of((low + high) / 2, low, high, supported=supported, kind="equivalent", margin=0.5)
    assert replication(before, after)["outcome"] == outcome


def test_changes_of_the_code_are_those_that_the_plan_names(synthetic_study, tmp_path):
    diff = b"+gamma = 0.1\n"
    made = synthetic_study(effect=1.25).with_plan(code_diff=hashlib.sha256(diff).hexdigest())
    folder = made.write(tmp_path / "study")

    def said():
        verdict = write_verdict(folder)
        assert verdict["verdict"] == "supported"
        return [remark for remark in verdict["remarks"] if "code.diff" in remark]

    assert "cannot be read" in said()[0]
    (folder / "code.diff").write_bytes(diff)
    assert said() == []
    (folder / "code.diff").write_bytes(diff + b"\n")
    assert "is not what the plan names" in said()[0]
