"""What the code differs by from the commit that records name: a diff that goes into the bundle of a study."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from tune_bn.training.versions import PACKAGE

MOST_DIFF_BYTES = 4 * 2**20
"""Bytes of a diff that is kept."""


def code_changes(code: Sequence[Path] = ()) -> bytes:
    """The changes since their last commit, of this package and of files of the user's, as ``git diff`` prints them.

    Files that git does not know are whole additions. Files that lie in no checkout, or in one of another user's, have
    no part in it, and neither has anything where git is not to be had: the hashes in the records tell of them.

    Args:
        code: files or folders beside the package.

    Returns:
        Empty where nothing was changed.
    """
    by_checkout: dict[Path, list[Path]] = {}
    for path in (PACKAGE, *(one for one in map(Path.resolve, code) if not one.is_relative_to(PACKAGE))):
        root = next((folder for folder in path.parents if (folder / ".git").exists()), None)
        with suppress(OSError):
            if root is not None and _is_ours(root):
                by_checkout.setdefault(root, []).append(path)
    parts = []
    for root, paths in by_checkout.items():
        with suppress(OSError, subprocess.SubprocessError):
            parts.append(_changes(root, paths))
    found = b"".join(parts)
    return (
        found
        if len(found) <= MOST_DIFF_BYTES
        else b"# the changes are larger than %d bytes and were left out\n" % MOST_DIFF_BYTES
    )


def _is_ours(root: Path) -> bool:
    """Whether whoever runs this owns the checkout, whose configuration may name commands."""
    return {root.stat().st_uid, (root / ".git").stat().st_uid} <= {os.geteuid(), 0, PACKAGE.stat().st_uid}


def _changes(root: Path, paths: Iterable[Path]) -> bytes:
    plain = ["--no-ext-diff", "--no-textconv", "--no-color"]
    # A package that was installed into a checkout is no part of it.
    own = _git(root, "ls-files", "--", str(PACKAGE / "__init__.py")) if PACKAGE.is_relative_to(root) else b""
    named = [str(path.relative_to(root)) for path in paths if path != PACKAGE or own]
    if not named:
        return b""
    found = _git(root, "diff", *plain, "HEAD", "--", *named)
    for name in _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *named).split(b"\0"):
        if name.endswith(b".py"):
            found += _git(root, "diff", *plain, "--no-index", "--", os.devnull, os.fsdecode(name))
    return found


def _git(root: Path, *arguments: str) -> bytes:
    trusted = ["-c", f"safe.directory={root}", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false"]
    done = subprocess.run(
        ["git", *trusted, "-C", str(root), *arguments],
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    # A comparison with no index ends with 1 where there is a difference.
    if done.returncode not in (0, 1):
        raise subprocess.SubprocessError(done.stderr[:200])
    return done.stdout
