"""Running a script that starts servers where it can hurt nobody: in namespaces of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ISOLATED = ["unshare", "--fork", "--kill-child", "--pid", "--net", "--mount", "--mount-proc"]

RunSandboxed = Callable[..., Path]
HANGS = 1200  # [s] a script that takes longer will never end; on a loaded machine the longest was seen to take 780


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.timeout(HANGS + 60))


@pytest.fixture
def run_sandboxed(tmp_path: Path) -> RunSandboxed:
    """``run_sandboxed("x.sh", tools=[…], NAME="value")`` runs ``tests/system/x.sh``; returns what it saw as /run."""

    def run(script: str, *, tools: list[str], timeout: float = HANGS, **variables: str) -> Path:
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        missing = [tool for tool in ["unshare", "ip", *tools] if shutil.which(tool, path=path) is None]
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")
        if subprocess.run([*ISOLATED, "true"], capture_output=True).returncode != 0:
            pytest.skip("unshare may not make namespaces here; run as root")
        scratch = tmp_path / "run"
        scratch.mkdir()
        environment = {
            **os.environ,
            "PATH": path,
            "SCRATCH": str(scratch),
            "BIN": str(Path(sys.executable).parent),
            "USER_NAME": getpass.getuser(),
            **variables,
        }
        try:
            subprocess.run(
                [*ISOLATED, "bash", str(HERE / script)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stdout or b"").decode(errors="replace")
            pytest.fail("\n".join([str(error), said, *map(_tail, sorted(scratch.glob("logs/*")))]), pytrace=False)
        return scratch

    return run


def _tail(log: Path) -> str:
    return f"== {log.name} ==\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
