"""Which code and which libraries produced a number."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tune_bn
from tune_bn.method.user_network import is_user_network, source_packages, source_sha256

PACKAGE = Path(tune_bn.__file__).parent


@cache
def library_versions(*archs: str) -> dict[str, str]:
    """Versions of what a result depends on; ``code`` is a hash over the Python files of this package.

    The hash tells two states of the code apart also where the package was installed from a wheel. Where networks of the
    user's are among ``archs``, ``network`` is the hash of their source files and of those that they import, and
    ``network_packages`` tells the versions of installed packages among these.

    Raises:
        MethodError: a network of the user's cannot be imported.
    """
    found = {"tune_bn": tune_bn.__version__, "code": _code_hash(), "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    if own := {arch for arch in archs if is_user_network(arch)}:
        found["network"] = source_sha256(own)
        if packages := source_packages(own):
            found["network_packages"] = packages
    return found


@cache
def commit() -> str | None:
    """Git commit of the checkout that this package is imported from, ``-dirty`` if it was changed; None for a wheel."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if not git("ls-files", "--", "__init__.py"):
            return None
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _code_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
