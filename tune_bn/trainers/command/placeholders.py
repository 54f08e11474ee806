"""``{name}`` in a command line or in a file becomes a value, without a shell.

``{name}`` gives a number such that every reader takes it for the same number, ``{name:.9f}`` follows Python's formats,
``{{name}}`` stands for ``{name}`` itself. All other braces stay as they are: files of JSON and YAML are full of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tune_bn.errors import ConfigError

OWN = ("seed", "steps", "checkpoint", "run", "data")
"""What every run has beside its parameters."""
_FIELD = re.compile(
    r"\{(\{[A-Za-z_][A-Za-z0-9_]*\})\}|\{([A-Za-z_][A-Za-z0-9_]*)(?::([+]?[0-9]*(?:\.[0-9]+)?[deEfFgGsxX%]))?\}"
)


def text_of(value: Any, form: str = "") -> str:
    """A value as a program reads it: a float with a point, and never as ``1e-05``, which YAML 1.1 takes for text.

    Raises:
        ValueError: the format does not fit the value.
    """
    if form:
        return format(value, form)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        mantissa, sign, exponent = repr(value).partition("e")
        if "." not in mantissa and mantissa.lstrip("-").isdigit():
            mantissa += ".0"
        # YAML 1.1 asks for a sign of the exponent.
        return mantissa + (f"e{exponent if exponent[0] in '+-' else '+' + exponent}" if sign else "")
    return str(value)


def fill(text: str, values: Mapping[str, Any]) -> str:
    """The text with its placeholders filled; a brace around anything else stays as it is.

    Raises:
        ConfigError: no such value, or its format does not fit.
    """

    def one(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        name, form = found[2], found[3] or ""
        if name not in values:
            raise ConfigError(f"{{{name}}}", found[0], "one of " + ", ".join(sorted(values)))
        try:
            return text_of(values[name], form)
        except ValueError as error:
            raise ConfigError(f"{{{name}:{form}}}", values[name], f"a format for it ({error})") from None

    return _FIELD.sub(one, text)


def fill_all(words: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Each word of a command line, filled. A first word ``python`` is the Python that runs this: an environment that
    was not activated is on no path."""
    filled = [fill(word, values) for word in words]
    return [sys.executable, *filled[1:]] if filled[:1] in (["python"], ["python3"]) else filled


def names_in(texts: Iterable[str]) -> set[str]:
    """The names of all placeholders."""
    return {found[2] for text in texts for found in _FIELD.finditer(text) if found[2]}
