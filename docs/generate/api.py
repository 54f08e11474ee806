"""The reference pages of the Python API and of the command line, from docstrings and the words of the options.

``make docs`` writes them anew. Griffe, which reads the docstrings, is installed with the extra ``dev``.

Griffe is what mkdocstrings reads docstrings with; mkdocstrings itself would make the API page on the site alone. Here
it is a file: whoever reads the repository on a forge finds it whole, a diff shows what a change did to the public
names, and a test compares it with the code. Roles (``:func:``), literal blocks and tables of docstrings become
Markdown, which mkdocstrings would print as they stand.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

MODULES = ("tune_bn", "tune_bn.analysis", "tune_bn.errors")

_HEAD = """\
# Python API

Every public name. `import tune_bn` loads nothing but a table of names; torch comes with the first use of a function.
`tune_bn.analysis` needs numpy and scipy alone. The command line is described in [cli.md](cli.md), the space file in
[space.md](space.md).
"""
_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_QUOTED = re.compile(r"((?:: |-> ))'([^']*)'")
_TITLES = {"parameters": "Arguments", "raises": "Raises", "returns": "Returns"}


def api_page() -> str:
    """The Python API, in Markdown."""
    return "\n".join([_HEAD, *(line for name in MODULES for line in _module(import_module(name)))]).rstrip() + "\n"


def cli_page() -> str:
    """The command line, in Markdown."""
    import typer.cli

    from tune_bn.cli import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="tune_bn")
    page = typer.cli.get_docs_for_click(obj=command, ctx=context, name="tune_bn", title="Command line").rstrip() + "\n"
    return _with_whole_summaries(page, command)


def _with_whole_summaries(page: str, group: Any) -> str:
    """A list of verbs is cut off where a terminal would end; a page has room."""
    for name, command in getattr(group, "commands", {}).items():
        whole = " ".join((command.help or "").split("\n\n")[0].split())
        page = page.replace(f"* `{name}`: {command.get_short_help_str()}\n", f"* `{name}`: {whole}\n")
        page = _with_whole_summaries(page, command)
    return page


def public_names(module: ModuleType) -> list[str]:
    """What a module offers: its ``__all__``, else the classes that it defines."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("__")]
    found = inspect.getmembers(module, inspect.isclass)
    return [name for name, item in found if item.__module__ == module.__name__]


def _module(module: ModuleType) -> Iterator[str]:
    yield f"## {module.__name__}\n"
    yield from _docstring(module)
    for name in public_names(module):
        item = getattr(module, name)
        yield f"### {module.__name__}.{name}\n"
        if callable(item) and not (inspect.isclass(item) and issubclass(item, Exception)):
            yield f"```python\n{name}{_signature(item)}\n```\n"
        yield from _docstring(item)
        if inspect.isclass(item):
            yield from _members(item)


def _members(item: type) -> Iterator[str]:
    """The public methods and attributes of a class that are described."""
    for name, member in vars(item).items():
        described = member.func if isinstance(member, cached_property) else member
        if name.startswith("_") or isinstance(member, type) or not inspect.getdoc(described):
            continue
        if isinstance(member, property | cached_property) or inspect.isfunction(member):
            yield f"#### {item.__name__}.{name}\n"
            if inspect.isfunction(member):
                yield f"```python\n{name}{_signature(member)}\n```\n"
            yield from _docstring(described)


def _signature(item: Any) -> str:
    try:
        signature = inspect.signature(item)
    except ValueError:
        return "(…)"  # That of a class of Python's own.
    # Annotations are kept as text, in quotes; those of a default stay.
    text = _QUOTED.sub(r"\1\2", str(signature))
    if len(text) <= 100:
        return text
    # One parameter to a line: the text is cut where the next one begins.
    names = "|".join(re.escape(name) for name in [*signature.parameters, "*"])
    parameters, _, result = text[1:].rpartition(")")
    lines = re.split(rf", (?=(?:{names})(?:[:=,]|$))", parameters)
    return "(\n" + "".join(f"    {line},\n" for line in lines) + f"){result}"


def _docstring(item: Any) -> Iterator[str]:
    from griffe import Docstring

    text = inspect.getdoc(item)
    if not text:
        raise ValueError(f"{item!r} must have a docstring, but has none")
    # What is returned is one thing, whose words may take several lines.
    options: Any = {"warnings": False, "returns_multiple_items": False, "returns_named_value": False}
    for section in Docstring(_ROLE.sub(r"``\1``", text), parser="google").parse(**options):
        if section.kind.value == "text":
            yield _markdown(section.value) + "\n"
            continue
        yield f"{_TITLES[section.kind.value]}:\n"
        for entry in section.value:
            name = getattr(entry, "name", "") or getattr(entry, "annotation", "") or ""
            words = " ".join(_markdown(entry.description).split())
            yield f"- `{name}`: {words}" if name else f"- {words}"
        yield ""


def _markdown(text: str) -> str:
    """A docstring's text: literal blocks are Markdown's already, and tables become Markdown's."""
    blocks = text.split("\n\n")
    for index, block in enumerate(blocks):
        if block.lstrip().startswith("==="):
            blocks[index] = _table(block)
        elif not block.startswith("    "):
            blocks[index] = block.replace("``", "`").replace("::", ":")
    return "\n\n".join(blocks)


def _table(block: str) -> str:
    """A table between rules of ``=``, whose runs are its columns."""
    lines = [line.strip() if set(line.strip()) <= {"=", " "} else line for line in block.splitlines()]
    indent = len(block) - len(block.lstrip())
    rule, head, _, *rows, _ = lines
    starts = [found.start() + indent for found in re.finditer("=+", rule)]
    ends = [*starts[1:], None]

    def cells(line: str) -> str:
        found = (
            line[start:end].strip().replace("``", "`").replace("|", "\\|")
            for start, end in zip(starts, ends, strict=True)
        )
        return f"| {' | '.join(found)} |"

    return "\n".join([cells(head), f"|{' --- |' * len(starts)}", *map(cells, rows)])


if __name__ == "__main__":
    print({"api": api_page, "cli": cli_page}[sys.argv[1]](), end="")
