"""Where this user's caches lie."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path

from tune_bn.errors import DataError


def user_cache() -> Path:
    """The folder of tune_bn in the user's cache: ``$XDG_CACHE_HOME/tune_bn``, or on Linux ``~/.cache/tune_bn``.

    Raises:
        DataError: there is none, since this user has no home.
    """
    folder = user_cache_path("tune_bn")
    if not folder.is_absolute():
        raise DataError("XDG_CACHE_HOME: not set, and there is no home folder; accepted: an absolute path")
    return folder
