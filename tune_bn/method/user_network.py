"""A network of the user's own: a function named ``package.module:function``, and the files that it comes from."""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import MethodError

if TYPE_CHECKING:
    from torch import nn

_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD_LIBRARY = Path(os.__file__).parent


def is_user_network(arch: str) -> bool:
    """Whether ``arch`` names a function of the user's."""
    return ":" in arch


def call_user_network(arch: str, in_channels: int, num_classes: int) -> nn.Module:
    """The module that ``function(in_channels=…, num_classes=…)`` returns.

    Raises:
        MethodError: there is no such function, it takes other arguments, it raises, or it returns something else.
    """
    from torch import nn

    function = load_function(arch)
    arguments = {"in_channels": in_channels, "num_classes": num_classes}
    call = f"{arch.partition(':')[2]}({', '.join(f'{key}={value}' for key, value in arguments.items())})"
    accepted = f"a function that returns a torch.nn.Module when called as {call}"
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise MethodError(
            f"model.arch: got {arch!r}, which takes other arguments ({error}); accepted: {accepted}"
        ) from None
    except ValueError:
        pass  # some callables of C have no signature; calling them shows
    try:
        network = function(**arguments)
    except Exception as error:
        raise MethodError(f"model.arch: got {arch!r}, which raised {words_of(error)}; accepted: {accepted}") from error
    if not isinstance(network, nn.Module):
        raise MethodError(f"model.arch: got {arch!r}, which returned {type(network).__name__}; accepted: {accepted}")
    return network


def load_function(arch: str) -> Callable[..., Any]:
    """Import ``package.module`` and return its ``function``. The current folder counts, after installed packages.

    Raises:
        MethodError: there is no such module or function, or importing it raises.
    """
    module_name, _, name = arch.partition(":")
    folder = os.getcwd()
    if not {"", folder} & set(sys.path):
        sys.path.append(folder)
    importlib.invalidate_caches()
    try:
        module = pkgutil.resolve_name(f"{module_name}:")
    except (Exception, SystemExit) as error:
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            _refuse_shadowed(arch, module_name.partition(".")[0])
            raise MethodError(
                f"model.arch: got {arch!r}, but there is no module {missing}; accepted: a module in the current folder "
                f"({folder}) or an installed one"
            ) from None
        raise MethodError(
            f"model.arch: got {arch!r}, but importing {module_name} raised {words_of(error)}; accepted: a module that "
            "can be imported"
        ) from error
    _refuse_shadowed(arch, module_name.partition(".")[0])
    function = getattr(module, name, None)
    if not callable(function):
        close = difflib.get_close_matches(name, [key for key, value in vars(module).items() if callable(value)], n=1)
        hint = f"{module_name}:{close[0]} (did you mean it?), or " if close else ""
        place = getattr(module, "__file__", None) or module_name
        raise MethodError(
            f"model.arch: got {arch!r}, but {place} has no function {name}; accepted: {hint}one of its own"
        )
    return function  # type: ignore[no-any-return]


def _refuse_shadowed(arch: str, top: str) -> None:
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


def words_of(error: BaseException) -> str:
    """Type and first line of an error, for a message of one line."""
    text = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    if len(text) > 200:
        text = f"{text[:199]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def source_sha256(archs: Iterable[str]) -> str:
    """First 16 hex digits of the SHA-256 of the files that define these functions, and of the modules that are named.

    Files that these import are not part of it.
    """
    digest = hashlib.sha256()
    for arch in sorted(archs):
        function = load_function(arch)
        files = {getattr(sys.modules[arch.partition(":")[0]], "__file__", None): None}
        # A functools.partial, for one, has no file of its own.
        with contextlib.suppress(TypeError):
            files[inspect.getsourcefile(inspect.unwrap(function))] = None
        for file in files:
            if file is not None:
                digest.update(Path(file).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def source_trees(arch: str) -> list[Path]:
    """Files and folders of the user's that the function needs: its top-level module, and what that imports beside it.

    Imports inside of functions count, computed names do not. Empty where the module is installed with pip.
    """
    load_function(arch)
    first = _tree_of(sys.modules[arch.partition(":")[0].partition(".")[0]])
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


def _tree_of(module: Any) -> Path | None:
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
