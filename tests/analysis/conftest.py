"""What tests of verdicts share."""

from __future__ import annotations

import pytest


@pytest.fixture
def study(synthetic_study):
    return synthetic_study(effect=2.0)
