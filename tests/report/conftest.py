"""What the tests of the report share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune_bn.report.study import StudyFiles, load


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., StudyFiles]:
    """Writes a made-up study and reads it as the report does."""

    def write(study: Any, **options: Any) -> StudyFiles:
        return load(study.write(tmp_path / "study", **options))

    return write
