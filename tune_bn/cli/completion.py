"""What helps at the prompt: the verbs in the order of their use, and completion of studies, spaces and keys."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from tune_bn.cli.usage import USAGE_ERROR, explain
from tune_bn.records.commands import STUDIES

PANELS = {
    "Begin": ("doctor", "validate", "check", "search", "train", "ask", "tell"),
    "Follow": ("watch", "status", "logs", "stop", "confirm"),
    "The outcome": ("report", "inspect", "verify", "export", "ui"),
    "For others": ("gate", "bundle", "replicate", "seal", "paperkit"),
    "How many seeds": ("power",),
    "The paper": ("paper", "reproduce"),
    "On a cluster": ("head",),
}
"""Verbs by what they are for, in the order of their use."""
_PLACES = {name: place for place, name in enumerate(name for names in PANELS.values() for name in names)}


class InOrder(TyperGroup):
    """The verbs as :data:`PANELS` has them; one that is not there comes last."""

    def get_params(self, ctx: Any) -> list[Any]:
        """See Click."""
        return _flags_without_value(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See Click."""
        command = super().get_command(ctx, cmd_name)
        return None if command is None else _readable(command, ctx)

    def invoke(self, ctx: Any) -> Any:
        """See Click."""
        try:
            return super().invoke(ctx)
        except USAGE_ERROR as error:
            explain(error, lambda: list(_keys()))
            raise

    def list_commands(self, ctx: object) -> list[str]:
        """See Click."""
        commands: dict[str, Any] = dict(self.commands)
        for panel, names in PANELS.items():
            for name in names:
                if name in commands:
                    commands[name].rich_help_panel = panel
        return sorted(self.commands, key=lambda name: (_PLACES.get(name, len(_PLACES)), name))


def _readable(command: Any, ctx: Any) -> Any:
    """A verb whose help fits any width, and in whose help a flag does not look as if it took a value."""
    if command.help:
        # A docstring has lines of its own, which a terminal of another width breaks once more.
        paragraphs = inspect.cleandoc(command.help).split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    _flags_without_value([*command.params, *filter(None, [command.get_help_option(ctx)])])
    for inner in getattr(command, "commands", {}).values():
        _readable(inner, ctx)
    return command


def _flags_without_value(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


def known_studies(ctx: typer.Context, incomplete: str) -> list[str]:
    """Studies in ``--output``, the newest first."""
    from tune_bn.study.folder import list_studies

    output = (ctx.params or {}).get("output")
    with suppress(Exception):
        return [one.name for one in reversed(list_studies(Path(output or STUDIES))) if one.name.startswith(incomplete)]
    return []


def known_spaces(incomplete: str) -> list[str]:
    """Space files beside, in ``search_spaces/`` and in the package."""
    from tune_bn.space.locate import FOLDER, shipped_spaces

    found = {path.name for folder in (Path(FOLDER), shipped_spaces()) for path in folder.glob("*.yaml")}
    found |= {path.name for path in Path().glob("*.yaml")}
    return sorted(name for name in found if name.startswith(incomplete))


def known_keys(incomplete: str) -> list[str]:
    """Keys of a space file, as ``--set`` takes them."""
    return [f"{key}=" for key in _keys() if key.startswith(incomplete)]


def _keys() -> Iterator[str]:
    from dataclasses import is_dataclass

    from tune_bn.space.messages import keys_of
    from tune_bn.space.space import Space

    for section, field in Space.model_fields.items():
        kind = field.annotation
        if is_dataclass(kind) or hasattr(kind, "model_fields"):
            yield from (f"{section}.{key}" for key in keys_of(kind))
        else:
            yield section
