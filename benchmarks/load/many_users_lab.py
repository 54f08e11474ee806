"""The inside of the sandbox of the load test of many users: carries a plan out and tells what it saw.

    python -m benchmarks.load.many_users_lab OPTIONS.json OUTCOME.json

``/tmp`` is the sandbox's own. :mod:`benchmarks.load.many_users` makes the sandbox and reads the outcome.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.load import many_users_network
from benchmarks.load.many_users_cluster import GONE, NODES, Lab, commands
from benchmarks.load.many_users_operator import PLACE, Operator, Watch
from benchmarks.load.many_users_plan import (
    LONG_SHAPE,
    USERS,
    Plan,
    make_plan,
    runs_left,
    space_of,
)
from tune_bn.study.driver import WORKING, read_driver_state

AT_ONCE = 1
"""Studies that a user has at work at the same time, beside the long one."""
SETTLE_SECONDS = 60.0
"""By then nothing of the last study may be left on the cluster."""
CACHES = ("torchinductor_", ".cache", ".config")
"""Folders that torch and matplotlib keep for the next time, whoever imports them."""


class Sampler:
    """Once a second: who holds how many slots, and who could use how many."""

    def __init__(self, lab: Lab, watch: Watch, operators: list[Operator]) -> None:
        self.lab = lab
        self.watch = watch
        self.operators = operators
        self.rows: list[dict[str, Any]] = []
        self.names: dict[int, str] = {}
        self.kinds: set[str] = set()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        while not self.ended.wait(1.0):
            try:
                self.rows.append(self._look())
            except Exception as error:
                self.watch.log(f"sampler: {type(error).__name__}: {error}")

    def _look(self) -> dict[str, Any]:
        held: dict[str, int] = {}
        drivers = self.lab.drivers()
        for actor in self.lab.workers().values():
            if (kind := actor["ActorClassName"]) not in self.kinds:
                self.kinds.add(kind)
                self.watch.log(f"actors of the class {kind}")
            name = self._name(drivers.get(actor["JobID"], 0))
            held[name] = held.get(name, 0) + 1
        # Those that the others on the cluster see.
        present = {
            self._name(drivers.get(actor["JobID"], 0))
            for actor in self.lab.actors().values()
            if actor["Name"].startswith("study-") and actor["State"] not in GONE
        }
        wants = {
            one.plan.words: wanted
            for one in self.operators
            if one.active and one.plan.words in present and (wanted := self._wants(one, held.get(one.plan.words, 0)))
        }
        return {
            "at": self.watch.now,
            "capacity": self.lab.capacity(),
            "present": sorted(present),
            "held": held,
            "wants": wants,
        }

    def _name(self, pid: int) -> str:
        if pid not in self.names:
            for operator in self.operators:
                state = read_driver_state(operator.folder)
                if state is not None and state.pid == pid:
                    self.names[pid] = operator.plan.words
        return self.names.get(pid, "?")

    def _wants(self, operator: Operator, held: int) -> int:
        """How many slots it could use: no more than its stage has runs that are not recorded."""
        state = read_driver_state(operator.folder)
        if state is None or state.state != WORKING or not operator.folder.is_locked or state.reason:
            return 0
        at_most = int(space_of(operator.plan)["resources"].get("max_concurrent", NODES))
        # The records are fresher than what the driver tells every few seconds.
        return max(held, min(at_most, runs_left(operator.plan, operator.count())))


def main() -> None:
    """Carry it out."""
    options = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    plan = make_plan(options["seed"], options["studies"], options["minutes"])
    outcome = carry_out(plan, options)
    Path(sys.argv[2]).write_text(json.dumps(outcome, indent=1), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)


def carry_out(plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
    """Everything, from the first node to what is left."""
    folders = {name: PLACE / name for name in ("ray", "tmp", "tmp/ray", "shell", "logs", "home", *USERS)}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for user in USERS:
        shutil.copy(many_users_network.__file__, folders[user])
    os.environ |= {
        many_users_network.PACE: "1",
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["tmp"]),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    watch, rng = Watch(), Random(options["seed"])
    lab = Lab(folders["ray"])
    os.environ["RAY_ADDRESS"] = lab.address
    for _ in range(NODES):
        lab.add_node()
    watch.log(f"{lab.address} with {NODES} nodes")
    # What the head itself has there is the cluster's own.
    before = _files(folders)
    watch = Watch()
    operators = [Operator(study, watch, lab, 60 * options["patience"]) for study in plan.studies]
    sampler = Sampler(lab, watch, operators)
    sampler.thread.start()
    gates = {user: threading.Semaphore(AT_ONCE) for user in USERS}

    def carry(operator: Operator) -> None:
        watch.sleep_until(operator.plan.begins)
        if operator.plan.shape == LONG_SHAPE:
            operator.run()
            return
        with gates[operator.plan.user]:
            operator.run()

    threads = [threading.Thread(target=carry, args=(operator,), daemon=True) for operator in operators]
    for thread in threads:
        thread.start()
    for event in plan.events:
        watch.sleep_until(event.at)
        if not any(thread.is_alive() for thread in threads):
            break
        watch.log(f"cluster: {event.kind}")
        try:
            lab.suffer(event, rng, watch.later)
        except Exception as error:
            watch.log(f"cluster: {type(error).__name__}: {error}")
    for thread in threads:
        thread.join()
    ended = watch.now
    sampler.ended.set()
    watch.settle()
    watch.log("all studies are through")
    outcome: dict[str, Any] = {"seconds": round(ended, 1), "events": dict(lab.done), "samples": sampler.rows}
    outcome["left"] = _leftovers(lab, watch, folders, before)
    outcome["studies"] = [_study(operator) for operator in operators]
    return outcome


def _files(folders: dict[str, Path]) -> set[str]:
    """What lies where temporary files go, in the home of the users' account and in shared memory."""
    places = [folders["tmp"], folders["shell"], folders["home"], Path("/dev/shm")]
    return {str(path) for place in places for path in place.iterdir() if not path.name.startswith(CACHES)}


def _leftovers(lab: Lab, watch: Watch, folders: dict[str, Path], before: set[str]) -> list[str]:
    deadline = watch.now + SETTLE_SECONDS
    while (found := lab.leftovers()) and watch.now < deadline:
        time.sleep(1)
    lab.shutdown()
    deadline = watch.now + 20
    while (alive := commands()) and watch.now < deadline:
        time.sleep(1)
    found += [f"process after all: {words[:200]}" for words in alive.values()]
    return found + [f"file {name}" for name in sorted(_files(folders) - before)]


def _study(operator: Operator) -> dict[str, Any]:
    from benchmarks.load.many_users_oracle import judged

    row = judged(operator.left(), operator.home)
    operator.watch.log(f"{operator.plan.words}: {row['wrong'] or 'as told'}")
    return row


if __name__ == "__main__":
    main()
