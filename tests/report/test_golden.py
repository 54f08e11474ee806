"""What is printed of a study stays as it is: verdict, report and paper kit, and the refusals of strange plans."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.report.golden_studies import GOLDEN, OLD, OLD_STUDIES, STUDIES, printed, refusals


@pytest.mark.parametrize("name", [*STUDIES, *(f"old_{name}" for name in OLD_STUDIES)])
def test_everything_that_is_printed_of_a_study_is_as_it_was(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    if name in STUDIES:
        STUDIES[name]().write(folder)
    else:
        shutil.copytree(OLD / name.removeprefix("old_"), folder)
    assert printed(folder) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_a_plan_that_is_none_is_refused_in_the_same_words(tmp_path: Path) -> None:
    assert refusals(tmp_path) == (GOLDEN / "malformed.txt").read_text(encoding="utf-8")
