"""What others keep on the same machine: heads of a cluster, as the list of processes shows them, and studies.

Nothing here opens what its owner has closed: a folder that this user may not read is left out, and counted.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tune_bn.host.ports import address_of
from tune_bn.service.head import SYSTEM_STATE, Head, default_state
from tune_bn.study.folder import StudyFolder, closed_studies, list_studies

_WATCH = ["-m", "tune_bn", "head", "resume", "--watch", "--output"]
"""How each head looks after the studies of its owner; every user may see command lines."""
_NO_SHELLS = ("nologin", "false")
_FIRST_PERSON = 1000


@dataclass(frozen=True)
class OtherHead:
    """The services of a head that somebody else keeps on this machine."""

    user: str
    studies: Path
    mlflow: str | None
    """Where its server is reached; None where its process does not show it."""


@dataclass(frozen=True)
class Studies:
    """The studies that this user may read, and a line about those that are closed."""

    folders: Sequence[StudyFolder]
    names: dict[Path, str]
    """What studies outside of the user's own folder are called: a path that a shell understands."""
    remark: str


def other_heads(processes: Path = Path("/proc")) -> list[OtherHead]:
    """The heads of others on this machine whose services run; empty where processes of others are hidden."""
    seen, servers = dict[int, Path](), dict[int, str]()
    for uid, words in _command_lines(processes):
        if uid == os.geteuid():
            continue
        for place in range(len(words) - len(_WATCH)):
            if words[place : place + len(_WATCH)] == _WATCH:
                seen[uid] = Path(words[place + len(_WATCH)])
        if "uvicorn" in words and any(word.startswith("mlflow.server") for word in words):
            options = dict(pairwise(words))
            if {"--host", "--port"} <= options.keys():
                host = "127.0.0.1" if options["--host"] in ("0.0.0.0", "::") else options["--host"]
                servers[uid] = f"http://{address_of(host, options['--port'])}"
    return [OtherHead(user_name(uid), studies, servers.get(uid)) for uid, studies in sorted(seen.items())]


def on_a_head() -> bool:
    """Whether this machine is the head of a cluster, of this user or of another."""
    # Not Path.exists: the state of another user is an error to it.
    states = (default_state(), SYSTEM_STATE)
    return any(os.path.exists(Head(state).settings_file) for state in states) or bool(other_heads())


def studies_of_everybody(output: Path) -> Studies:
    """The studies in ``output`` and, after them, those in the folders of all users of this machine.

    Raises:
        StudyError: ``output`` itself cannot be read.
    """
    own = list_studies(output)
    folders, names, closed, closed_users = list(own), dict[Path, str](), closed_studies(output), list[str]()
    known = {os.path.realpath(output)}
    for user, place, shown in _places():
        if (real := os.path.realpath(place)) in known:
            continue
        known.add(real)
        try:
            # Asked first: Path.is_dir says no where nobody may look.
            if not stat.S_ISDIR(os.stat(place).st_mode):
                continue
            os.listdir(place)
        except PermissionError:
            closed_users.append(user)
            continue
        except OSError:
            continue
        found = list_studies(place)
        folders += found
        names |= {folder.path: f"{shown}/{folder.name}" for folder in found}
        closed += closed_studies(place)
    return Studies(folders, names, closed_words(closed, closed_users))


def closed_words(closed: int, users: Sequence[str] = ()) -> str:
    """One line about what cannot be read; empty where there is nothing of that kind."""
    whose = " and ".join(filter(None, [", ".join(users[:-1]), *users[-1:]]))
    if not closed:
        return f"studies of {whose}, if there are any, cannot be read: their folders are closed" if whose else ""
    many = "1 study of others" if closed == 1 else f"{closed} studies of others"
    return f"{many} cannot be read" + (f", nor what is in the closed folders of {whose}" if whose else "")


def user_name(uid: int) -> str:
    """The name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _places() -> Iterator[tuple[str, Path, str]]:
    """Where studies of users may lie: the user, the folder, and the folder as a shell understands it."""
    for account in sorted(pwd.getpwall(), key=lambda one: one.pw_uid):
        person = account.pw_uid == 0 or account.pw_uid >= _FIRST_PERSON
        if person and account.pw_dir != "/" and not account.pw_shell.endswith(_NO_SHELLS):
            yield account.pw_name, Path(account.pw_dir, "studies"), f"~{account.pw_name}/studies"
    for head in other_heads():
        yield head.user, head.studies, str(head.studies)


def _command_lines(processes: Path) -> Iterator[tuple[int, list[str]]]:
    for folder in processes.glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            yield folder.stat().st_uid, words[:-1]
