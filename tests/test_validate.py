"""What ``tune_bn validate`` counts, and what it refuses before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tune_bn.errors import DataError, TrackingError
from tune_bn.spec import Space, parse_space
from tune_bn.validate import check_surroundings, describe, planned

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits", "train_size": 41, "val_size": 40, "test_size": 40},
    "train": {"epochs": 2, "batch_size": 20},
    "model": {"arch": "resnet8"},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}},
    "budget": {"trials": 9, "finalists": 2},
    "seeds": {"search": [101, 102], "select": [201, 202, 203], "confirm": [1, 2, 3, 4]},
}


def space_with(**sections: Any) -> Space:
    return parse_space({**CONTENT, **sections}, "tiny")


@pytest.mark.parametrize("train", [{"batch_size": 20}, {"batch_size": 40}])
def test_a_last_batch_of_one_image_is_refused(train: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"train\.batch_size: got \d+, which leaves a last batch of one of 41 images"):
        check_surroundings(space_with(train={"epochs": 2, **train}))


def test_a_searched_batch_size_is_checked_too() -> None:
    search = {**CONTENT["search"], "batch_size": {"choice": [21, 8]}}
    with pytest.raises(DataError, match="got 8, which"):
        check_surroundings(space_with(search=search))


def test_a_short_last_batch_is_kept() -> None:
    assert check_surroundings(space_with(train={"epochs": 2, "batch_size": 39})).train_size == 41


def test_a_tracking_store_that_mlflow_refuses_is_refused() -> None:
    with pytest.raises(TrackingError, match="gopher"):
        check_surroundings(space_with(train={"batch_size": 39}, tracking={"uri": "gopher://x"}))


def test_runs_are_counted_by_stage() -> None:
    plan = planned(space_with())
    assert (plan.trials, plan.search, plan.select, plan.confirm) == (9, 9 * 2, 2 * 3, 2 * 4)
    # With a nuisance key the baseline is searched and selected as well, on the same budget of trials.
    plan = planned(space_with(search={**CONTENT["search"], "lr": {"choice": [0.1, 0.01]}}))
    assert (plan.trials, plan.search, plan.select, plan.confirm) == (9, 9 * 2, 4 * 3, 2 * 4)


def test_the_answer_names_the_space_and_its_cost() -> None:
    text = describe(space_with(train={"epochs": 2, "batch_size": 39}), Path("tiny.yaml"))
    assert text.startswith("tiny.yaml: valid")
    assert "41 train, 40 validation, 40 test" in text
    assert f"at most {18 + 6 + 8} runs" in text
