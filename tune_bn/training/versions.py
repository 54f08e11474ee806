"""Which code and which libraries produced a number."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tune_bn.data.registry import SOURCES
from tune_bn.host.extensions import added_code
from tune_bn.host.version import __version__
from tune_bn.method.norms import NORMS
from tune_bn.method.user_network import is_user_network, source_packages, source_sha256

PACKAGE = Path(__file__).parents[1]
BUILT_FROM = "commit.txt"
"""The commit of a package that was built from a checkout (``hatch_build.py``)."""


@cache
def library_versions(*archs: str) -> dict[str, str]:
    """Versions of what a result depends on; ``code`` is a hash over the Python files of this package.

    The hash tells two states of the code apart also where the package was installed from a wheel. Where networks of the
    user's are among ``archs``, ``network`` is the hash of their source files and of those that they import, and
    ``network_packages`` tells the versions of installed packages among these. ``extensions`` tells the installed
    packages that add norm layers or data sources.

    Raises:
        MethodError: a network of the user's cannot be imported.
    """
    found = {"tune_bn": __version__, "code": _code_hash(), "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    if added := added_code(NORMS.group, SOURCES.group):
        found["extensions"] = added
    if own := {arch for arch in archs if is_user_network(arch)}:
        found["network"] = source_sha256(own)
        if packages := source_packages(own):
            found["network_packages"] = packages
    return found


@cache
def commit() -> str | None:
    """Git commit of the checkout that this package is imported from, or was built from, ``-dirty`` if it was changed.

    None where none is to be had; :func:`commit_remark` says why.
    """
    return _commit()[0]


@cache
def commit_remark() -> str | None:
    """One line on why :func:`commit` is None; None where it is not."""
    known, why = _commit()
    if known is not None:
        return None
    return f"records will name no commit: {why}; their versions.code, a hash of its files, tells this code from others"


def _commit() -> tuple[str | None, str]:
    """The commit, or None and why."""
    with suppress(OSError, UnicodeDecodeError):
        built_from = (PACKAGE / BUILT_FROM).read_text(encoding="ascii").strip()
        if re.fullmatch(r"[0-9a-f]{40,64}(-dirty)?", built_from):
            return built_from, ""
    checkout = next((folder for folder in PACKAGE.parents if (folder / ".git").exists()), None)
    if checkout is None:
        return None, f"{PACKAGE} is no checkout, and was not built from one"
    # Git reads nothing of another user's checkout unless told that it is safe: its configuration may name commands.
    # Whoever owns this package runs code here anyway; anybody else may not.
    owners = {os.geteuid(), 0, PACKAGE.stat().st_uid}
    if not owners >= {checkout.stat().st_uid, (checkout / ".git").stat().st_uid}:
        return None, f"{checkout} belongs to somebody else than {PACKAGE}"

    def git(*arguments: str) -> str:
        trusted = ["-c", f"safe.directory={checkout.resolve()}", "-c", "core.fsmonitor=false"]
        command = ["git", *trusted, "-C", str(PACKAGE), *arguments]
        # Reading changes nothing there: a shared installation may not be written to.
        variables = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    try:
        if not git("ls-files", "--", "__init__.py"):
            return None, f"{PACKAGE} is no part of the checkout around it, and was not built from one"
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else ""), ""
    except subprocess.CalledProcessError as error:
        return None, f"git in {checkout}: {(error.stderr.strip().splitlines() or ['it failed'])[0]}"
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"git in {checkout}: {error}"


def _code_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
