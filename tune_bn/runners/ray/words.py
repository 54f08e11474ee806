"""Why Ray does not start, in one line: out of what its command prints, what its daemons write, and limits in force."""

from __future__ import annotations

import re
import resource
from contextlib import suppress
from pathlib import Path

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LOG_LINE = re.compile(
    r"(?:\[\d[^\]]* (?P<short>[A-Z]) [^\]]*\](?: \([^)]*\))?|\d[\d-]{9}[ T][\d:,.]+\s+(?P<level>[A-Z]+))"
    r"\s+\S+:\d+:?(?: --)?\s+(?P<text>.*)"
)
"""As Ray's Python and its daemons write them."""
_ERROR_LEVELS = {"ERROR", "CRITICAL", "FATAL", "E", "C", "F"}
_RAISED = re.compile(r"(?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception|Timeout|Failure)(?:: .*|)$|\s+what\(\): ")
"""The last line of a traceback, and what C++ says of an error that nobody caught."""
_FRAMES = re.compile(r"(?:\*\*\* |PC: @|\s*@ +0x|\S*\(\+0x[0-9a-f]+\)).*$")
"""Where a daemon was when it died."""
_PREAMBLE = re.compile(r"An unexpected system state has occurred\..*(?=Check failed: )")
_ERROR = 3
_MOST = 300
_TAIL = 1 << 18


def last_words(output: bytes) -> str:
    """The line that says most of why a command failed: an error's, if need be the last one; without colours."""
    best, weight = "", 0
    for line in _lines(output):
        text, worth = _worth(line)
        if text and worth >= weight:
            best, weight = text, worth
    return best[:_MOST] if best else "it said nothing"


def logged_cause(folder: Path) -> str:
    """The first error that each of Ray's daemons wrote, of which Ray itself says no more than that it did not come.

    Args:
        folder: Ray's folder.

    Returns:
        Nothing where none wrote of an error.
    """
    found = []
    for name in ("gcs_server", "raylet"):
        for path in sorted(folder.glob(f"session_2*/logs/{name}.*")):
            with suppress(OSError):
                judged = map(_worth, _lines(path.read_bytes()[-_TAIL:]))
                if error := next((text for text, worth in judged if text and worth == _ERROR), ""):
                    found.append(f"{name}: {error[:_MOST]}")
                    break
    return "; ".join(found)


def tight_limits() -> str:
    """The limits of this process (``ulimit``) in which a Ray of this machine may not fit; empty where there is none."""
    found = []
    for name, (option, unit, enough) in _LIMITS.items():
        most = resource.getrlimit(getattr(resource, name))[0]
        if most != resource.RLIM_INFINITY and most < enough:
            found.append(f"ulimit {option}: {most} {unit}")
    return ", ".join(found)


_LIMITS = {
    "RLIMIT_NPROC": ("-u", "processes and threads of this user", 1024),
    "RLIMIT_NOFILE": ("-n", "open files", 256),
    "RLIMIT_FSIZE": ("-f", "bytes of a file", 1 << 30),
    "RLIMIT_CPU": ("-t", "seconds of a core", 60),
    "RLIMIT_AS": ("-v", "bytes of addresses", 64 << 30),
}


def _lines(output: bytes) -> list[str]:
    return [
        line for line in _COLOUR.sub("", output.decode("utf-8", errors="replace")).splitlines() if line.strip(" -\t")
    ]


def _worth(line: str) -> tuple[str, int]:
    """What a line says without the time and place of a log, and how likely it is that it names a cause."""
    if logged := _LOG_LINE.fullmatch(line.strip()):
        level = logged["short"] or logged["level"]
        said = _PREAMBLE.sub("", logged["text"])
        return _FRAMES.sub("", said).strip(), _ERROR if level in _ERROR_LEVELS else 1
    text = line.strip()
    # The lines of a traceback that are indented show where, not why.
    aside = line[0].isspace() or _FRAMES.match(text) or text.startswith(("Traceback (", "terminate called "))
    return text, _ERROR if _RAISED.match(line) else 1 if aside else 2
