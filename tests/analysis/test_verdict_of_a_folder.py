"""The verdict of a study's folder: written, damaged, and computed where there is nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.analysis.edited_studies import assert_invalid
from tune_bn.analysis.verdict import judge, verify_study, write_verdict
from tune_bn.errors import StudyError
from tune_bn.records.files import canonical_json, sha256_of


def test_a_study_folder_is_verified_without_being_written_to(study, tmp_path):
    study.write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    verdict = verify_study(tmp_path)
    assert verdict == judge(study.plan, study.records)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_verdict_file_is_the_verdict(study, tmp_path):
    study.write(tmp_path)
    verdict = write_verdict(tmp_path)
    first = (tmp_path / "verdict.json").read_bytes()
    assert json.loads(first) == verdict
    write_verdict(tmp_path)
    assert (tmp_path / "verdict.json").read_bytes() == first


@pytest.mark.long
@pytest.mark.parametrize("missing", ["plan.json", "records.jsonl"])
def test_without_a_plan_or_records_there_is_nothing_to_verify(study, tmp_path, missing):
    study.write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(StudyError, match=missing.replace(".", r"\.")):
        write_verdict(tmp_path)
    assert not (tmp_path / "verdict.json").exists()


def test_an_edited_record_is_invalid(study, tmp_path):
    log = study.write(tmp_path) / "records.jsonl"
    lines = log.read_text().splitlines()
    record = json.loads(lines[-1])
    record["scores"]["test_accuracy"] = 99.9
    log.write_text("\n".join([*lines[:-1], canonical_json(record)]) + "\n")
    assert_invalid(verify_study(tmp_path), f"records.jsonl:{len(lines)}", "edited")


def test_a_removed_record_is_invalid(study, tmp_path):
    log = study.write(tmp_path) / "records.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    assert_invalid(verify_study(tmp_path), "records.jsonl:4", "removed")


def test_a_record_edited_with_its_hash_breaks_the_chain(study, tmp_path):
    log = study.write(tmp_path) / "records.jsonl"
    lines = log.read_text().splitlines()
    record = json.loads(lines[-2])
    del record["sha256"]
    record["scores"]["test_accuracy"] = 99.9
    lines[-2] = canonical_json(record | {"sha256": sha256_of(record)})
    log.write_text("\n".join(lines) + "\n")
    assert_invalid(verify_study(tmp_path), f"records.jsonl:{len(lines)}", "does not follow")


@pytest.mark.long
@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 1}'])
def test_an_unreadable_plan_is_invalid_and_names_no_folder_of_this_machine(study, tmp_path, text):
    study.write(tmp_path)
    (tmp_path / "plan.json").write_text(text)
    verdict = verify_study(tmp_path)
    assert_invalid(verdict, "plan.json")
    assert str(tmp_path) not in json.dumps(verdict)
    assert verdict["study"] == tmp_path.name


def test_a_torn_last_line_is_a_run_that_is_missing(study, tmp_path):
    log = study.write(tmp_path) / "records.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert_invalid(verify_study(tmp_path), "candidate-1 has no finished run for seed 15")


@pytest.mark.long
def test_verifying_loads_none_of_the_adapters(study, tmp_path):
    study.write(tmp_path)
    code = (
        "import sys; from pathlib import Path; from tune_bn.analysis.verdict import write_verdict\n"
        "write_verdict(Path(sys.argv[1]))\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pydantic', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert json.loads((tmp_path / "verdict.json").read_text())["verdict"] == "supported"


@pytest.mark.long
@pytest.mark.parametrize("effect", [2.0, -1.0])
def test_the_room_alone_verifies_a_study_as_the_command_does(synthetic_study, tmp_path, effect):
    synthetic_study(effect=effect).write(tmp_path / "digits-1")
    command = [sys.executable, "-m", "tune_bn.analysis", str(tmp_path / "digits-1")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)) == (0, verify_study(tmp_path / "digits-1"))
    (tmp_path / "digits-1" / "plan.json").write_text("{}")
    assert subprocess.run(command, capture_output=True, text=True).returncode == 1
    done = subprocess.run([*command[:-1], str(tmp_path / "none")], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
