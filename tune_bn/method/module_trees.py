"""Where modules of the user's lie: what goes to other machines with a network, and what an installed one hides."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from tune_bn.errors import MethodError

_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD_LIBRARY = Path(os.__file__).parent


def refuse_shadowed(arch: str, top: str) -> None:
    """Raise where an installed module was found and the current folder has one of that name too: which one is meant?"""
    place = _tree_of(sys.modules[top]) if top in sys.modules else None
    if top not in sys.modules or (place is not None and not _is_installed(place)):
        return
    here = Path.cwd()
    own = next((path for path in (here / f"{top}.py", here / top / "__init__.py") if path.is_file()), None)
    if own is not None and not _is_installed(own):
        raise MethodError(
            f"model.arch: got {arch!r}, but {top} is an installed module ({place or 'built in'}), which comes before "
            f"{own}; accepted: another name for the file, or another current folder"
        )


def trees_of(top: str) -> list[Path]:
    """Files and folders of a top-level module that was imported, and of what it imports from beside it.

    Imports inside of functions count, computed names do not. Empty where the module is installed with pip.
    """
    first = _tree_of(sys.modules[top])
    if first is None or _is_installed(first):
        return []
    found = [first]
    for tree in found:  # grows
        for name in sorted(_imported(tree)):
            for path in (first.parent / name, first.parent / f"{name}.py"):
                # What is installed comes first, wherever the code runs; a folder without Python files is no module.
                is_module = path.is_file() or any(path.glob("*.py"))
                if is_module and path not in found and not _is_installed_module(name):
                    found.append(path)
                    break
    return found


def _tree_of(module: ModuleType) -> Path | None:
    folders = list(getattr(module, "__path__", ()))
    file = folders[0] if folders else getattr(module, "__file__", None)
    return None if file is None else Path(file)


def _imported(tree: Path) -> set[str]:
    """Top-level names that the Python files of a file or folder import."""
    names: set[str] = set()
    for file in sorted(tree.rglob("*.py")) if tree.is_dir() else [tree]:
        try:
            nodes = list(ast.walk(ast.parse(file.read_bytes())))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue  # nothing imports it without an error of its own
        for node in nodes:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
    return names


def _is_installed(path: Path) -> bool:
    return bool(_INSTALLED & set(path.parts)) or path.is_relative_to(_STANDARD_LIBRARY)


def _is_installed_module(name: str) -> bool:
    if name in sys.stdlib_module_names or name == "tune_bn":
        return True
    found = importlib.util.find_spec(name)
    origin = None if found is None else found.origin or next(iter(found.submodule_search_locations or ()), None)
    return origin is not None and _is_installed(Path(origin))
