"""Studies that are half done, damaged or old: what their report says."""

from __future__ import annotations

import pytest

from tests.report.rendering import render, tables
from tune_bn.analysis import write_verdict
from tune_bn.errors import RecordError, StudyError
from tune_bn.records.files import write_json
from tune_bn.report import write_report
from tune_bn.report.study import load

pytestmark = pytest.mark.usefixtures("no_importance")


@pytest.mark.parametrize("stages", [(), ("search",), ("search", "select")])
def test_a_study_without_a_plan_says_that_it_is_not_confirmed(synthetic_study, tmp_path, stages):
    study = synthetic_study()
    study = study.with_records([r for r in study.records if r.stage in stages])
    folder = study.write(tmp_path / "young", plan=False, curves=False)
    text = render(load(folder))
    assert "**Not confirmed yet:**" in text
    assert "Result" not in tables(text)


def test_a_half_confirmed_study_says_how_far_it_is(synthetic_study, tmp_path):
    study = synthetic_study()
    folder = study.with_records(study.records[:-10]).write(tmp_path / "half")
    assert "20 of 30 confirmation runs are done" in render(load(folder))


def test_a_damaged_record_file_still_gives_a_report(synthetic_study, tmp_path):
    folder = synthetic_study().write(tmp_path / "broken")
    log = folder / "records.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"seed":3,', b'"seed":4,', 1))
    write_verdict(folder)
    text = write_report(folder)[0].read_text()
    assert "**Invalid:** records.jsonl:" in text
    assert "**Damaged file:** records.jsonl:" in text
    assert str(tmp_path) not in text


def test_a_damaged_plan_still_gives_a_report(synthetic_study, tmp_path):
    folder = synthetic_study().write(tmp_path / "broken")
    (folder / "plan.json").write_text("{")
    write_verdict(folder)
    assert "**Damaged file:** plan.json:" in render(load(folder))


@pytest.mark.long
@pytest.mark.parametrize("content", [b"search: [", b"name: \xff"])
def test_a_damaged_space_file_still_gives_a_report(synthetic_study, tmp_path, content):
    folder = synthetic_study().write(tmp_path / "broken")
    (folder / "space.yaml").write_bytes(content)
    write_verdict(folder)
    assert "**Damaged file:** space.yaml:" in render(load(folder))


@pytest.mark.long
def test_a_damaged_curve_is_named_and_the_rest_is_reported(synthetic_study, tmp_path):
    folder = synthetic_study().write(tmp_path / "broken")
    with (folder / "curves.jsonl").open("a") as handle:
        handle.write("{}\n")
    write_verdict(folder)
    report, page, *plots = write_report(folder)
    assert "**Damaged file:** curves.jsonl:" in report.read_text()
    assert "<strong>Damaged file:</strong> curves.jsonl:" in page.read_text()
    assert {path.name for path in plots} == {"landscape.png", "paired.png", "effects.png", "shrinkage.png"}


@pytest.mark.long
@pytest.mark.parametrize("text", ["{", "[]", '{"verdict": "perhaps"}'])
def test_a_damaged_verdict_is_refused_in_one_line(synthetic_study, tmp_path, text):
    folder = synthetic_study().write(tmp_path / "broken")
    (folder / "verdict.json").write_text(text)
    with pytest.raises(RecordError, match=r"verdict\.json") as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)


def test_where_there_is_no_study_there_is_no_report(tmp_path):
    with pytest.raises(StudyError, match="no study here"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_from_before_the_further_keys_is_still_reported(synthetic_study, tmp_path):
    folder = synthetic_study(candidates=2).write(tmp_path / "digits-1")
    verdict = write_verdict(folder)
    for key in ("stopping", "design", "baselines", "ci_confidence", "headline", "worse"):
        del verdict[key]
    kept = {"effect", "ci_low", "p_value", "p_adjusted", "d_z", "correlation", "supported"}
    kept |= {"arm", "trial", "config", "scores", "mean", "std"}
    verdict["candidates"] = [{key: arm[key] for key in kept} for arm in verdict["candidates"]]
    write_json(folder / "verdict.json", verdict)
    text = render(load(folder))
    header, baseline, first, _ = tables(text)["Result"]
    assert dict(zip(header, first, strict=True))["95 % interval, pp"].strip("*") == "–"
    assert dict(zip(header, baseline, strict=True))["n"] == "15"
    assert "Does the verdict hang on the test?" not in text


@pytest.mark.long
@pytest.mark.parametrize("name", ["records.jsonl", "curves.jsonl", "space.yaml"])
def test_a_folder_in_place_of_a_file_still_gives_a_report(synthetic_study, tmp_path, name):
    folder = synthetic_study(n=3).write(tmp_path / "study")
    (folder / name).unlink()
    (folder / name).mkdir()
    write_report(folder)
    assert name in "\n".join(load(folder).problems)


@pytest.mark.parametrize("content", [None, "[" * 100_000])
def test_a_verdict_that_cannot_be_read_is_refused(synthetic_study, tmp_path, content):
    folder = synthetic_study(n=3).write(tmp_path / "study")
    if content is None:
        (folder / "verdict.json").mkdir()
    else:
        (folder / "verdict.json").write_text(content)
    with pytest.raises(RecordError, match=r"verdict\.json: "):
        write_report(folder)


@pytest.mark.long
def test_a_report_that_cannot_be_written_is_one_line(synthetic_study, tmp_path):
    folder = synthetic_study(n=3).write(tmp_path / "study")
    (folder / "report.md").mkdir()
    with pytest.raises(StudyError, match="cannot be written"):
        write_report(folder)
