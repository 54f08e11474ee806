"""A network of the user's own: a function named ``package.module:function``, and the files that it comes from."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import MethodError, described
from tune_bn.method.source_files import digest_of, is_installed, own_sources, refuse_shadowed, tree_of

if TYPE_CHECKING:
    from torch import nn


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
    except (Exception, SystemExit) as error:
        raise MethodError(f"model.arch: got {arch!r}, which raised {described(error)}; accepted: {accepted}") from error
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
            refuse_shadowed(arch, module_name.partition(".")[0])
            raise MethodError(
                f"model.arch: got {arch!r}, but there is no module {missing}; accepted: a module in the current folder "
                f"({folder}) or an installed one"
            ) from None
        raise MethodError(
            f"model.arch: got {arch!r}, but importing {module_name} raised {described(error)}; accepted: a module that "
            "can be imported"
        ) from error
    refuse_shadowed(arch, module_name.partition(".")[0])
    function = getattr(module, name, None)
    if not callable(function):
        close = difflib.get_close_matches(name, [key for key, value in vars(module).items() if callable(value)], n=1)
        hint = f"{module_name}:{close[0]} (did you mean it?), or " if close else ""
        place = getattr(module, "__file__", None) or module_name
        raise MethodError(
            f"model.arch: got {arch!r}, but {place} has no function {name}; accepted: {hint}one of its own"
        )
    return function  # type: ignore[no-any-return]


def source_sha256(archs: Iterable[str]) -> str:
    """First 16 hex digits of the SHA-256 of the files that define these functions, and of all that they import from the
    user's own tree; see :mod:`tune_bn.method.source_files`."""
    archs = list(archs)
    return digest_of([(arch, path) for arch in archs for path in _named_files(arch)] + [*_sources(archs)[0].items()])


def source_packages(archs: Iterable[str]) -> str:
    """Installed packages that these networks use beside those of every run, such as ``einops 0.8.1, timm 1.0.20``."""
    return ", ".join(f"{name} {found}" for name, found in sorted(_sources(archs)[1].items()))


def _sources(archs: Iterable[str]) -> tuple[dict[str, Path], dict[str, str]]:
    modules: dict[str, None] = {}
    for arch in archs:
        function = load_function(arch)
        modules[arch.partition(":")[0]] = None
        # A function that a module has from another one.
        if isinstance(home := getattr(inspect.unwrap(function), "__module__", None), str) and home in sys.modules:
            modules[home] = None
    return own_sources(modules)


def _named_files(arch: str) -> list[Path]:
    """What the hash tells two networks of one file apart by, and the file of a function that has no module."""
    function = load_function(arch)
    # A functools.partial, for one, has no file of its own.
    with contextlib.suppress(TypeError):
        if (file := inspect.getsourcefile(inspect.unwrap(function))) is not None:
            return [Path(file)]
    file = getattr(sys.modules[arch.partition(":")[0]], "__file__", None)
    return [] if file is None else [Path(file)]


def source_trees(arch: str) -> list[Path]:
    """Files and folders of the user's that the function needs: its top-level module, and those that it imports.

    What :mod:`tune_bn.method.source_files` says of imports holds here. Nothing of what is installed is among them.
    """
    files = _sources([arch])[0]
    tops = dict.fromkeys([arch.partition(":")[0].partition(".")[0], *(name.partition(".")[0] for name in files)])
    return [tree for top in tops if (tree := tree_of(top)) is not None and not is_installed(tree)]
