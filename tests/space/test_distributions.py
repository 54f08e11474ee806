import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_bn.errors import ConfigError
from tune_bn.protocols.distributions import Choice, Range
from tune_bn.space.distributions import parse_distribution, parse_search


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


D = {"log_uniform": [0.01, 1.0]}
LOG = Range(0.01, 1.0, log=True)


@pytest.mark.parametrize(
    ("gamma", "arch", "found"),
    [
        (D, "resnet18", {"gamma": LOG}),
        ({"per_stage": [D, 0.5]}, "package.module:net", {"gamma.1": LOG, "gamma.2": Choice((0.5,))}),
        ({"per_stage": D}, "resnet18", {f"gamma.{stage}": LOG for stage in (1, 2, 3, 4)}),
        ({"per_stage": D}, "resnet8", {f"gamma.{stage}": LOG for stage in (1, 2, 3)}),
        ({"linear": [D, 1]}, None, {"gamma.start": LOG, "gamma.end": Choice((1.0,))}),
        ({"linear": D}, None, {"gamma.start": LOG, "gamma.end": LOG}),
    ],
)
def test_a_gamma_by_place_is_searched_number_by_number(gamma, arch, found) -> None:
    assert parse_search({"gamma": gamma, "c": D}, arch) == {**found, "c": LOG}


@pytest.mark.parametrize(
    ("gamma", "arch", "words"),
    [
        ({"per_stage": D}, None, "search.gamma.per_stage: got .*; accepted: .*how many a searched network has"),
        ({"per_stage": D}, "torchvision/vgg11_bn", "how many torchvision/vgg11_bn has is not known here"),
        ({"per_stage": [D, D]}, "resnet18", "one for each stage of the network, 4 in all"),
        ({"per_stage": []}, "package.module:net", r"got \[\]; accepted: a list"),
        ({"linear": [D, D, D]}, None, r"accepted: \[first, last\], 2 in all"),
        ({"linear": [D, {"uniform": [2, 1]}]}, None, r"search.gamma.linear.1.uniform: got \[2, 1\]"),
        ({"per_stage": [D, "x"]}, None, "search.gamma.per_stage.1: got 'x'"),
    ],
)
def test_a_gamma_by_place_that_cannot_be_searched_is_refused(gamma, arch, words) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_search({"gamma": gamma}, arch)
