"""Tables that need a library, and what ``tune_bn export`` writes."""

from __future__ import annotations

import pytest

from tune_bn.analysis.columns import Columns
from tune_bn.analysis.scores import judge_scores
from tune_bn.analysis.verdict import judge
from tune_bn.errors import ScoresError
from tune_bn.front.score_files import read_scores
from tune_bn.records.table import write_table

pandas = pytest.importorskip("pandas")


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_the_projects_own_tables_read_without_options(synthetic_study, tmp_path, ending):
    study = synthetic_study(candidates=2, effect=0.5)
    path = tmp_path / f"runs.{ending}"
    if ending == "jsonl":
        from dataclasses import asdict
        from json import dumps

        path.write_text("".join(f"{dumps(asdict(record))}\n" for record in study.records))
    else:
        write_table(study.records, path)
    verdict, expected = judge_scores(read_scores(path, Columns())), judge(study.plan, study.records)
    assert verdict["metric"] == "test_accuracy"
    assert verdict["verdict"] == expected["verdict"]
    for mine, theirs in zip(verdict["candidates"], expected["candidates"], strict=True):
        assert mine["scores"] == theirs["scores"]
        assert mine["p_adjusted"] == theirs["p_adjusted"]


def test_parquet_of_whole_numbers_with_gaps(tmp_path):
    frame = pandas.DataFrame(
        {"method": [0.1, 0.1, 1.0, 1.0, None], "run": [1.0, 2.0, 1.0, 2.0, None], "acc": [90.5, 91, 92, 93, 94]}
    )
    path = tmp_path / "t.parquet"
    frame.dropna().to_parquet(path)
    columns = Columns(arm=("method",), pair=("run",), score="acc")
    expected = (("0.1", "1", 90.5), ("0.1", "2", 91.0), ("1", "1", 92.0), ("1", "2", 93.0))
    assert read_scores(path, columns).rows == expected
    frame.to_parquet(path)
    with pytest.raises(ScoresError, match=r"t\.parquet: row 5: column method: got ''; accepted: text"):
        read_scores(path, columns)


def test_a_spoilt_parquet_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ScoresError, match="not Parquet") as caught:
        read_scores(path, Columns())
    assert "\n" not in str(caught.value)
    pandas.DataFrame({"arm": [], "seed": [], "score": []}).to_parquet(path)
    with pytest.raises(ScoresError, match="has no row below its header"):
        read_scores(path, Columns())
    with pytest.raises(ScoresError, match="cannot be read"):
        read_scores(tmp_path / "absent.parquet", Columns())
