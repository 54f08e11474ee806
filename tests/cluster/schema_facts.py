"""Facts of other projects' published schemas, kept as tables, and documents checked against them.

A table is a file of tab-separated lines: two of comment with its source and licence, a heading, then a key each: of
what kind of object, its path (items of a list are at ``path[]``), its type, since when it is known, whether it must be
there, and the values that it takes where they are counted. The scripts beside this one make them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADING = "kind\tpath\ttype\tsince\trequired\tvalues"
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "int64": (int, str),  # as Google writes them
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "map": (dict,),
}


@dataclass(frozen=True)
class Fact:
    """One key; ``type`` is one of :data:`TYPES` (``map``: keys of one's own), ``any``, or ``other:`` and a name."""

    type: str
    values: tuple[str, ...] = ()
    required: bool = False
    since: str = ""

    def line(self, kind: str, path: str) -> str:
        """Its line in a table."""
        return "\t".join([kind, path, self.type, self.since, "required" * self.required, ",".join(self.values)])


class Table:
    """A table of facts.

    Args:
        path: its file.
    """

    def __init__(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        self.source, self.licence = lines[:2]
        self._facts: dict[str, dict[str, Fact]] = {}
        assert lines[2] == HEADING
        for line in lines[3:]:
            kind, where, type_, since, required, values = line.split("\t")
            fact = Fact(type_, tuple(filter(None, values.split(","))), required == "required", since)
            self._facts.setdefault(kind, {})[where] = fact

    def faults(self, kind: str, node: dict[str, Any]) -> list[str]:
        """What those who published the schema would refuse or drop."""
        return [*_faults(self._facts[kind], node, "")]

    def since(self, kind: str, node: dict[str, Any]) -> str:
        """The release that a document without faults needs."""
        known = self._facts[kind]
        return max(known[path].since for path in _paths(known, node, ""))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _faults(known: dict[str, Fact], node: dict[str, Any], path: str) -> Iterator[str]:
    for where, fact in known.items():
        parent, _, name = where.rpartition(".")
        if fact.required and parent == path and name not in node:
            yield f"{where}: missing"
    for name, value in node.items():
        where = _below(path, name)
        fact = known.get(where)
        if fact is None:
            yield f"{where}: unknown"
        elif fact.type in TYPES:
            yield from _faults_of_value(known, fact, value, where)


def _faults_of_value(known: dict[str, Fact], fact: Fact, value: Any, where: str) -> Iterator[str]:
    if type(value) not in TYPES[fact.type]:
        yield f"{where}: got {value!r}; accepted: {fact.type}"
    elif fact.values and value not in fact.values:
        yield f"{where}: got {value!r}; accepted: {', '.join(fact.values)}"
    elif fact.type == "map":
        bad = {key: item for key, item in value.items() if type(item) is not str}
        yield from (f"{where}.{key}: got {item!r}; accepted: string" for key, item in bad.items())
    else:
        for part, at in _parts(fact, value, where):
            yield from _faults(known, part, at)


def _paths(known: dict[str, Fact], node: dict[str, Any], path: str) -> Iterator[str]:
    for name, value in node.items():
        where = _below(path, name)
        yield where
        for part, at in _parts(known[where], value, where):
            yield from _paths(known, part, at)


def _parts(fact: Fact, value: Any, where: str) -> Iterable[tuple[dict[str, Any], str]]:
    """The objects below a value, each with its path."""
    if fact.type == "object":
        return [(value, where)]
    return [(item, f"{where}[]") for item in value if isinstance(item, dict)] if fact.type == "array" else []
