"""What a person meant who typed a line that the verbs do not take: said in the error, as it would be typed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from tune_bn.errors import listed
from tune_bn.records.commands import STUDIES

# Typer brings its own Click, or takes the one that is there.
USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")

_REMOVALS = ("delete", "remove", "rm", "del", "clean", "purge")
_SECTIONS = {
    "seeds": "seeds.confirm={from: 1, to: 30}",
    "gamma": "search.gamma={log_uniform: [0.05, 1.0]}",
    "c": "search.c={log_uniform: [1, 1000]}",
}
"""What is no key by itself, or another one than is meant: as it is set."""


def explain(error: Any, keys: Callable[[], Sequence[str]]) -> None:
    """Add to a usage error what could be typed instead, where that is known.

    Args:
        error: of Click.
        keys: gives the keys of a space file.
    """
    context = error.ctx
    command = getattr(context, "command", None)
    options = {name for param in getattr(command, "params", ()) for name in getattr(param, "opts", ())}
    kind, said = type(error).__name__, error.message or ""
    if kind == "MissingParameter" and getattr(error.param, "name", None) == "study":
        error.message = _studies_words(Path((context.params or {}).get("output") or STUDIES))
    elif kind == "MissingParameter" and getattr(error.param, "name", None) == "effect":
        error.message = (
            "The gain that would matter to you, in the unit of --std: tune_bn power --effect 0.5 --std 0.4; a report "
            "has both for its study."
        )
    elif kind == "NoSuchOption" and "--set" in options:
        if proposed := _settings(error.option_name.lstrip("-").replace("-", "_"), keys()):
            error.possibilities = []
            error.message = f"{said}. Keys of the space file: {proposed}"
    elif kind == "UsageError" and "unexpected extra argument" in said:
        words = [word for word in getattr(context, "args", ()) or _extra(said) if word.endswith((".yaml", ".yml"))]
        if words and "--space" in options:
            error.message = f"{said}. A space file: {shlex.join(['--space', words[0]])}"
    elif kind in ("UsageError", "NoSuchCommand") and any(f"No such command '{verb}'" in said for verb in _REMOVALS):
        error.message = f"{said} A study is a folder: rm -r {STUDIES}/NAME throws it away (docs/laptop.md)."


def _extra(said: str) -> list[str]:
    return said[said.rfind("(") + 1 :].rstrip(".").rstrip(")").split()


def _studies_words(output: Path) -> str:
    """Which studies there are, the newest first."""
    from tune_bn.study.folder import list_studies

    try:
        names = [folder.name for folder in reversed(list_studies(output))]
    except Exception:  # a usage error is no place for another one
        return ""
    if not names:
        return f"There is no study in {output} yet."
    return f"In {output}: {listed(names)}."


def _settings(option: str, keys: Sequence[str]) -> str:
    """The keys that an option was meant to be, as they are set."""
    if option in _SECTIONS:
        return shlex.join(["--set", _SECTIONS[option]])
    return ", or ".join(f"--set {key}=…" for key in keys if key.rpartition(".")[2] == option)
