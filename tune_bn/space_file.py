"""Reading YAML that may come from a stranger: small, without aliases, without duplicate keys, no objects."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tune_bn.errors import SpecError

MAX_BYTES = 1_048_576
"""A space file is a page of text; what is larger is not one."""


class _Loader(yaml.SafeLoader):
    """Safe, and stricter: a key given twice is an error, and so is an alias (the way to a YAML bomb)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases are not accepted", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is no text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-4 as text, because it wants a dot and a signed exponent; researchers write 1e-4.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises :class:`SpecError` where it cannot be read or is not plain YAML."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SpecError(f"{path}: {size:,} bytes; accepted: a space file of at most {MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder; accepted: a YAML file") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}); accepted: a readable YAML file") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: is not UTF-8 text; accepted: a YAML file") from None
    return _load(text, str(path))


def parse_value(text: str, source: str) -> Any:
    """One YAML value, as given to ``--set``."""
    return _load(text, source)


def _load(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise SpecError(f"{place}: not YAML ({error.problem}); accepted: a YAML mapping") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SpecError(f"{source}: not YAML ({reason}); accepted: a YAML mapping") from None
