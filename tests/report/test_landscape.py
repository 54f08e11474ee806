"""The landscape of a search: what is said of it, and whether its numbers can be read."""

from __future__ import annotations

from itertools import combinations

import pytest

from tune_bn.report.figures.landscape import landscape, landscape_words

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.long]

NOT_COMPARABLE = " The score of a trial that was stopped early is not comparable, so"


def test_the_numbers_of_many_candidates_can_be_read(synthetic_study, loaded):
    figure = landscape(loaded(synthetic_study(candidates=14, trials=60)))
    figure.canvas.draw()
    axes = figure.axes[0]
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert set(boxes) == {str(place) for place in range(1, 15)}
    assert [(a, b) for a, b in combinations(boxes, 2) if boxes[a].overlaps(boxes[b])] == []


@pytest.mark.parametrize(
    ("keys", "stopped", "words"),
    [
        (("gamma", "c"), True, f"{NOT_COMPARABLE} it has no colour."),
        (("gamma",), True, f"{NOT_COMPARABLE} it lies in the strip below."),
        (("gamma", "c"), False, ""),
        (("gamma",), False, ""),
    ],
)
def test_the_words_below_a_landscape_are_about_what_is_in_it(synthetic_study, loaded, keys, stopped, words):
    study = synthetic_study(searched=keys)
    kept = [r for r in study.records if stopped or r.stage != "search" or r.status == "completed"]
    rings = " The number beside a ring is that of its candidate: 1 is candidate-1." if len(keys) == 2 else ""
    assert landscape_words(loaded(study.with_records(kept))) == f"Search: each point is one trial.{rings}{words}"
