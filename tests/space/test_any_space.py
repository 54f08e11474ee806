"""Any content of a file is a space, or an error of one line."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.space.small_spaces import LEAST, SECTIONS, problem_of, space
from tune_bn.space.loading import parse_space
from tune_bn.space.trainer import TrainerSection

VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["tpe", "asha", "none", "resnet8", 10**400, math.nan, {"from": 1, "to": 3}, [1, 2]])
)
TREES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def section(name: str) -> st.SearchStrategy[Any]:
    """Content of a section: often with its own keys, which lead past the first check."""
    if name in ("name", "search"):
        keys = st.sampled_from(["gamma", "c", "lr", "epochs", "arch"]) | st.text(max_size=5)
        kinds = st.sampled_from(["log_uniform", "uniform", "int", "log_int", "choice"])
        bodies = st.lists(VALUES, max_size=3) | TREES
        spec = st.dictionaries(kinds, bodies, min_size=1, max_size=2)
        return st.dictionaries(keys, spec | TREES, max_size=3) if name == "search" else st.just("x") | TREES
    # Without a training code of the user's there is no such section.
    own = list(TrainerSection.model_fields) if name == "trainer" else list(space().to_dict()[name])
    return st.dictionaries(st.sampled_from(own) | st.text(max_size=5), TREES, max_size=3) | TREES


CONTENT = st.fixed_dictionaries({}, optional={name: section(name) for name in SECTIONS}) | st.dictionaries(
    st.text(max_size=5) | st.integers(), TREES
)


@pytest.mark.long
@settings(deadline=None, max_examples=300)
@given(CONTENT | TREES, st.booleans())
def test_any_content_is_a_space_or_an_error_of_one_line(given: Any, merged: bool) -> None:
    if merged and isinstance(given, dict):
        given = LEAST | given
    problem = problem_of(given)
    assert len(problem.splitlines()) <= 1
    if not problem:
        assert parse_space(parse_space(given, "x").to_dict(), "y").sha256 == parse_space(given, "x").sha256
