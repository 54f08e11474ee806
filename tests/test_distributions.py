import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_bn.distributions import Choice, Range, parse_distribution
from tune_bn.errors import ConfigError


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"log_uniform": [0.01, 1]}, Range(0.01, 1.0, log=True)),
        ({"uniform": [-1, 0]}, Range(-1.0, 0.0)),
        ({"int": [0, 3]}, Range(0, 3, integer=True)),
        ({"log_int": [1, 1000]}, Range(1, 1000, log=True, integer=True)),
        ({"choice": ["cosine"]}, Choice(("cosine",))),
        ({"choice": [0.1, 0.01]}, Choice((0.1, 0.01))),
    ],
)
def test_the_five_kinds(spec: dict[str, Any], expected: Range | Choice) -> None:
    assert parse_distribution("search.x", spec) == expected


@pytest.mark.parametrize("kind", ["log_uniform", "uniform", "int", "log_int"])
@pytest.mark.parametrize(
    "bounds",
    [
        [2, 1],
        [1, 1],
        [math.nan, 2],
        [1, math.nan],
        [-math.inf, 2],
        [1, math.inf],
        [1, 10**400],
        [1],
        [1, 2, 3],
        [],
        "1, 2",
        3,
        None,
        [True, 2],
        ["1", 2],
        [None, 2],
        {"low": 1, "high": 2},
    ],
)
def test_bounds_that_are_no_range_are_refused(kind: str, bounds: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^search\.x\.{kind}: got .*; accepted: \[low, high\] with .*low < high"):
        parse_distribution("search.x", {kind: bounds})


@pytest.mark.parametrize("kind", ["log_uniform", "log_int"])
@pytest.mark.parametrize("low", [0, -1])
def test_a_log_scale_begins_above_zero(kind: str, low: int) -> None:
    with pytest.raises(ConfigError, match="0 < low < high"):
        parse_distribution("search.c", {kind: [low, 10]})


@pytest.mark.parametrize("kind", ["int", "log_int"])
def test_bounds_of_integers_are_integers(kind: str) -> None:
    with pytest.raises(ConfigError, match="integers"):
        parse_distribution("search.epochs", {kind: [1.0, 10]})


@pytest.mark.parametrize("values", [[], "ab", None, 3, [None], [[1]], [{}], [1, 1], [1, 1.0], ["a", "a"]])
def test_a_choice_has_different_plain_values(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"^search\.lr\.choice: got"):
        parse_distribution("search.lr", {"choice": values})


@pytest.mark.parametrize(
    "spec", [None, 0.1, [0.1, 1], "uniform", {}, {"uniform": [0, 1], "choice": [1]}, {"normal": [0, 1]}]
)
def test_what_is_no_distribution_is_told_what_there_is(spec: Any) -> None:
    with pytest.raises(ConfigError, match=r"accepted: \{log_uniform: .*\{choice: "):
        parse_distribution("search.gamma", spec)


def test_a_range_contains_its_bounds_and_what_lies_between() -> None:
    floats, integers = Range(0.1, 1.0), Range(1, 8, integer=True)
    assert all(floats.contains(value) for value in (0.1, 0.5, 1, 1.0))
    assert not any(floats.contains(value) for value in (0.09, 1.01, math.nan, math.inf, -math.inf, True, "0.5", None))
    assert all(integers.contains(value) for value in (1, 8, 2.0))
    assert not any(integers.contains(value) for value in (0, 9, 1.5, math.nan, math.inf, True))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_a_range_contains_its_corners(low: float, high: float) -> None:
    try:
        distribution = parse_distribution("search.lr", {"uniform": [low, high]})
    except ConfigError:
        assert low >= high or max(abs(low), abs(high)) > 2**53
    else:
        assert distribution.corners == (low, high)
        assert all(distribution.contains(corner) for corner in distribution.corners)
