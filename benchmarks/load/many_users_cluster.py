"""The cluster of the load test of many users: eight nodes on this machine that come and go, and what is left on it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from ray.cluster_utils import Cluster
from ray.exceptions import RayError

from benchmarks.load.many_users_plan import DRAIN_NODE, KILL_NODE, KILL_WORKER, ClusterEvent
from tune_bn.runners.ray.compat import GcsClient

NODES, LEAST_NODES = 8, 4
STORE_BYTES = 80 << 20
PREEMPTION, NOTICE_SECONDS = 2, 15.0
HELPERS = ("_Presence", "Turns", "JobSupervisor")
"""Actors that hold no core."""
AGENTS = ("IDLE", "Agent")
"""Processes of a node."""
GONE = ("DEAD", "REMOVED")


class Lab:
    """A head without cores, and nodes of one core each."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster(
            initialize_head=True,
            # Its hooks are for the main thread alone; the sandbox ends whatever is left.
            shutdown_at_exit=False,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE_BYTES,
                "temp_dir": str(folder),
                "include_dashboard": True,
                "dashboard_host": "127.0.0.1",
            },
        )
        self.lock = threading.Lock()
        self.nodes: list[Any] = []
        self.leaving: set[str] = set()
        self.done: Counter[str] = Counter()

    @property
    def address(self) -> str:
        """Of the head."""
        return str(self.cluster.address)

    def add_node(self) -> None:
        """One core more."""
        with self.lock:
            # It may be slow to appear on a busy machine; nobody waits for it.
            node = self.cluster.add_node(wait=False, num_cpus=1, object_store_memory=STORE_BYTES)
            self.nodes.append(node)

    def _take(self, rng: Random) -> Any:
        staying = [node for node in self.nodes if node.node_id not in self.leaving]
        return rng.choice(staying) if len(staying) > LEAST_NODES else None

    def kill_node(self, rng: Random) -> bool:
        """SIGKILL a node; whether there was one to spare."""
        with self.lock:
            node = self._take(rng)
            if node is None:
                return False
            self._remove(node)
        return True

    def drain_node(self, rng: Random, later: Callable[[float, Callable[[], None]], None]) -> bool:
        """Tell a node that it will be taken away, and do so."""
        with self.lock:
            node = self._take(rng)
            if node is None:
                return False
            deadline = int(1000 * (time.time() + NOTICE_SECONDS))
            try:
                GcsClient(address=self.address).drain_node(node.node_id, PREEMPTION, "the spot price rose", deadline)
            # One that has not joined yet is none to drain.
            except RayError:
                return False
            self.leaving.add(node.node_id)

        def leave() -> None:
            with self.lock:
                self._remove(node)

        later(NOTICE_SECONDS, leave)
        return True

    def _remove(self, node: Any) -> None:
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def kill_worker(self, rng: Random) -> bool:
        """SIGKILL a process that trains."""
        pids = sorted(actor["Pid"] for actor in self.workers().values() if actor["State"] == "ALIVE" and actor["Pid"])
        if not pids:
            return False
        try:
            os.kill(rng.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def suffer(self, event: ClusterEvent, rng: Random, later: Callable[[float, Callable[[], None]], None]) -> None:
        """Let an event happen."""
        if event.kind == KILL_WORKER:
            happened = self.kill_worker(rng)
        elif event.kind == KILL_NODE:
            happened = self.kill_node(rng)
        else:
            happened = self.drain_node(rng, later)
        if happened:
            self.done[event.kind] += 1
            if event.kind in (KILL_NODE, DRAIN_NODE):
                later(event.away, self.add_node)

    def actors(self) -> dict[str, dict[str, Any]]:
        """All that the cluster knows of."""
        return dict(self.cluster.global_state.actor_table(None))

    def workers(self) -> dict[str, dict[str, Any]]:
        """Those that train and are placed."""
        return {
            key: actor
            for key, actor in self.actors().items()
            if actor["ActorClassName"] not in HELPERS and actor["State"] in ("PENDING_CREATION", "ALIVE")
        }

    def drivers(self) -> dict[str, int]:
        """The process of each job."""
        return {job["JobID"]: job["DriverPid"] for job in self.cluster.global_state.job_table()}

    def capacity(self) -> int:
        """Trials that fit the nodes that are there."""
        return sum(
            1 for node in self.cluster.global_state.node_table() if node["Alive"] and node["Resources"].get("CPU", 0)
        )

    def leftovers(self) -> list[str]:
        """Actors, placement groups and processes that no study needs any more, in words."""
        found = [
            f"actor {actor['ActorClassName']} {actor['Name']} ({actor['State']})".replace("  ", " ")
            for actor in self.actors().values()
            if actor["State"] not in GONE
        ]
        groups: Mapping[str, Any] = self.cluster.global_state.placement_group_table(None)
        found += [f"placement group {key} ({one['state']})" for key, one in groups.items() if one["state"] not in GONE]
        found += [f"process {pid}: {words[:200]}" for pid, words in commands().items() if is_of_a_study(words)]
        return sorted(found)

    def shutdown(self) -> None:
        """End it all."""
        with self.lock:
            self.cluster.shutdown()


def is_of_a_study(words: str) -> bool:
    """Whether a command line is that of a driver or of a worker with work."""
    return (
        "tune_bn search" in words
        or "tune_bn head" in words
        or (words.startswith("ray::") and not any(name in words for name in AGENTS))
    )


def commands() -> dict[int, str]:
    """The command line of every process here but this one and the first."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in (1, os.getpid()):
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z":
                found[int(entry.name)] = words
    return found
