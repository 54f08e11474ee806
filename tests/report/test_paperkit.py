"""The files of the paper kit: numbers with their sources, and LaTeX that is balanced and knows its macros."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from tests.analysis.synthetic_claims import in_settings, sequential
from tune_bn.analysis.verdict import verify_study
from tune_bn.errors import StudyError
from tune_bn.report.paperkit import letters, tex, write_paperkit


def studies(synthetic_study):
    return {
        "plain": synthetic_study(effect=1.25),
        "several": synthetic_study(candidates=3),
        "looks": sequential(synthetic_study(effect=1.25)),
        "noninferior": synthetic_study(effect=-1.25).with_plan(kind="noninferior", margin=3.0),
        "settings": in_settings(
            synthetic_study(), {"r18": {"arch": "resnet18"}, "r50": {"arch": "resnet50"}}, {"Ours": [1, -2]}
        ),
        "average": in_settings(
            synthetic_study(), {"r18": {"arch": "resnet18"}, "r50": {"arch": "resnet50"}}, {"Ours": [1, 2]}
        ).with_plan(holds="pooled"),
    }


@pytest.fixture(scope="module", params=["plain", "several", "looks", "noninferior", "settings", "average"])
def kit(request, synthetic_study, tmp_path_factory):
    """Written once for all tests of it, which only read."""
    place = tmp_path_factory.mktemp(request.param)
    folder = studies(synthetic_study)[request.param].write(place / "study")
    return folder, place / "kit", write_paperkit(folder, place / "kit")


def balanced(text):
    """Whether the braces and environments of LaTeX close in their order; comments are left out."""
    text = re.sub(r"(?<!\\)%.*", "", text).replace("\\{", "").replace("\\}", "")
    depth, opened = 0, []
    for token in re.findall(r"\\begin\{\w+\*?\}|\\end\{\w+\*?\}|[{}]", text):
        if token.startswith("\\begin"):
            opened.append(token[7:-1])
        elif token.startswith("\\end"):
            if not opened or opened.pop() != token[5:-1]:
                return False
        else:
            depth += 1 if token == "{" else -1
            if depth < 0:
                return False
    return depth == 0 and not opened


@pytest.mark.long
def test_the_kit_is_whole(kit):
    _, out, written = kit
    assert {path.name for path in written} >= {
        *("table.tex", "numbers.tex", "methods.tex", "methods.md", "checklist.md", "references.bib", "paper.tex"),
        *("pairs.pdf", "pairs.png", "effects.pdf", "effects.png"),
    }
    for path in out.glob("*.tex"):
        assert balanced(path.read_text(encoding="utf-8")), path.name
        assert re.sub(r"(?<!\\)%.*", "", path.read_text(encoding="utf-8")).isascii(), path.name
    # A macro that is used is defined, once.
    defined = re.findall(r"\\newcommand\{\\(tbn[A-Za-z]+)\}", (out / "numbers.tex").read_text())
    used = set(re.findall(r"\\(tbn[A-Za-z]+)", (out / "paper.tex").read_text()))
    assert used <= set(defined)
    assert len(set(defined)) == len(defined)
    # Letters of a figure stay letters.
    assert b"/Type3" not in (out / "effects.pdf").read_bytes()


@pytest.mark.long
def test_every_number_has_its_source(kit):
    folder, out, _ = kit
    verdict = json.loads(json.dumps(verify_study(folder)))
    for line in (out / "numbers.tex").read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            continue
        value, source = re.fullmatch(r"\\newcommand\{\\tbn[A-Za-z]+\}\{(.*)\} % (.*)", line).groups()
        found = verdict
        for part in re.findall(r"\w+", source):
            found = found[int(part) if part.isdigit() else part]
        if isinstance(found, float) and "times" not in value and "%" not in value:
            assert float(value) == pytest.approx(found, abs=0.006, rel=0.06), line


@pytest.mark.long
def test_the_table_says_what_the_verdict_says(kit):
    folder, out, _ = kit
    verdict, text = verify_study(folder), (out / "table.tex").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")][1:]
    arms = [*verdict["baselines"], *verdict["candidates"]]
    if verdict.get("pooled"):
        average = rows.pop()
        assert average.startswith("average & ")
        assert ("textbf" in average) == verdict["pooled"]["supported"]
        assert f"{verdict['pooled']['effect']:+.2f}" in average
    assert len(rows) == len(arms)
    assert len({row.count("&") for row in rows}) == 1
    for row, arm in zip(rows, arms, strict=True):
        assert ("textbf" in row) == bool(arm.get("supported"))
        assert f"{arm['mean']:.2f}" in row


def test_what_may_not_be_written_is_refused(synthetic_study, tmp_path):
    folder = synthetic_study().write(tmp_path / "study")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(StudyError, match="is not empty; accepted: a new or an empty folder"):
        write_paperkit(folder, tmp_path / "full")
    records = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(records[:-1]))
    with pytest.raises(StudyError, match=r"its verdict is invalid .*accepted: a valid one"):
        write_paperkit(folder, tmp_path / "kit")


@pytest.mark.long
def test_a_checklist_and_a_paper_say_what_was_done_in_words(kit):
    folder, out, _ = kit
    plan = json.loads((folder / "plan.json").read_text())
    checklist, paper = (out / "checklist.md").read_text(), (out / "paper.tex").read_text()
    for word in ("paired_t_greater", "not_supported", "group_sequential", "correction holm", "@"):
        assert word not in checklist
        assert word not in paper
    # Of one comparison nothing is corrected.
    several = len(plan["candidates"]) > 1
    assert ("Several comparisons are corrected by Holm's" in paper) == (several and plan.get("holds") != "all")
    assert ("Holm" in checklist.partition("## Statistical")[2].partition("## Compute")[0]) == several


def test_a_minus_is_no_hyphen_and_a_percent_sign_begins_no_line():
    assert tex("-0.04 to +0.46, candidate-1, 1-2, (-1.5 %)") == (r"$-$0.04 to +0.46, candidate-1, 1-2, ($-$1.5~\%)")


def test_text_is_escaped():
    assert tex("50 % of γ_1 & {x} ~ #1 \\ $") == (
        r"50~\% of $\gamma$\_1 \& \{x\} \textasciitilde{} \#1 \textbackslash{} \$"
    )
    assert [letters(i) for i in (0, 25, 26, 27, 51, 52)] == ["A", "Z", "AA", "AB", "AZ", "BA"]


@pytest.mark.system
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-recommended)")
def test_it_compiles(synthetic_study, tmp_path):
    folder = studies(synthetic_study)["several"].write(tmp_path / "study")
    write_paperkit(folder, tmp_path / "kit")
    for command in (["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"], ["bibtex", "paper"]) * 2:
        made = subprocess.run(
            command, cwd=tmp_path / "kit", capture_output=True, text=True, errors="replace", check=False
        )
        assert made.returncode == 0, made.stdout[-2000:]
    assert (tmp_path / "kit" / "paper.pdf").stat().st_size > 10_000
    # Nothing runs off the page, however many keys the table has.
    assert "Overfull" not in (tmp_path / "kit" / "paper.log").read_text(errors="replace")
