"""Reading and writing the YAML of a space file.

Files may come from a stranger: they are small, and hold no aliases, tags or duplicate keys. Plain values are read by
the rules of YAML 1.2, so ``1e-4`` is a number, and ``on``, ``010``, ``1:30`` and ``2020-01-01`` are text; PyYAML's own
rules are those of YAML 1.1, where they are true, 8, 90 and a date.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tune_bn.errors import SpecError
from tune_bn.records.files import read_bytes

MAX_BYTES = 1_048_576
"""A space file is a page of text; what is larger is not one."""

# Tag, pattern, and the characters that a value of the tag can begin with.
_PLAIN_VALUES = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
)


class _Loader(yaml.SafeLoader):
    """Plain mappings, lists and values; everything else that YAML can do is an error."""

    # Replaced, not extended: a subclass would inherit the rules of YAML 1.1.
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        # Aliases are the way to a YAML bomb.
        for name, found in (("aliases", isinstance(event, yaml.AliasEvent)), ("tags", getattr(event, "tag", None))):
            if found:
                raise yaml.constructor.ConstructorError(None, None, f"{name} are not accepted", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = "is no text" if not isinstance(key, str) else "stands twice" if key in seen else None
            if problem is not None:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} {problem}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what :class:`_Loader` would not read back as the same text."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012


for _side in (_Loader, _Dumper):
    for _tag, _pattern, _first in _PLAIN_VALUES:
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def parse_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises :class:`SpecError` where it cannot be read or is not plain YAML."""
    try:
        text = read_bytes(path, MAX_BYTES).decode("utf-8")
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder; accepted: a YAML file") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise SpecError(f"{path}: is too large; accepted: a space file of at most {MAX_BYTES:,} bytes") from None
        raise SpecError(f"{path}: cannot be read ({error.strerror}); accepted: a readable YAML file") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: is not UTF-8 text; accepted: a YAML file") from None
    return _load(text, str(path), "a YAML mapping")


def parse_value(text: str, source: str) -> Any:
    """One YAML value, as given to ``--set``."""
    return _load(text, source, "a value as in a space file")


def dump_yaml(content: Any) -> str:
    """YAML that :func:`parse_yaml` reads back as an equal value.

    Pure ASCII: written bare, characters such as U+0085 would be read back as line breaks.
    """
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False)


def _load(text: str, source: str, accepted: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise SpecError(f"{place}: not YAML ({error.problem}); accepted: {accepted}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{source}: not YAML ({' '.join(str(error).split())}); accepted: {accepted}") from None
    except RecursionError:
        raise SpecError(f"{source}: not YAML of a space (nested too deeply); accepted: {accepted}") from None
    except ValueError:
        # Python refuses to turn thousands of digits into a number.
        raise SpecError(f"{source}: a number is too long; accepted: {accepted}") from None
