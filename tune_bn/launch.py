"""``python -m tune_bn.launch train.py …``: run an untouched script under a study.

Seeds it as the run says, and hands what it gives to TensorBoard's ``SummaryWriter`` to the study where it asks for no
metrics in another way. Started by hand it runs the script and does nothing else. ``-m package.module`` works as for
Python; ``--deterministic`` before the script has torch compute by deterministic algorithms.
"""

from __future__ import annotations

import os
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tune_bn.script.folder import append_row, plain_number
from tune_bn.script.imports import when_imported
from tune_bn.script.ranks import rank
from tune_bn.script.run import current_run
from tune_bn.script.seeding import seed_everything

SCALARS = "scalars.jsonl"
"""In the run's folder: what was given to ``SummaryWriter``, one row a scalar."""


def main(arguments: list[str]) -> None:
    """Run the script that the arguments name."""
    deterministic = "--deterministic" in arguments[:1]
    rest = arguments[1:] if deterministic else arguments
    module = rest[:1] == ["-m"]
    rest = rest[1:] if module else rest
    if not rest or rest[0].startswith("-"):
        print("error: tune_bn.launch: accepted: [--deterministic] SCRIPT.py …, or -m MODULE …", file=sys.stderr)
        raise SystemExit(2)
    run = current_run()
    if run.folder is not None:
        seed_everything(run.seed, deterministic=deterministic)
        for name in ("torch.utils.tensorboard.writer", "tensorboardX.writer"):
            when_imported(name, partial(_tap, run.folder))
    sys.argv = rest
    if module:
        sys.path[0] = os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(rest[0]).resolve().parent)
        runpy.run_path(rest[0], run_name="__main__")


def _tap(folder: Path, module: Any) -> None:
    """Have ``add_scalar`` leave a row of its own as well."""
    inner = module.SummaryWriter.add_scalar

    def add_scalar(self: Any, tag: str, scalar_value: Any, global_step: Any = None, *rest: Any, **options: Any) -> Any:
        number = plain_number(scalar_value)
        if number is not None and rank() == 0:
            append_row(folder / SCALARS, {"step": int(global_step or 0), str(tag): number})
        return inner(self, tag, scalar_value, global_step, *rest, **options)

    module.SummaryWriter.add_scalar = add_scalar


if __name__ == "__main__":
    main(sys.argv[1:])
