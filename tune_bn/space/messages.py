"""From pydantic's account of what is wrong with a space file to the one line that a user reads."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tune_bn.errors import ConfigError

_LONGEST_QUOTE = 120
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument", "invalid_key")


def section_of(annotation: Any) -> Any:
    """The class of a section that may be null."""
    return next((part for part in get_args(annotation) if hasattr(part, "model_fields")), annotation)


def keys_of(section: Any) -> list[str]:
    """The keys of a section, be it a pydantic model or a dataclass, in the order of their declaration."""
    section = section_of(section)
    return [item.name for item in fields(section)] if is_dataclass(section) else list(section.model_fields)


def did_you_mean(key: str, known: Sequence[str], section: str = "") -> str:
    """What would be accepted in place of an unknown key: the closest first, as it is written after ``--set``."""
    close = difflib.get_close_matches(key, known, n=1)
    return (f"{section}{close[0]} (did you mean it?), or " if close else "") + "one of " + ", ".join(known)


def accepted_words(field: FieldInfo) -> str:
    """What a field of a pydantic model accepts, in the words of its declaration; for a section, its keys."""
    if isinstance(field.json_schema_extra, dict):
        return str(field.json_schema_extra["accepted"])
    return f"a mapping with the keys {', '.join(keys_of(field.annotation))}"


def error_line(error: ValidationError, source: str, root: type[BaseModel]) -> str:
    """The first problem as ``SOURCE: KEY: got VALUE; accepted: WORDS``, and how many other places have one."""
    problems = error.errors(include_url=False)
    # An unknown key is the likeliest cause of whatever else is wrong.
    first = next((problem for problem in problems if problem["type"] in _UNKNOWN_KEY), problems[0])
    # The members of a union complain one by one, of one and the same value.
    others = len({_place(problem["loc"]) for problem in problems}) - 1
    tail = f" (and {others} more)" if others else ""
    place = _place(first["loc"])
    if first["type"] == "missing":
        return f"{source}: {place}: is missing; accepted: {_accepted(first['loc'], root)}{tail}"
    value: Any = first["input"]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        # A check of one section knows its own keys alone.
        place = f"{place}.{cause.key}" if place else cause.key
        value, accepted = cause.value, cause.accepted
    elif first["type"] in _UNKNOWN_KEY:
        owner: Any = root if len(first["loc"]) == 1 else root.model_fields[str(first["loc"][0])].annotation
        section = place.rpartition(".")[0]
        key = str(first["loc"][-1])
        accepted = did_you_mean(key, keys_of(owner), f"{section}." if section else "")
        if not section and (elsewhere := _sections_with(key, root)):
            accepted = f"{' or '.join(elsewhere)} (did you mean it?), or {accepted}"
        return f"{source}: {_short(place)}: no such key; accepted: {accepted}{tail}"
    else:
        accepted = _accepted(first["loc"], root)
    return value_line(source, place, value, accepted) + tail


def _sections_with(key: str, root: type[BaseModel]) -> list[str]:
    """A key that was named without its section, as it is written after ``--set``."""
    sections = {name: section_of(field.annotation) for name, field in root.model_fields.items()}
    return [
        f"{name}.{key}"
        for name, section in sections.items()
        if (is_dataclass(section) or hasattr(section, "model_fields")) and key in keys_of(section)
    ]


def value_line(source: str, place: str, value: Any, accepted: str) -> str:
    """One value that is not accepted, as ``SOURCE: KEY: got VALUE; accepted: WORDS``."""
    return f"{source}: {_short(place)}: got {_short(repr(value))}; accepted: {accepted}"


def spec_words(spec: object) -> str:
    """A distribution as the space file states it: ``log_uniform [0.01, 1.0]``."""
    if isinstance(spec, dict) and len(spec) == 1:
        ((kind, body),) = spec.items()
        return f"{kind} {spec_words(body)}"
    return f"[{', '.join(map(spec_words, spec))}]" if isinstance(spec, list) else str(spec)


def _place(loc: Sequence[str | int]) -> str:
    # Deeper parts are pydantic's names for the members of a union, or the place within a list.
    return ".".join(str(part) for part in loc[:2])


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"


def _accepted(loc: Sequence[str | int], root: type[BaseModel]) -> str:
    field = root.model_fields[str(loc[0])]
    section: Any = section_of(field.annotation)
    if len(loc) > 1 and is_dataclass(section):
        return next(str(item.metadata["accepted"]) for item in fields(section) if item.name == loc[1])
    if len(loc) > 1 and hasattr(section, "model_fields"):
        return accepted_words(section.model_fields[str(loc[1])])
    return accepted_words(field)
