"""Errors that a user can act on.

Every message is one line with the place, the value and what would be accepted. The command line prints it and exits
with status 2; no traceback reaches the user.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LINE_BREAKS_AND_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MISTAKES = (TypeError, AttributeError, NameError, ImportError, LookupError, AssertionError)
_PACKAGE = Path(__file__).parent


def own_fault(error: BaseException) -> str | None:
    """File and line in this package whose mistake an error is; None where it is anybody else's.

    A name or an argument that a library no longer has is a mistake of the line that uses it: the innermost line of the
    traceback, since the library is not entered. A handler that takes whatever a library, a device or a user's own code
    may raise asks this first, so that a mistake here does not read as an outage there.
    """
    if not isinstance(error, _MISTAKES):
        return None
    lines = traceback.extract_tb(error.__traceback__)
    while lines and lines[-1].name == "__getattr__":
        # Modules and objects may look up names by a function of their own; it is the caller's mistake all the same.
        lines.pop()
    if not lines or not Path(lines[-1].filename).is_relative_to(_PACKAGE):
        return None
    return f"{Path(lines[-1].filename).relative_to(_PACKAGE.parent)}:{lines[-1].lineno}"


def first_line(error: BaseException) -> str:
    """The first line of what an error says; the name of its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def described(error: BaseException, *, limit: int = 200) -> str:
    """Type and first line of an error, for a message of one line; cut after ``limit`` letters of it."""
    text = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    if len(text) > limit:
        text = f"{text[: limit - 1]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def innermost(error: BaseException) -> str:
    """The innermost cause in one short line, where libraries wrap it in several layers of prose."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return described(error)


def listed(values: Sequence[Any], *, limit: int = 5) -> str:
    """``a, b, c and 27 more``; text is quoted only where it holds more than a name does."""
    words = [
        value if isinstance(value, str) and value.isprintable() and value else json.dumps(value, default=repr)
        for value in values[:limit]
    ]
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(words) + more


class TuneBNError(Exception):
    """Base class of every error that tune_bn raises on purpose.

    Line breaks and control characters, which a quoted key or a library's own message may hold, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_LINE_BREAKS_AND_CONTROLS.sub(lambda found: repr(found[0])[1:-1], message))


class SpecError(TuneBNError):
    """The space file, or an override of it, is not acceptable."""


class ConfigError(TuneBNError, ValueError):
    """One key of a configuration holds a value that is not acceptable.

    It is a ``ValueError`` too, so that pydantic collects it and adds the section it was found in.
    """

    def __init__(self, key: str, value: Any, accepted: str) -> None:
        super().__init__(f"{key}: got {value!r}; accepted: {accepted}")
        self.key = key
        self.value = value
        self.accepted = accepted


class DataError(TuneBNError):
    """The training data is missing, incomplete or unreadable."""


class MethodError(TuneBNError, ValueError):
    """The network cannot be treated as asked (for example, it has no batch normalization)."""


class RecordError(TuneBNError):
    """A record file or a plan cannot be read, or was changed."""


class StudyError(TuneBNError):
    """A study cannot be started, resumed or found."""


class ScoresError(TuneBNError):
    """A table of scores cannot be read or compared."""


class RunnerError(TuneBNError):
    """The work cannot be run where it was asked to run."""


class ClusterLost(RunnerError):
    """The cluster that ran the work is gone; another driver can go on with the study."""


class TrackingError(TuneBNError):
    """The tracking store does not take what was asked of it."""


class ServiceError(TuneBNError):
    """A service of the head cannot be started or reached."""


class MissingExtra(TuneBNError, ImportError):
    """A library is not installed; the message names the extra that brings it."""


class Interrupted(TuneBNError):
    """The user stopped the work; what had finished is kept."""
