"""A space file becomes a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tune_bn.errors import ConfigError, SpecError
from tune_bn.space.checks import check
from tune_bn.space.file import parse_value, parse_yaml
from tune_bn.space.messages import error_line, keys_of, value_line
from tune_bn.space.space import Space


def parse_space(content: Any, source: str) -> Space:
    """Validate the content of a space file. ``source`` names it in errors."""
    if not isinstance(content, Mapping):
        found = "an empty file" if content is None else type(content).__name__
        raise SpecError(f"{source}: got {found}; accepted: a mapping with the keys {', '.join(keys_of(Space))}")
    try:
        space = Space.model_validate(dict(content))
        check(space)
    except ValidationError as error:
        raise SpecError(error_line(error, source, Space)) from None
    except ConfigError as error:
        raise SpecError(value_line(source, error.key, error.value, error.accepted)) from None
    return space


def load_space(path: Path, overrides: Sequence[str] = ()) -> Space:
    """Read a space file, apply ``--set`` overrides such as ``train.epochs=5``, validate.

    Raises:
        SpecError: one line with file, key, value and what would be accepted.
    """
    content = parse_yaml(path)
    for override in overrides:
        content = with_override({} if content is None else content, override)
    trainer = content.get("trainer") if isinstance(content, Mapping) else None
    if isinstance(trainer, Mapping):
        # A study keeps its space elsewhere, and its code must still be found.
        given = trainer.get("root")
        root = (path.parent / given).absolute() if isinstance(given, str) else path.parent.absolute()
        if given is None or isinstance(given, str):
            content = {**content, "trainer": {**trainer, "root": str(root)}}
    return parse_space(content, source_words(path, overrides))


def source_words(path: Path, overrides: Sequence[str] = ()) -> str:
    """What an error calls a space file that was read with these overrides."""
    return f"{path} with {' '.join(overrides)}" if overrides else str(path)


def with_override(content: Any, override: str) -> Any:
    """The content of a space file with one ``--set`` override applied. Raises :class:`SpecError` where it is none."""
    key, sign, text = override.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts):
        raise SpecError(f"--set {override}: accepted: KEY=VALUE with dots between sections, such as train.epochs=5")
    if not isinstance(content, Mapping):
        return content
    root = dict(content)
    node = root
    for part in parts[:-1]:
        below = node.get(part)
        if below is not None and not isinstance(below, Mapping):
            raise SpecError(f"--set {override}: {part} is no section but {below!r}; accepted: a key of a section")
        node[part] = dict(below or {})
        node = node[part]
    node[parts[-1]] = parse_value(text, f"--set {override}")
    return root
