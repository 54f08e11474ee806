"""What a space file says of a searched key becomes a distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tune_bn.errors import ConfigError
from tune_bn.method.config import LINEAR, PER_STAGE, STAGES, gamma_parts
from tune_bn.protocols.distributions import Cases, Choice, Distribution, Range

KINDS = (
    "{log_uniform: [low, high]}, {uniform: [low, high]}, {int: [low, high]}, {log_int: [low, high]} or "
    "{choice: [a, b, …]}"
)


CASES = "cases"


LARGEST_BOUND = 2.0**53
"""Bounds lie within ±2⁵³, where a float still holds every integer."""


def parse_distribution(place: str, spec: Any) -> Range | Choice:
    """Read ``{kind: …}``. Raises :class:`ConfigError` with ``place`` where it is not a distribution."""
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise ConfigError(place, spec, KINDS)
    ((kind, body),) = spec.items()
    place = f"{place}.{kind}"
    if kind == "choice":
        if not isinstance(body, list) or not body or any(isinstance(v, list | Mapping) or v is None for v in body):
            raise ConfigError(place, body, "a list of one or more plain values")
        if any(value in body[:index] for index, value in enumerate(body)):
            raise ConfigError(place, body, "values that differ")
        return Choice(tuple(body))
    if kind not in ("log_uniform", "uniform", "int", "log_int"):
        raise ConfigError(place, body, KINDS)
    log, integer = kind.startswith("log"), kind.endswith("int")
    accepted = "[low, high] with " + ("0 < low < high" if log else "low < high") + (", integers" if integer else "")
    if not isinstance(body, list) or len(body) != 2:
        raise ConfigError(place, body, accepted)
    low, high = body
    kinds = (int,) if integer else (int, float)
    if type(low) not in kinds or type(high) not in kinds:
        raise ConfigError(place, body, accepted)
    # Not "low >= high": NaN fails every comparison.
    if not low < high or (log and low <= 0):
        raise ConfigError(place, body, accepted)
    if low < -LARGEST_BOUND or high > LARGEST_BOUND:
        raise ConfigError(place, body, f"{accepted}, within ±2^53")
    return Range(low, high, log, integer) if integer else Range(float(low), float(high), log)


def parse_search(search: Mapping[str, Any], arch: str | None) -> dict[str, Distribution]:
    """The searched keys with their distributions; a γ by stage or depth becomes one key for each of its numbers.

    ``gamma: {per_stage: [D, …]}`` gives ``gamma.1``, ``gamma.2``, …; ``gamma: {linear: [D, D]}`` gives ``gamma.start``
    and ``gamma.end``. A D is a distribution or a fixed number. One D in place of the list stands for every number;
    per stage this takes a network whose number of stages is known beforehand.

    Args:
        search: the section of the space file.
        arch: the network, or None where it is searched.

    Raises:
        ConfigError: what is there is not acceptable.
    """
    found: dict[str, Distribution] = {}
    for key, spec in search.items():
        if key == "gamma" and isinstance(spec, Mapping) and set(spec) in ({PER_STAGE}, {LINEAR}):
            ((kind, parts),) = spec.items()
            found |= _by_place(f"search.gamma.{kind}", kind, parts, arch)
        elif isinstance(spec, Mapping) and set(spec) == {CASES}:
            found[key] = _cases(f"search.{key}.{CASES}", key, spec[CASES], search)
        else:
            found[key] = parse_distribution(f"search.{key}", spec)
    return found


def _cases(place: str, key: str, cases: Any, search: Mapping[str, Any]) -> Cases:
    accepted = (
        "a list such as [{lr: 0.1, log_uniform: [0.05, 1]}, {lr: 0.01, log_uniform: [0.01, 0.2]}], with one entry for "
        "each value of a searched choice"
    )
    if not isinstance(cases, list) or not cases or not all(isinstance(c, Mapping) and len(c) == 2 for c in cases):
        raise ConfigError(place, cases, accepted)
    conditions = {name for case in cases for name in case if name in search and name != key}
    found: dict[Any, Range | Choice] = {}
    for index, case in enumerate(cases):
        if len(conditions) != 1 or not conditions & set(case):
            raise ConfigError(f"{place}.{index}", dict(case), accepted)
        (other,) = conditions
        found[case[other]] = parse_distribution(
            f"{place}.{index}", {name: body for name, body in case.items() if name != other}
        )
    choice = search[other]
    values = choice.get("choice") if isinstance(choice, Mapping) else None
    if not isinstance(values, list) or len(found) != len(cases) or set(found) != set(values):
        raise ConfigError(place, cases, f"one entry for each value of {other}, a choice: {choice}")
    return Cases(other, tuple(found.items()))


def _by_place(place: str, kind: str, parts: Any, arch: str | None) -> dict[str, Distribution]:
    count = 2 if kind == LINEAR else STAGES.get(arch or "")
    words = "[first, last]" if kind == LINEAR else "a list with one for each stage of the network"
    if isinstance(parts, Mapping):
        if count is None:
            raise ConfigError(place, parts, f"{words}: how many {arch or 'a searched network'} has is not known here")
        parts = [parts] * count
    if not isinstance(parts, list) or not parts or (count is not None and len(parts) != count):
        number = "" if count is None else f", {count} in all"
        raise ConfigError(place, parts, f"{words}{number}; each a distribution or a number")
    names = gamma_parts({kind: [1.0] * len(parts)})
    return {
        name: Choice((float(part),)) if type(part) in (int, float) else parse_distribution(f"{place}.{index}", part)
        for index, (name, part) in enumerate(zip(names, parts, strict=True))
    }
