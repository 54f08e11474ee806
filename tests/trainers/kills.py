"""A worker of its own that trains one run, and random kills of whoever takes part in it.

``python -m tests.trainers.kills FOLDER`` trains the run of a folder to its end and prints its curve.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.trainers.scripts import finish, start, trainer_of
from tune_bn.protocols.trainer import PreemptedError
from tune_bn.script.folder import ATTEMPT_VARIABLE
from tune_bn.trainers.command import keeper
from tune_bn.trainers.command.run import RunError

RANKS = """
import json, os, random, subprocess, sys, time, tune_bn
run = tune_bn.current_run(gamma=1.0, c=1.0)
# Ranks in sessions of their own, as torchrun starts them, and a pool beside.
code = "import time; time.sleep(600)"
ranks = [subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=place == 0) for place in range(2)]
rng = random.Random(run.seed)
value = 0.0
if run.checkpoint:
    state = json.loads(run.checkpoint.read_text())
    value = state["value"]
    rng.setstate((state["rng"][0], tuple(state["rng"][1]), state["rng"][2]))
for step in range(run.start, run.steps):
    value += rng.random() * run.gamma
    time.sleep(0.02)
    def save(path):
        path.write_text(json.dumps({"value": value, "rng": rng.getstate()}))
    if not run.report(step, save=save, val=value):
        break
    if any(rank.poll() is not None for rank in ranks):
        sys.exit("a rank has died")
for rank in ranks:
    rank.kill()
"""
STEPS = 12


def train(folder: Path) -> list[float]:
    """The run of a folder, from wherever it is, over failures of its script."""
    trainer = trainer_of(folder, RANKS, steps=STEPS, grace=1.0)
    while True:
        run = start(trainer, folder / "run")
        try:
            return finish(run)
        except (RunError, PreemptedError):
            continue
        finally:
            run.close()


def attempts(folder: Path) -> list[str]:
    """The marks of the attempts so far."""
    path = folder / "run/attempts.jsonl"
    return [json.loads(line)["mark"] for line in path.read_text().splitlines()] if path.exists() else []


def survivors(folder: Path) -> list[int]:
    """Processes of any attempt that live."""
    return [pid for mark in attempts(folder) for pid in keeper.marked(ATTEMPT_VARIABLE, mark)]


def doubled(folder: Path) -> list[str]:
    """Rows that one attempt wrote twice."""
    found = []
    for path in (folder / "run").glob("metrics.*.jsonl"):
        counted = Counter(json.loads(line)["step"] for line in path.read_text().split("\n")[:-1])
        found += [f"{path.name}: step {step}" for step, count in counted.items() if count > 1]
    return found


def storm(folder: Path, kills: int, seed: int) -> tuple[list[float], Counter[str]]:
    """Train a run while its worker, its leader and its ranks are killed at random; its curve, and who was killed."""
    rng, killed = random.Random(seed), Counter[str]()
    while True:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.trainers.kills", str(folder)], stdout=subprocess.PIPE, text=True
        )
        before = len(attempts(folder))
        end = time.monotonic() + 60
        while worker.poll() is None and (len(attempts(folder)) == before or not survivors(folder)):
            time.sleep(0.02)
            assert time.monotonic() < end, "no attempt begins"
        if killed.total() >= kills:
            out, _ = worker.communicate(timeout=120)
            assert worker.returncode == 0, out
            return json.loads(out.splitlines()[-1]), killed
        while killed.total() < kills and worker.poll() is None:
            time.sleep(rng.uniform(0.05, 0.4))
            living = survivors(folder)
            who = rng.choice(["worker", "script", "script"])
            if who == "worker" or not living:
                worker.kill()
                killed["worker"] += 1
                break
            try:
                os.kill(rng.choice(living), signal.SIGKILL)
                killed["script"] += 1
            except OSError:
                continue
        if worker.poll() is None:
            worker.communicate(timeout=120)
        else:
            worker.wait()
            end = time.monotonic() + 30
            while survivors(folder) and time.monotonic() < end:
                time.sleep(0.02)
            assert not survivors(folder), "something lives on after its worker was killed"


if __name__ == "__main__":
    print(json.dumps(train(Path(sys.argv[1]))))
