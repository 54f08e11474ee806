"""The files that a network of the user's is made of: its own modules, and those of the user's tree that they import.

Imports are read from the source, not from what this process happened to import, so that every machine finds the same
files, and functions that import when they are called are covered. What is out of reach: names that a program puts
together (``importlib.import_module(name)``), and files that are read as data, such as weights or a configuration.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from tune_bn.errors import MethodError

_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD_LIBRARY = Path(os.__file__).parent
_OURS = "tune_bn"
COMMON = frozenset(("torch", "torchvision", "numpy"))
"""Their versions are recorded for every run."""


def is_installed(file: str | Path) -> bool:
    """Whether a file was put there by an installer, and is no part of the user's tree."""
    return bool(_INSTALLED & set(Path(file).parts)) or Path(file).is_relative_to(_STANDARD_LIBRARY)


def tree_of(top: str) -> Path | None:
    """File or folder of a top-level module; None where it has none."""
    spec = _spec(top)
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    origin = spec.origin if spec.has_location else None
    return Path(folders[0]) if folders else None if origin is None else Path(origin)


def refuse_shadowed(arch: str, top: str) -> None:
    """Raise where an installed module was found and the current folder has one of that name too: which one is meant?

    Raises:
        MethodError: as said.
    """
    place = tree_of(top) if top in sys.modules else None
    if top not in sys.modules or (place is not None and not is_installed(place)):
        return
    here = Path.cwd()
    own = next((path for path in (here / f"{top}.py", here / top / "__init__.py") if path.is_file()), None)
    if own is not None and not is_installed(own):
        raise MethodError(
            f"model.arch: got {arch!r}, but {top} is an installed module ({place or 'built in'}), which comes before "
            f"{own}; accepted: another name for the file, or another current folder"
        )


def own_sources(modules: Iterable[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """The files behind modules that can be imported, and the packages that they use.

    Args:
        modules: dotted names; they were imported.

    Returns:
        The files of the user's tree by dotted name (of a module that is installed, those of its whole package), and
        the versions of the installed packages that any of them imports, by the name of the distribution.
    """
    files: dict[str, Path] = {}
    packages: dict[str, str] = {}
    waiting, known = list(modules), set[str]()
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in (_OURS, "__main__", *COMMON):
            continue
        # Whoever imports a.b.c runs a and a.b as well.
        if parent := name.rpartition(".")[0]:
            waiting.append(parent)
        spec = _spec(name)
        if spec is None:
            continue
        origin = spec.origin if spec.has_location else None
        places = [*(spec.submodule_search_locations or ()), *([origin] if origin else [])]
        if any(map(is_installed, places)):
            packages |= _distributions(top)
        elif origin is not None and Path(origin).is_file():
            files[name] = Path(origin)
            waiting += _imports(name, Path(origin), is_package=spec.submodule_search_locations is not None)
    for name in modules:
        files |= _installed_package(name.partition(".")[0])
    return files, packages


def digest_of(files: Iterable[tuple[str, Path]]) -> str:
    """First 16 hex digits of the SHA-256 over names and contents. A path is none of it: workers have other folders."""
    digest = hashlib.sha256()
    for name, path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module comes from, without importing it; None where there is none."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded  # type: ignore[no-any-return]
    parent = name.rpartition(".")[0]
    # What finders of strangers raise is not foreseeable; a module that is not found here fails where it is imported.
    with contextlib.suppress(Exception):
        if not parent:
            return importlib.util.find_spec(name)
        above = _spec(parent)
        if above is not None and above.submodule_search_locations is not None:
            return importlib.machinery.PathFinder.find_spec(name, list(above.submodule_search_locations))
    return None


def _imports(name: str, path: Path, *, is_package: bool) -> Iterator[str]:
    """Dotted names of all that a source file may import, wherever the import stands."""
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes())
    # A file that cannot be read as Python fails where it is imported; its bytes count all the same.
    except (SyntaxError, ValueError, RecursionError):
        return
    home = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = home.split(".") if home else []
            base = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            if origin:
                yield origin
            # What is imported from a package may be a module of it.
            yield from (f"{origin}.{alias.name}" if origin else alias.name for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            stated = first.value if isinstance(first, ast.Constant) else None
            if called in ("import_module", "__import__") and isinstance(stated, str) and not stated.startswith("."):
                yield stated


@cache
def _top_levels() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _distributions(top: str) -> dict[str, str]:
    found = {}
    for name in _top_levels().get(top, ()):
        with contextlib.suppress(PackageNotFoundError):
            found[name.lower()] = version(name)
    return found


def _installed_package(top: str) -> dict[str, Path]:
    """Every Python file of an installed package: one that is installed again from a checkout keeps its version."""
    spec = _spec(top)
    if spec is None or top in sys.stdlib_module_names or top in COMMON:
        return {}
    folders = [Path(place) for place in spec.submodule_search_locations or () if is_installed(place)]
    found = {
        f"{top}/{path.relative_to(folder).as_posix()}": path for folder in folders for path in folder.rglob("*.py")
    }
    if not folders and spec.has_location and spec.origin is not None and is_installed(spec.origin):
        found[top] = Path(spec.origin)
    return found
