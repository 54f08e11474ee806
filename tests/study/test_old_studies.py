"""Studies of the version before, as it wrote them: they verify to the same verdict, and an interrupted one goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.study.scripted_runner import scripted_study
from tune_bn.analysis.plan import read_plan
from tune_bn.analysis.verdict import verify_study, write_verdict
from tune_bn.protocols.runner import Task
from tune_bn.records.identity import settle
from tune_bn.records.log import RecordLog
from tune_bn.records.table import rows_of
from tune_bn.report import write_report
from tune_bn.study.folder import StudyFolder

OLD = Path(__file__).parent / "old_studies"
FINISHED = ["fixed", "sequential", "network"]


def copied(tmp_path: Path, name: str, called: str | None = None) -> Path:
    return Path(shutil.copytree(OLD / name, tmp_path / (called or name)))


@pytest.mark.parametrize("name", FINISHED)
def test_the_verdict_is_the_same_and_says_what_the_records_lack(name: str, tmp_path: Path) -> None:
    was = json.loads((OLD / name / "verdict.json").read_text(encoding="utf-8"))
    now = verify_study(copied(tmp_path, name, "under another name"))
    assert was["verdict"] == now["verdict"] == "not_supported"
    for key in ("study", "problems", "n", "seeds", "plan_sha256", "diverged", "retried"):
        assert now[key] == was[key]
    for before, after in zip(was["candidates"], now["candidates"], strict=True):
        for key in ("scores", "effect", "t", "p_value", "p_adjusted", "supported"):
            assert after[key] == before[key]
    data, place = now["remarks"]
    assert "did not record the data that the run saw (images, labels, classes)" in data
    assert "did not record what the run ran on beside the name of its device" in place


@pytest.mark.long
@pytest.mark.parametrize("name", FINISHED)
def test_reports_and_tables_are_written_of_them(name: str, tmp_path: Path) -> None:
    folder = copied(tmp_path, name)
    write_verdict(folder)
    write_report(folder)
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "did not record the data" in report
    if name == "sequential":
        assert "the bounds and the intervals, for a gain; p of a loss: " in report
        assert "(pp), up to the look that ended the candidate (too high on average" in report
    rows = rows_of(RecordLog(folder / "records.jsonl").read())
    assert all(row["study"] == name for row in rows)


@pytest.mark.parametrize("name", FINISHED)
def test_an_edited_old_record_is_noticed(name: str, tmp_path: Path) -> None:
    log = copied(tmp_path, name) / "records.jsonl"
    log.write_text(log.read_text().replace('"attempts":1', '"attempts":2', 1))
    assert "the record was edited" in verify_study(tmp_path / name)["reason"]


def test_an_interrupted_one_goes_on_under_another_name_in_one_log(tmp_path: Path) -> None:
    folder = copied(tmp_path, "inter", "renamed")
    space = StudyFolder(folder).space()
    trained: list[str] = []

    def score(task: Task, seed: int) -> float:
        trained.append(task.key)
        return 50.0 + (10 + seed * 7 % 3) * float(task.config.model.gamma)

    study, _ = scripted_study(folder, space, score)
    study.run()
    # Three of six trials were done; Optuna's journal is that of the old name.
    assert sorted(key for key in trained if key.startswith("search")) == [
        f"search-candidate-t{number:05d}-s101" for number in (3, 4, 5)
    ]
    records = RecordLog(folder / "records.jsonl").read()
    assert [record.schema_version for record in records] == [1] * 3 + [3] * (len(records) - 3)
    assert {record.study for record in records} == {"inter"}
    assert records[3].previous_sha256 == records[2].sha256
    assert read_plan(folder / "plan.json").study == "inter"
    verdict = verify_study(folder)
    assert verdict["verdict"] in ("supported", "not_supported"), verdict["reason"]


def test_an_old_study_keeps_the_id_that_mlflow_knows_it_by(tmp_path: Path) -> None:
    known = json.loads((OLD / "inter" / "mlflow.json").read_text())["study_id"]
    assert settle(copied(tmp_path, "inter", "renamed")).study_id == known
    # Beside it lies the same study once more: that one is a copy, and a study of its own.
    copy = settle(copied(tmp_path, "inter", "copy"))
    assert copy.study_id != known
    assert (copy.copied_from, copy.name) == (known, "inter")
    assert settle(tmp_path / "renamed").study_id == known
