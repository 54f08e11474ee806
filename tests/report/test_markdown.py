"""The sections of a report, as Markdown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from tests.analysis.synthetic_claims import in_settings, searched_in_settings, sequential
from tests.report.rendering import render, tables
from tune_bn.analysis import write_verdict
from tune_bn.records.files import write_json
from tune_bn.report import write_report
from tune_bn.report.blocks import typeset
from tune_bn.report.cells import significant
from tune_bn.report.study import load

pytestmark = [pytest.mark.usefixtures("no_importance"), pytest.mark.long]


def test_the_verdict_comes_first_with_its_numbers(synthetic_study, tmp_path):
    folder = synthetic_study(effect=1.5).write(tmp_path / "digits-1")
    verdict = write_verdict(folder)
    text = render(load(folder))
    assert text.split("\n\n")[1] == typeset(f"**Supported:** {verdict['reason']}")
    assert f"tune_bn verify {folder.name}" in text


def test_the_result_table_is_that_of_the_verdict(synthetic_study, tmp_path):
    folder = synthetic_study(effect=1.5, searched=("gamma", "c", "lr")).write(tmp_path / "digits-1")
    verdict = write_verdict(folder)
    header, baseline, candidate = tables(render(load(folder)))["Result"]
    assert header[:6] == ["arm", "test accuracy, %", "effect, pp", "90 % interval, pp", "p", "finding"]
    assert dict(zip(header, baseline, strict=True))["configuration"] == "γ = 1, c = 1, lr = 0.1"
    arm = verdict["candidates"][0]
    row = dict(zip(header, candidate, strict=True))
    assert row["test accuracy, %"] == f"**{arm['mean']:.2f} ± {arm['std']:.2f}**"
    assert row["n"] == "**15**"
    assert row["effect, pp"] == f"**{arm['effect']:+.2f}**"
    assert row["90 % interval, pp"] == typeset(f"**{arm['ci_low']:+.2f} to {arm['ci'][1]:+.2f}**")
    assert row["p"] == typeset(f"**{significant(arm['p_value'])}**")
    assert row["p, two-sided"] == typeset(f"**{significant(arm['p_two_sided'])}**")
    assert row["p of a loss"] == typeset(f"**{significant(arm['p_worse'])}**")
    assert row["finding"] == "**better**"
    assert (row["d_z"], row["ρ"]) == (f"**{arm['d_z']:.2f}**", f"**{arm['correlation']:.2f}**")


def test_only_supported_candidates_are_bold(synthetic_study, tmp_path):
    study = synthetic_study(candidates=2, effect=2.0)
    baseline = {r.seed: r.scores["test_accuracy"] for r in study.confirm if r.arm == "baseline"}
    weak = [
        replace(r, scores={"test_accuracy": baseline[r.seed] + (-0.3 if r.seed % 2 else 0.2)})
        if r.arm == "candidate-2"
        else r
        for r in study.records
    ]
    folder = study.with_records(weak).write(tmp_path / "digits-1")
    write_verdict(folder)
    _, base, first, second = tables(render(load(folder)))["Result"]
    assert [any("**" in cell for cell in row) for row in (base, first, second)] == [False, True, False]


def test_several_candidates_show_the_adjusted_p_value(synthetic_study, report):
    assert "p, adjusted (Holm)" in tables(report(synthetic_study(candidates=3)))["Result"][0]
    assert "p, adjusted (Holm)" not in tables(report(synthetic_study(), "other"))["Result"][0]


def test_a_study_that_is_not_supported_says_so(synthetic_study, report):
    text = report(synthetic_study(effect=0.1))
    assert text.split("\n\n")[1].startswith("**Not supported:** ")
    assert "**" not in "".join(tables(text)["Result"][2])


def test_an_invalid_study_lists_what_is_wrong_and_quotes_no_p_value(synthetic_study, tmp_path):
    study = synthetic_study(effect=2.0)
    broken = [
        replace(r, commit=f"{r.seed:040x}", epochs=3) if r.stage == "confirm" and r.seed < 3 else r
        for r in study.records
    ]
    folder = study.with_records(broken).write(tmp_path / "digits-1")
    verdict = write_verdict(folder)
    text = render(load(folder))
    assert text.split("\n\n")[1].startswith("**Invalid:** ")
    assert all(f"- {problem}" in text for problem in verdict["problems"])
    header, _, candidate = tables(text)["Result"]
    assert candidate[header.index("p")] == "–"
    assert len(tables(text)["Scores by seed"]) == 16


def test_stages_are_counted_by_outcome(synthetic_study, report):
    study = synthetic_study()
    header, search, select, confirm = tables(report(study))["Stages"]
    counted = dict(zip(header, search, strict=True))
    statuses = [r.status for r in study.records if r.stage == "search"]
    for status in ("completed", "pruned", "diverged", "failed"):
        assert int(counted[status]) == statuses.count(status) > 0
    assert dict(zip(header, select, strict=True))["seeds"] == "201–203"
    assert dict(zip(header, confirm, strict=True))["runs"] == "30"


def test_a_retried_run_does_not_count_as_failed(synthetic_study, report):
    study = synthetic_study()
    failed = replace(study.records[0], status="failed", scores={})
    header, search, *_ = tables(report(study.with_records([failed, *study.records])))["Stages"]
    counted = dict(zip(header, search, strict=True))
    assert (counted["failed"], counted["configurations"], counted["runs"]) == ("1", "24", "25")


def test_the_luck_of_the_winner_can_be_seen(synthetic_study, report):
    study = synthetic_study()
    header, winner, *others = tables(report(study))["From search to confirmation"][:5]
    row = dict(zip(header, winner, strict=True))
    trial = study.plan["candidates"][0]["trial"]
    for stage, n in (("search", 1), ("select", 3), ("confirm", 15)):
        scores = [r.scores["val_accuracy"] for r in study.records if (r.stage, r.trial) == (stage, trial)]
        assert row[stage] == f"{sum(scores) / n:.2f} (n = {n})"
    assert row["arm"] == "candidate-1"
    assert [other[0] for other in others] == ["–", "–", "baseline"]


def test_scores_by_seed_lie_beside_the_test(synthetic_study, report):
    study = synthetic_study()
    rows = tables(report(study))["Scores by seed"][1:]
    by_place = {(r.arm, r.seed): r.scores["test_accuracy"] for r in study.confirm}
    assert len(rows) == 15
    for seed, before, after, difference in rows:
        first, second = by_place["baseline", int(seed)], by_place["candidate-1", int(seed)]
        assert (before, after, difference) == (f"{first:.2f}", f"{second:.2f}", typeset(f"{second - first:+.2f}"))


def test_where_it_came_from_is_written_down(synthetic_study, report):
    study = synthetic_study()
    text = report(study)
    for words in (study.plan["plan_sha256"], study.plan["space_sha256"], study.plan["commit"], "torch 2.15.0", "cpu"):
        assert words in text


def test_every_file_is_whole_and_linked(synthetic_study, tmp_path):
    folder = synthetic_study().write(tmp_path / "digits-1")
    write_verdict(folder)
    report, _, *plots = write_report(folder)
    linked = re.findall(r"!\[[^]]*\]\(([^)]+)\)", report.read_text())
    assert sorted(linked) == sorted(f"plots/{path.name}" for path in plots)
    assert {path.stem for path in plots} == {"landscape", "paired", "effects", "curves", "shrinkage"}
    for path in plots:
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 300
    assert sorted(path.name for path in (folder / "plots").iterdir()) == sorted(path.name for path in plots)


def test_search_to_confirmation_shows_the_luck_in_percentage_points(synthetic_study, tmp_path):
    folder = synthetic_study(candidates=2).write(tmp_path / "digits-1")
    verdict = write_verdict(folder)
    rows = tables(render(load(folder)))["From search to confirmation"][-2:]
    for arm, row in zip(verdict["candidates"], rows, strict=True):
        found = arm["shrinkage"]
        gains = (found["searched_gain"], found["selected_gain"], found["confirmed_gain"], found["luck"])
        assert row == [arm["arm"], *(typeset(f"{gain:+.2f}") for gain in gains)]


def test_other_tests_stand_beside_the_one_that_decides(synthetic_study, tmp_path):
    folder = synthetic_study(candidates=2).write(tmp_path / "digits-1")
    arm = write_verdict(folder)["candidates"][1]
    text = render(load(folder))
    header, _, second = tables(text)["Does the verdict hang on the test?"]
    row = dict(zip(header, second, strict=True))
    assert row["p of the verdict"] == typeset(f"{significant(arm['p_value'])}")
    assert row["p, Wilcoxon"] == f"{arm['sensitivity']['wilcoxon']['p_value']:.2g}"
    assert row["p, sign-flip"] == f"{arm['sensitivity']['sign_flip']['p_value']:.2g}"
    low, high = arm["sensitivity"]["bootstrap_interval"]
    assert row["90 % bootstrap interval, pp"] == f"{low:+.2f} to {high:+.2f}"
    assert row["detectable gain, pp"] == f"{arm['minimum_detectable_effect']:.2f}"
    assert "α = 0.05 / 2" in text


def test_an_interval_that_is_open_at_both_ends_is_a_dash(synthetic_study, report):
    header, row = tables(report(synthetic_study(n=2)))["Does the verdict hang on the test?"]
    assert dict(zip(header, row, strict=True))["90 % bootstrap interval, pp"] == "–"


def test_runs_that_went_wrong_are_named(synthetic_study, tmp_path):
    study = synthetic_study()
    first, second, *others = study.confirm
    chance = {"val_accuracy": 10.0, "best_epoch": 1, "test_accuracy": 10.0}
    records = [
        *(r for r in study.records if r.stage != "confirm"),
        replace(first, status="diverged", scores=chance, epochs=3),
        replace(second, status="failed", scores={}),
        second,
        *others,
    ]
    folder = study.with_records(records).write(tmp_path / "digits-1")
    assert write_verdict(folder)["problems"] == []
    text = render(load(folder))
    assert f"Diverged, scored by the plan's rule: `{first.key}`." in text
    assert f"Retried: `{second.key}`." in text


def test_a_sequential_study_shows_its_looks(synthetic_study, tmp_path):
    folder = sequential(synthetic_study(effect=0.45, candidates=4, rng_seed=3)).write(tmp_path / "digits-1")
    verdict = write_verdict(folder)
    text = render(load(folder))
    rows = tables(text)["Looks"]
    boundaries = rows[: len(verdict["design"]["looks"]) + 1]
    assert [row[0] for row in boundaries[1:]] == ["3", "5", "8", "11", "15"]
    assert [row[2] for row in boundaries[1:3]] == ["206", "7.96"]
    assert boundaries[-1][-1] == "–"
    held = [(row[0], row[1], row[-1]) for row in rows[len(boundaries) + 1 :]]
    words = {"efficacy": "gain shown", "futility": "stopped for futility", "last_look": "not shown at the last look"}
    assert held == [
        (arm["arm"], str(look["n"]), words.get(look["decision"], "goes on"))
        for arm in verdict["candidates"]
        for look in arm["looks"]
    ]
    assert {arm["decision"] for arm in verdict["candidates"]} == {"efficacy", "futility", "last_look"}
    header, *arms = tables(text)["Result"]
    by_arm = {row[0]: dict(zip(header, row, strict=True)) for row in arms}
    for arm in verdict["candidates"]:
        assert by_arm[arm["arm"]]["n"].strip("*") == str(len(arm["scores"]))
        assert by_arm[arm["arm"]]["repeated p"].strip("*") == typeset(f"{significant(arm['p_value'])}")
    assert "206 at 3 pairs" in text


def test_several_settings_make_the_table_of_the_paper(synthetic_study, tmp_path):
    settings = {"lr0.1": {"lr": 0.1}, "lr0.01": {"lr": 0.01}}
    study = in_settings(synthetic_study(), settings, {"Ours": [1.0, -0.5], "half": [0.01, 1.0]})
    folder = study.write(tmp_path / "digits-1")
    verdict = write_verdict(folder)
    text = render(load(folder))
    header, baseline, ours, half, *detail = tables(text)["Result"]
    assert header == ["arm", "lr0.1", "lr0.01"]
    assert [row[0] for row in (baseline, ours, half)] == ["baseline", "Ours", "half"]
    by_name = {arm["arm"]: arm for arm in (*verdict["baselines"], *verdict["candidates"])}
    for row in (baseline, ours, half):
        for setting, cell in zip(header[1:], row[1:], strict=True):
            arm = by_name[f"{row[0]}.{setting}"]
            expected = f"{arm['mean']:.2f} ± {arm['std']:.2f}"
            marked = f"**{expected} (worse)**" if arm.get("worse") else f"**{expected}**"
            assert cell == (marked if arm.get("supported") or arm.get("worse") else expected)
    better = [cell.startswith("**") and "worse" not in cell for cell in (*ours[1:], *half[1:])]
    assert better == [True, False, False, True]
    assert verdict["worse"] == ["half.lr0.1", "Ours.lr0.01"]
    assert [row[0] for row in detail[1:3]] == ["baseline.lr0.1", "baseline.lr0.01"]
    # Each setting has a table of scores with its own baseline.
    scores = tables(text)["Scores by seed"]
    assert [row[:2] for row in scores if row[0] == "seed"] == [["seed", "baseline.lr0.1"], ["seed", "baseline.lr0.01"]]


def test_a_finalist_has_a_row_for_each_setting_that_it_is_confirmed_in(synthetic_study, tmp_path):
    study = searched_in_settings(synthetic_study(), {"a": {"lr": 0.1}, "b": {"lr": 0.01}})
    folder = study.write(tmp_path / "digits-1")
    assert write_verdict(folder)["problems"] == []
    header, *rows = tables(render(load(folder)))["From search to confirmation"]
    arms = [dict(zip(header, row, strict=True)) for row in rows[:6]]
    names = ["candidate-1.a", "candidate-1.b", "–", "–", "baseline.a", "baseline.b"]
    assert [arm["arm"] for arm in arms] == names
    assert arms[0]["trial"] == arms[1]["trial"] == str(study.plan["candidates"][0]["trial"])
    assert all("n = 15" in arms[place]["confirm"] for place in (0, 1, 4, 5))


def test_finalists_that_the_race_dropped_come_last(synthetic_study, report):
    study = synthetic_study()
    winner = study.plan["candidates"][0]["trial"]
    dropped = [r for r in study.records if not (r.stage == "select" and r.trial == winner and r.seed > 201)]
    rows = tables(report(study.with_records(dropped)))["From search to confirmation"][1:4]
    assert [row[0] for row in rows] == ["–", "–", "candidate-1"]
    assert rows[2][-2].endswith("(n = 1)")


def test_scores_of_many_arms_are_split_into_tables_that_fit_on_paper(synthetic_study, report):
    study = synthetic_study(candidates=12, trials=40)
    rows = tables(report(study))["Scores by seed"]
    headers = [row for row in rows if row[0] == "seed"]
    assert max(map(len, headers)) <= 12
    assert [cell for row in headers for cell in row if cell.startswith("candidate")] == [
        arm["arm"] for arm in study.plan["candidates"]
    ]


def test_how_to_cite_names_the_version_that_trained(synthetic_study, report):
    study = synthetic_study()
    text = report(study).partition("## How to cite")[2]
    assert "Revisiting Batch Norm Initialization" in text
    assert "arXiv:2110.13989" in text
    assert "version = {0.1.0}" in text
    assert study.plan["commit"] in text
    mixed = [replace(r, versions={"tune_bn": str(r.seed)}) for r in study.records]
    assert "version =" not in report(study.with_records(mixed), "mixed")


def test_the_commands_name_the_study_safely(synthetic_study, report, tmp_path):
    text = report(synthetic_study(), "my study; rm")
    output = tmp_path.name
    assert f"tune_bn verify 'my study; rm' --output {output}\n" in text
    assert f"tune_bn search --space '{output}/my study; rm/space.yaml' --output {output}\n" in text
    assert str(tmp_path) not in text, "a page that others read names no folder of this machine"


def test_text_of_a_configuration_cannot_break_a_table(synthetic_study, tmp_path):
    study = synthetic_study()
    folder = study.write(tmp_path / "digits-1")
    verdict = write_verdict(folder)
    verdict["candidates"][0]["config"] = {"gamma": 0.1, "c": 10.0, "note": "a|b\nc"}
    write_json(folder / "verdict.json", verdict)
    rows = tables(render(load(folder)))["Result"]
    assert len({len(row) for row in rows}) == 1


def test_writing_a_report_loads_neither_adapters_nor_pyplot(synthetic_study, tmp_path):
    # Too few trials for their importance, which alone needs Optuna.
    folder = synthetic_study(trials=8).write(tmp_path / "digits-1")
    write_verdict(folder)
    code = (
        "import json, sys; from pathlib import Path; from tune_bn.report import write_report\n"
        "write_report(Path(sys.argv[1]))\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pydantic', 'matplotlib.pyplot'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert done.stderr == ""
