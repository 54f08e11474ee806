"""What a search proposes first: start points and grids, with conditions between keys."""

from __future__ import annotations

from typing import Any

import pytest

from tune_bn.errors import ConfigError
from tune_bn.space.search import PAPER_GAMMAS, SearchSpace

GAMMA = {"log_uniform": [0.04, 0.6]}
LR = {"choice": [0.1, 0.01]}
BY_LR = {"cases": [{"lr": 0.1, "log_uniform": [0.1, 1.0]}, {"lr": 0.01, "log_uniform": [0.01, 0.3]}]}
INSIDE = [0.05, 0.1, 0.25, 0.5]


def searched(arch: str | None = "resnet8", **search: Any) -> SearchSpace:
    return SearchSpace(search, arch)


def test_the_grid_is_every_combination_with_the_values_of_the_paper() -> None:
    grid = searched(gamma=GAMMA, c={"log_uniform": [1, 1000]}, lr=LR).grid()
    assert grid == [{"gamma": gamma, "c": 100.0, "lr": lr} for gamma in INSIDE for lr in (0.1, 0.01)]


def test_the_grid_of_cases_leaves_out_what_lies_in_no_case() -> None:
    grid = searched(gamma=BY_LR, lr=LR).grid()
    assert {(point["lr"], point["gamma"]) for point in grid} == {
        *((0.1, gamma) for gamma in PAPER_GAMMAS if gamma >= 0.1),
        *((0.01, gamma) for gamma in PAPER_GAMMAS if gamma <= 0.3),
    }


@pytest.mark.parametrize("search", [{"momentum": {"uniform": [0.5, 0.9]}}, {"c": {"uniform": [1, 10]}}])
def test_a_range_without_values_in_the_paper_has_no_grid(search: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a choice, since the sampler is grid"):
        searched(gamma=GAMMA, **search).grid()


def test_a_point_without_the_key_that_a_range_depends_on_is_tried_with_each_of_its_values() -> None:
    points = searched(gamma=BY_LR, lr=LR).start_points([{"gamma": 0.2}, {"gamma": 0.02, "lr": 0.01}, {"gamma": 0.02}])
    assert points == [{"gamma": 0.2, "lr": 0.1}, {"gamma": 0.2, "lr": 0.01}, {"gamma": 0.02, "lr": 0.01}]


def test_a_point_outside_its_case_is_refused() -> None:
    space = searched(gamma=BY_LR, lr=LR)
    space.check_point("p", {"gamma": 0.05, "lr": 0.01})
    with pytest.raises(ConfigError, match=r"p\.gamma: got 0\.05; accepted: a value of"):
        space.check_point("p", {"gamma": 0.05, "lr": 0.1})
    with pytest.raises(ConfigError, match=r"p\.epochs: got 3; accepted: searched keys: gamma, lr"):
        space.check_point("p", {"epochs": 3})


def test_one_gamma_stands_for_each_of_its_parts() -> None:
    by_stage = searched(gamma={"per_stage": [GAMMA, GAMMA, 0.5]})
    assert by_stage.start_points([{"gamma": 0.5}, {"gamma": 0.1}, {"gamma": {"per_stage": [0.1, 0.2, 0.5]}}]) == [
        {"gamma.1": 0.5, "gamma.2": 0.5, "gamma.3": 0.5},
        {"gamma.1": 0.1, "gamma.2": 0.2, "gamma.3": 0.5},
    ]
    with pytest.raises(ConfigError, match=r"p\.gamma: got 0\.1"):
        by_stage.check_point("p", {"gamma": 0.1})
    assert len(by_stage.grid()) == len(INSIDE) ** 2


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"gamma": {"cases": []}}, "search.gamma.cases: got .*with one entry for each value of a searched choice"),
        ({"gamma": {"cases": [{"lr": 0.1, "log_uniform": [0.1, 1]}]}, "lr": LR}, "one entry for each value of lr"),
        ({"gamma": {"cases": [{"lr": 0.1, "log_uniform": [2, 1]}]}, "lr": LR}, "search.gamma.cases.0.log_uniform"),
        ({"gamma": BY_LR}, r"search.gamma.cases.0: got \{'lr': 0.1"),
        ({"gamma": BY_LR, "lr": {"log_uniform": [0.01, 0.1]}}, "one entry for each value of lr, a choice"),
    ],
)
def test_cases_that_do_not_fit_are_refused(search: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SearchSpace(search, "resnet8")
