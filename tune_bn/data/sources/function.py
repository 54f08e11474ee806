"""A function of the user's that returns arrays: ``data: {source: package.module:function}``."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tune_bn.data.config import DataConfig
from tune_bn.data.sources.arrays import SPLITS, checked_set
from tune_bn.data.sources.base import ArraySet, Outline
from tune_bn.errors import DataError, described, listed

RETURNS = (
    "a dict with train and test, and perhaps val, each (images, labels): uint8 (N, C, H, W) and integers (N,); "
    "and perhaps classes, their names"
)


class FunctionSource:
    """The source ``package.module:function``.

    The function is called once where a study is begun or checked, on the machine of its driver; workers are sent the
    arrays. What a study depends on are these, by their hashes, and not the code that made them.

    Args:
        name: ``package.module:function``, in the current folder or installed.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def outline(self, config: DataConfig) -> Outline:
        """See :meth:`read`: who wants to know anything of the arrays has to call the function."""
        return self.read(config).outline

    def read(self, config: DataConfig) -> ArraySet:
        """Call the function, with ``data.root`` where there is one, and check what it returns.

        Raises:
            DataError: there is no such function, it raises, or it returns something else.
        """
        found = self._called(self._function(), config.root)
        place = f"{self._got}, which returned"
        if not isinstance(found, Mapping):
            raise DataError(f"{place} {type(found).__name__}; accepted: {RETURNS}")
        strange = [str(key) for key in found if key not in (*SPLITS, "classes")]
        if strange:
            raise DataError(f"{place} {listed(strange)} in a dict; accepted: {RETURNS}")
        splits: dict[str, tuple[Any, Any]] = {}
        for split in SPLITS:
            if found.get(split) is None:
                continue
            if not isinstance(found[split], tuple | list) or len(found[split]) != 2:
                kind = type(found[split]).__name__
                raise DataError(f"{place} {split} as {kind}; accepted: (images, labels)")
            splits[split] = tuple(found[split])
        return checked_set(self.name, place, splits, found.get("classes"))

    @property
    def _got(self) -> str:
        return f"data.source: got {self.name!r}"

    def _called(self, function: Callable[..., Any], root: str | None) -> Any:
        given = () if root is None else (root,)
        call = f"{self.name.partition(':')[2]}({'' if root is None else repr(root)})"
        try:
            inspect.signature(function).bind(*given)
        except TypeError as error:
            raise DataError(
                f"{self._got}, which takes other arguments ({error}); accepted: a function that is called as {call}"
            ) from None
        except ValueError:
            pass  # some callables of C have no signature; calling them shows
        try:
            return function(*given)
        except (Exception, SystemExit) as error:
            raise DataError(f"{self._got}, and {call} raised {described(error)}; accepted: {RETURNS}") from error

    def _function(self) -> Callable[..., Any]:
        module_name, _, name = self.name.partition(":")
        folder = os.getcwd()
        if not {"", folder} & set(sys.path):
            sys.path.append(folder)
        importlib.invalidate_caches()
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
            if missing is not None and f"{module_name}.".startswith(f"{missing}."):
                why = f"but there is no module {missing}"
            else:
                why = f"but importing {module_name} raised {described(error)}"
            accepted = f"a module in the current folder ({folder}) or an installed one"
            raise DataError(f"{self._got}, {why}; accepted: {accepted}") from error
        function = getattr(module, name, None)
        if not callable(function):
            place = getattr(module, "__file__", None) or module_name
            raise DataError(f"{self._got}, but {place} has no function {name}; accepted: one of its own")
        return function  # type: ignore[no-any-return]
