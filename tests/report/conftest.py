"""What the tests of the report share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report.rendering import render
from tune_bn.analysis.verdict import write_verdict
from tune_bn.report.study import StudyFiles, load


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., StudyFiles]:
    """Writes a made-up study and reads it as the report does."""

    def write(study: Any, **options: Any) -> StudyFiles:
        return load(study.write(tmp_path / "study", **options))

    return write


@pytest.fixture
def no_importance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forests of the importance take their time; test_importance.py has them."""
    monkeypatch.setattr("tune_bn.report.process.importances", lambda study: [])


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., str]:
    """Write a study with its verdict and return the text of its report, without drawing its plots."""

    def write(study: Any, name: str = "digits-1") -> str:
        folder = study.write(tmp_path / name)
        write_verdict(folder)
        return render(load(folder))

    return write
