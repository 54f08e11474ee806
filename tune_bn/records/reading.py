"""JSON files as frozen dataclasses: one reader for all of them.

The types of a dataclass are what its file may hold. A file that holds something else is told of by one line with the
place, the value and what would be accepted, such as ``layers[0].gamma.mean: got 'x'; accepted: int or float or null``.
Where one of several dataclasses may stand, it is the one that has most of the keys. A type may be narrowed:
``Annotated[float, Check(lambda value: …, "a number from 0 to 1")]``, or ``Annotated[Score, ReadBy(score_from)]`` of a
class that reads itself. :func:`as_json` is the way back.
"""

from __future__ import annotations

import json
import math
import reprlib
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from tune_bn.errors import ConfigError, RecordError
from tune_bn.records.files import read_bytes

Kind = TypeVar("Kind")
Read = Callable[[Any, str], Any]
"""Gives the value as it stands in the dataclass; raises :class:`Refused` with the place that it is called with."""

# Not isinstance: true is no number.
_PLAIN: Mapping[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "str"),
    int: ((int,), "int"),
    bool: ((bool,), "true or false"),
    float: ((int, float), "int or float"),
    types.NoneType: ((types.NoneType,), "null"),
}

_OBJECTS = (Mapping, dict, types.MappingProxyType)


class Refused(ValueError):
    """``place: got …; accepted: …``."""

    def __init__(self, place: str, value: Any, accepted: str) -> None:
        super().__init__(f"{place}: got {reprlib.repr(value)}; accepted: {accepted}")


class OddKeys(Refused):
    """``place: missing or unknown key; accepted: exactly …``."""

    def __init__(self, place: str, accepted: Sequence[str]) -> None:
        ValueError.__init__(self, f"{place}: missing or unknown key; accepted: exactly {', '.join(accepted)}")


class RefusedWithin(Refused):
    """What a class that reads itself says, with the place before its key."""

    def __init__(self, place: str, error: ConfigError) -> None:
        ValueError.__init__(self, f"{place}.{error}")


@dataclass(frozen=True)
class Check:
    """What a value of JSON must be beside its type; its words are said of a value of another type, too."""

    holds: Callable[[Any], bool]
    accepted: str


@dataclass(frozen=True)
class ReadBy:
    """How a value of JSON is read that is no dataclass of plain fields; raises :class:`ConfigError`."""

    read: Callable[[Any], Any]


class ExactKeys:
    """Base of a dataclass that is read from exactly the keys that belong to its other keys, no more and no less."""

    @classmethod
    def keys(cls, content: Mapping[str, Any]) -> list[str]:
        """The keys that there must be: those without a default, and those with one that are there."""
        return [item.name for item in fields(cls) if _is_needed(item) or item.name in content]  # type: ignore[arg-type]


class MoreKeys:
    """Base of a dataclass that passes over keys that it does not have, as of a file that a later version wrote."""


def read_as(kind: type[Kind], path: Path, *, what: str, lenient: bool = False, required: Sequence[str] = ()) -> Kind:
    """The file as a dataclass.

    Args:
        kind: the dataclass. Its fields may be anything, text, numbers, booleans, null, objects of any content
            (``Mapping[str, Any]``), tuples of one type, other dataclasses, and unions of these.
        path: of the file.
        what: the file in a word or two, for messages.
        lenient: pass over keys that the dataclass does not have.
        required: keys that must be there although their fields have defaults.

    Raises:
        RecordError: it cannot be read, is no JSON, lacks a key, or holds one that is unknown or of another type. A file
            that is missing is a :class:`FileNotFoundError` all the same, as the cause of the error.
    """
    try:
        return from_json(kind, json.loads(read_bytes(path)), lenient=lenient, required=required)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error}); accepted: {what}") from error
    except Refused as error:
        raise RecordError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: no {what} ({error}); accepted: the file as it was written") from None


def from_json(
    kind: type[Kind], content: Any, *, place: str = "", lenient: bool = False, required: Sequence[str] = ()
) -> Kind:
    """A value of JSON as a dataclass.

    Raises:
        Refused: it lacks a key, or holds one that is unknown or of another type.
    """
    if type(content) is not dict:
        raise Refused(place or "content", content, "an object")
    readers = _readers(cast(Hashable, kind))
    made = {}
    lenient = lenient or issubclass(kind, MoreKeys)
    if issubclass(kind, ExactKeys):
        accepted = kind.keys(content)
        odd = sorted(set(content) ^ set(accepted))
        if odd:
            raise OddKeys(f"{place}.{odd[0]}" if place else odd[0], accepted)
        # The first fault is that of the first field, in whatever order a file has its keys.
        content = {key: content[key] for key in accepted}
    for key, value in content.items():
        if key in readers:
            made[key] = readers[key](value, f"{place}.{key}" if place else key)
        elif not lenient:
            raise Refused(f"{place}.{key}" if place else str(key), value, f"no such key; {_keys(readers)}")
    for item in fields(kind):  # type: ignore[arg-type]
        if item.name not in made and (_is_needed(item) or item.name in required):
            raise Refused(f"{place}.{item.name}" if place else item.name, "nothing", _keys(readers))
    return kind(**made)


