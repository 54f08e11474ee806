"""Writes into what is built which commit it was built from, so that an installed wheel can name it in its records."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILE = "tune_bn/commit.txt"


class CommitHook(BuildHookInterface):
    """``commit.txt``: the commit, ``-dirty`` where the package was changed; none outside a checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the build."""
        # An editable installation asks git at each start. What is built from an sdist holds the file already.
        if version == "editable" or (Path(self.root) / FILE).exists():
            return
        try:
            if self._git("ls-files", "--", "tune_bn/__init__.py") == "":
                return
            changed = self._git("status", "--porcelain", "--untracked-files=no", "--", "tune_bn")
            commit = self._git("rev-parse", "HEAD") + ("-dirty" if changed else "")
        except (OSError, subprocess.SubprocessError):
            return
        made = Path(self.directory) / "commit.txt"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(commit + "\n", encoding="utf-8")
        build_data["force_include"][str(made)] = FILE

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", self.root, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Nothing beside the wheel stays in its folder."""
        (Path(self.directory) / "commit.txt").unlink(missing_ok=True)
