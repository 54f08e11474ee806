"""The least that a space must say, and more."""

import copy
from typing import Any

from tune_bn.errors import SpecError
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space

LEAST: dict[str, Any] = {"name": "x", "search": {"gamma": {"log_uniform": [0.01, 1]}, "c": {"log_uniform": [1, 1000]}}}
SECTIONS = list(Space.model_fields)


def content(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(LEAST) | changes


def space(**changes: Any) -> Space:
    return parse_space(content(**changes), "x.yaml")


def problem_of(given: Any) -> str:
    """What is said against this content; nothing where it is a space."""
    try:
        parse_space(given, "x.yaml")
    except SpecError as error:
        return str(error)
    return ""
