"""The environment of a script."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tune_bn.host.process import WAITING, waiting
from tune_bn.protocols.trainer import Place
from tune_bn.script.folder import RUN_VARIABLE
from tune_bn.trainers.command.placeholders import text_of

PACKAGE = Path(__file__).parents[2]
HELPER = "helper"
AUDIT_VARIABLE = "TUNE_BN_AUDIT"
LEFT_OUT = ("TUNE_BN_", "RAY_", "MLFLOW_", "SLURM_")
"""Of the worker's own: a script that starts a Ray or an MLflow of its own must not find the study's."""


def script_environment(
    run: Path, work: Path, place: Place, extra: Mapping[str, object], *, origin: str, audit: Path | None = None
) -> dict[str, str]:
    """What a script finds in its environment.

    Args:
        run: its folder.
        work: its current folder.
        place: where the worker trains.
        extra: ``trainer.env``, with its placeholders filled.
        origin: the folder that the code was frozen from; where a path of modules leads there, it leads to the copy.
        audit: a folder in which every Python of the script notes what it opens; None: nothing is noted.
    """
    stated = {name: text_of(value) for name, value in extra.items()}
    env = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT) and name not in WAITING}
    env |= waiting(stated, os.environ)
    home = run / HELPER
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "tune_bn").exists():
        (home / "tune_bn").unlink(missing_ok=True)
        (home / "tune_bn").symlink_to(PACKAGE)
    env |= {
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "WANDB_MODE": "offline",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PWD": str(work),
    }
    if place.threads is not None:
        env |= {name: str(place.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if place.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    elif place.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(place.gpus)
    if not any(env.get(name) for name in ("VIRTUAL_ENV", "CONDA_PREFIX")):
        # As if the environment that this runs in were activated: scripts call `python` and `torchrun`.
        env["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), env.get("PATH", os.defpath)])
    env |= stated
    # The helper is found by a Python of another environment too, and nothing else of this one is: the folder holds
    # this package alone. Last, so that nothing of the script's own is hidden.
    paths = [_of_copy(path, origin, work) for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    env["PYTHONPATH"] = os.pathsep.join([*paths, str(home)])
    env[RUN_VARIABLE] = str(run)
    if audit is not None:
        audit.mkdir(parents=True, exist_ok=True)
        env[AUDIT_VARIABLE] = str(audit)
        env["PYTHONPATH"] = os.pathsep.join([str(PACKAGE / "script/audit"), env["PYTHONPATH"]])
    return env


def _of_copy(path: str, origin: str, work: Path) -> str:
    """A folder of modules where it lies in the copy of the code, if it is one of the code's."""
    inner = os.path.relpath(os.path.realpath(path), os.path.realpath(origin)) if os.path.isabs(path) else os.pardir
    return path if inner.split(os.sep)[0] == os.pardir else str(work / inner)
