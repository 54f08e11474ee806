"""The margin of a claim at the door: in the unit of the score that the space has, and within its range."""

from __future__ import annotations

from typing import Any

import pytest

from tune_bn.cli.validate import power_words
from tune_bn.errors import SpecError
from tune_bn.space.loading import load_space
from tune_bn.space.locate import find_space

CLAIM = ["claim.kind=noninferior"]


@pytest.mark.parametrize("margin", ["0.5", "99.9"])
def test_a_margin_of_an_accuracy_is_in_percentage_points(margin: str) -> None:
    space = load_space(find_space("digits.yaml"), [*CLAIM, f"claim.margin={margin}"])
    assert f"so that this counts from -{margin} percentage points on" in power_words(space)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([*CLAIM, "claim.margin=100"], "a number below 100, the width of the score's range"),
        (["claim.margin=1e9"], "a number below 100"),
        (CLAIM, "a number > 0 for kind noninferior"),
    ],
)
def test_a_margin_that_shows_nothing_is_refused(overrides: list[Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        load_space(find_space("digits.yaml"), overrides)
