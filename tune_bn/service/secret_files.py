"""Secrets in files that nobody else can read at any moment, and Ray's token."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

from tune_bn.errors import ServiceError
from tune_bn.records.files import write_text

OWN_CREDENTIALS = "# Written by tune_bn head; a file without this line is left alone."


def write_private(path: Path, text: str) -> None:
    """Write a whole file or nothing, with mode 0600 from its first byte on."""
    write_text(path, text, mode=0o600)


def read_or_make(path: Path) -> str:
    """The secret in a file; the first time a new one of 256 bits.

    Raises:
        ServiceError: others than its owner may read the file.
    """
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ServiceError(
            f"{path}: its mode is {mode:04o}; accepted: 0600 (and a new secret, if others read this one)"
        )
    return path.read_text(encoding="utf-8").strip()


def write_mlflow_credentials(home: Path, username: str, password: str) -> bool:
    """Let MLflow's clients of this user log in: ``~/.mlflow/credentials``. False where the user keeps an own one."""
    path = home / ".mlflow" / "credentials"
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(OWN_CREDENTIALS):
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # MLflow reads the file with interpolation.
    lines = f"mlflow_tracking_username = {username}\nmlflow_tracking_password = {password.replace('%', '%%')}\n"
    write_private(path, f"{OWN_CREDENTIALS}\n[mlflow]\n{lines}")
    return True


def ensure_ray_token(home: Path) -> Path:
    """Ray's token where Ray looks for it, readable by its owner alone; made by Ray unless there is one.

    Raises:
        ServiceError: Ray made none.
    """
    path = home / ".ray" / "auth_token"
    if path.exists():
        path.chmod(0o600)
        return path
    # Ray creates the file with what the umask leaves, and prints the token.
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "get-auth-token", "--generate"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    done = subprocess.run(
        command,
        env={**environment, "HOME": str(home)},
        umask=0o077,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode or not path.exists():
        reason = " ".join(done.stderr.split())[-200:]
        raise ServiceError(
            f"{path}: ray get-auth-token made no token ({reason}); accepted: ray[default] of tune_bn[cluster]"
        )
    return path