def as_json(value: Any) -> Any:
    """The inverse of :func:`from_json`: fields that hold their default are left out. Content is not copied."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Mapping) and any(map(_is_made, value.values())):
        return {key: as_json(item) for key, item in value.items()}
    return fields_as_json(value) if is_dataclass(value) else value


def _is_made(value: Any) -> bool:
    """Whether it is a dataclass, or an object that holds some."""
    return is_dataclass(value) or (isinstance(value, Mapping) and any(map(_is_made, value.values())))


def fields_as_json(value: Any) -> dict[str, Any]:
    """The same of a dataclass whose ``to_json`` says more than this."""
    known = {item.name: (item, getattr(value, item.name)) for item in fields(value)}
    return {name: as_json(found) for name, (item, found) in known.items() if _is_needed(item) or found != item.default}


def _is_needed(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def check_types(value: Any, place: str = "", *, but: frozenset[str] = frozenset()) -> None:
    """Check a dataclass that was made of the values of JSON as they stand; its fields must be plain.

    Raises:
        Refused: a field holds another type.
    """
    for name, (allowed, accepted) in _plain_types(cast(Hashable, type(value))).items():
        if type(found := getattr(value, name)) not in allowed and name not in but:
            raise Refused(f"{place}{name}", found, accepted)


def _keys(readers: Mapping[str, Read]) -> str:
    return f"exactly {', '.join(readers)}"


@cache
def _readers(kind: Any) -> dict[str, Read]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {item.name: _reader(hints[item.name]) for item in fields(kind)}


@cache
def _plain_types(kind: Any) -> dict[str, tuple[tuple[type, ...], str]]:
    hints = typing.get_type_hints(kind)
    return {item.name: _plain(hints[item.name]) for item in fields(kind)}


def _plain(hint: Any) -> tuple[tuple[type, ...], str]:
    """The types that a value may have, and the words for them."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        parts = [_plain(part) for part in typing.get_args(hint)]
        return tuple(kind for allowed, _ in parts for kind in allowed), " or ".join(accepted for _, accepted in parts)
    if origin in _OBJECTS:
        return (dict,), "dict"
    if origin is tuple:
        return (list,), "list"
    if is_dataclass(hint):
        return (dict,), "an object"
    raise TypeError(f"{hint!r} is nothing that is read from JSON")


def _reader(hint: Any) -> Read:
    if typing.get_origin(hint) is typing.Annotated:
        plain, extra = typing.get_args(hint)
        return _read_by(extra) if isinstance(extra, ReadBy) else _checked(extra, _reader(plain))
    if hint is Any:
        return lambda value, place: value
    allowed, accepted = _plain(hint)
    parts = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    nested = [part for part in parts if is_dataclass(part)]
    items = next((_items(part) for part in parts if typing.get_origin(part) is tuple), None)
    values = next((_values(part) for part in parts if typing.get_origin(part) in _OBJECTS), None)

    def read(value: Any, place: str) -> Any:
        if type(value) not in allowed or (type(value) is float and not math.isfinite(value)):
            raise Refused(place, value, accepted)
        if nested and type(value) is dict:
            kind = max(nested, key=lambda one: len(_readers(cast(Hashable, one)).keys() & value.keys()))
            return from_json(typing.cast("type[Any]", kind), value, place=place)
        if values is not None and type(value) is dict:
            return {key: values(one, f"{place}.{key}") for key, one in value.items()}
        return value if items is None or type(value) is not list else items(value, place)

    return read


def _items(hint: Any) -> Read:
    """Reads a list as a tuple of one type, or of one type for each place."""
    parts = typing.get_args(hint)
    if parts[-1] is Ellipsis:
        item = _reader(parts[0])
        return lambda value, place: tuple(item(one, f"{place}[{index}]") for index, one in enumerate(value))
    each = [_reader(part) for part in parts]

    def read(value: Any, place: str) -> Any:
        if len(value) != len(each):
            raise Refused(place, value, f"a list of {len(each)}")
        return tuple(item(one, f"{place}[{index}]") for index, (item, one) in enumerate(zip(each, value, strict=True)))

    return read


def _values(hint: Any) -> Read | None:
    """Reads the values of an object that are dataclasses, or objects of them; None where they are plain."""
    value = typing.get_args(hint)[1]
    inner = value
    while typing.get_origin(inner) in _OBJECTS:
        inner = typing.get_args(inner)[1]
    return _reader(value) if is_dataclass(inner) else None


def _checked(check: Check, inner: Read) -> Read:
    def read(value: Any, place: str) -> Any:
        if not check.holds(value):
            raise Refused(place, value, check.accepted)
        return inner(value, place)

    return read


def _read_by(how: ReadBy) -> Read:
    def read(value: Any, place: str) -> Any:
        try:
            return how.read(value)
        except ConfigError as error:
            raise RefusedWithin(place, error) from None

    return read
