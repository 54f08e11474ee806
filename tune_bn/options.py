"""Typed options with their checks, shared by the rooms that must run without pydantic.

A configuration is a frozen dataclass; each field is declared with :func:`option`, which keeps the words that describe
it and the check of its value in one place: the error message, the reference table and the validation all read it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, Field, field, fields
from typing import Any, ClassVar

from tune_bn.errors import ConfigError


def option(
    default: Any = MISSING,
    *,
    doc: str,
    accepted: str,
    check: Callable[[Any], bool] | None = None,
    added: bool = False,
) -> Any:
    """A dataclass field with its description, the words for what it accepts, and the check behind them.

    ``added`` marks a key that is younger than the first studies. Its default must mean what was done before there was
    the key; while it has it, it stays out of the hash of a space, so that those studies keep theirs.
    """
    return field(default=default, metadata={"doc": doc, "accepted": accepted, "check": check, "added": added})


def choice(default: str, *allowed: str, doc: str, added: bool = False) -> Any:
    """An option that takes one of the given words; ``added`` as in :func:`option`."""
    accepted = " | ".join(allowed)
    return option(default, doc=doc, accepted=accepted, check=lambda value: value in allowed, added=added)


class Options:
    """Base of the configuration dataclasses: checks every field that was declared with :func:`option`."""

    # pydantic reads this when such a class is part of the space file; the class itself does not need pydantic.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            check_option(item, getattr(self, item.name))


def check_option(item: Field[Any], value: Any) -> None:
    """Raise :class:`ConfigError` where ``value`` is not acceptable for the field ``item``."""
    check = item.metadata.get("check")
    accepted = item.metadata.get("accepted", "")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(item.name, value, accepted)
    if check is not None and not check(value):
        raise ConfigError(item.name, value, accepted)
