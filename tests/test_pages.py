"""The pages: the README is one screen whose links lead somewhere, and the site builds strictly without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tune_bn.space.loading import parse_space

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {"#" + re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{target}{anchor}"


def test_every_word_of_the_glossary_stands_once_in_order() -> None:
    words = re.findall(r"(?m)^\| \*\*([^*]+)\*\*", (DOCS / "glossary.md").read_text(encoding="utf-8"))
    assert {"arm", "nuisance key", "grace", "regret", "look", "pruned", "d_z"} <= set(words)
    plain = [word.casefold() for word in words if word.isascii()]
    assert plain == sorted(set(plain))


def test_the_first_steps_of_the_page_on_your_own_training_can_be_taken_and_read() -> None:
    page = (DOCS / "your-training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?ms)^```(\w*)\n(.*?)^```", page)
    space = parse_space(yaml.safe_load(next(text for kind, text in blocks if kind == "yaml")), "space.yaml")
    script = next(text for kind, text in blocks if kind == "python")
    compile(script, "train.py", "exec")
    assert all(f"run.{key}" in script for key in space.search)
    # A browser's window of 1280 points shows so many columns; the rest is found by those who scroll.
    assert [line for _, text in blocks for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.long
def test_the_site_builds_strictly_and_asks_no_other_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "glossary.html", "statistics.html"} <= {page.name for page in pages}
    other = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?https?:[^>]*")
    asked = [found for page in pages for found in other.findall(page.read_text(encoding="utf-8"))]
    # The address of a page itself is asked of nobody.
    assert [found for found in asked if 'rel="canonical"' not in found and "rel=canonical" not in found] == []


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_workflow_files_are_yaml(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    for job in content.get("jobs", {}).values():
        assert job["runs-on"] == "ubuntu-24.04"
        for step in job["steps"]:
            # `make` targets that a workflow calls are there.
            for target in re.findall(r"\bmake ([\w-]+)", step.get("run", "")):
                assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8")), target


def test_the_citation_has_the_version_and_the_paper() -> None:
    import tune_bn

    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert content["version"] == tune_bn.__version__
    assert content["preferred-citation"]["title"] == "Revisiting Batch Norm Initialization"
    assert f"## {tune_bn.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_hooks_pin_the_linter_of_the_constraints() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (rev,) = [repo["rev"] for repo in hooks if "ruff" in repo["repo"]]
    assert f"ruff=={rev.removeprefix('v')}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert all(re.fullmatch(r"v\d+\.\d+\.\d+", repo["rev"]) for repo in hooks)
