"""The nodes of a Slurm job, as its script holds them: a step on each, by which Ray starts, is heard of, and ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tune_bn.runners.ray.words import last_words
from tune_bn.service.slurm_control import node_addresses
from tune_bn.service.slurm_node import END, MARK

END_SECONDS = 10.0


@dataclass
class Step:
    """What runs on one node."""

    process: subprocess.Popen[bytes]
    up: Mapping[str, str] | None = None
    """What it told when Ray had started: ``address`` of the head, ``folder``."""
    error: str = ""
    said: bytearray = field(default_factory=bytearray)
    """Whatever else came out of it."""
    ended: bool = False

    def order(self, content: Mapping[str, Any] | None) -> None:
        """Where the head is, or None: the end."""
        assert self.process.stdin is not None
        # It may have ended.
        with suppress(OSError):
            if content is not None:
                self.process.stdin.write(json.dumps(content).encode() + b"\n")
                self.process.stdin.flush()
            else:
                self.process.stdin.close()


class Nodes:
    """The nodes of a job, each with a :mod:`tune_bn.service.slurm_node`.

    Args:
        events: takes ``("node", name, what it tells)`` and ``("ended", name, exit status)``.
        environment: what Slurm says.
    """

    def __init__(self, events: SimpleQueue[tuple[str, Any, Any]], environment: Mapping[str, str]) -> None:
        self._events = events
        self._environment = environment
        self.steps: dict[str, Step] = {}
        self.head = ""

    def start(self, names: Sequence[str]) -> None:
        """Begin on every node; the head is the one on which this process runs."""
        addresses = node_addresses(names)
        own = self._environment.get("SLURMD_NODENAME", "")
        self.head = own if own in names else names[0]
        for name in names:
            given = {
                "supervisor": os.getpid() if name == self.head else None,
                "names": [addresses.get(name, name), name],
                "others": [addresses.get(other, other) for other in names if other != name],
            }
            command = [*_srun(name, self._environment), sys.executable, "-m", "tune_bn.service.slurm_node"]
            process = subprocess.Popen(
                [*command, json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self.steps[name] = Step(process)
            threading.Thread(target=self._listen, args=[name], daemon=True).start()

    def _listen(self, name: str) -> None:
        step = self.steps[name]
        assert step.process.stdout is not None
        for line in step.process.stdout:
            if line.startswith(MARK.encode()):
                self._events.put(("node", name, json.loads(line[len(MARK) :])))
            else:
                step.said += line
        self._events.put(("ended", name, step.process.wait()))

    def joined(self, name: str, up: Mapping[str, str]) -> None:
        """A node told that its Ray has started; when the head does, the others are told where it is."""
        self.steps[name].up = up
        if name == self.head:
            for other, step in self.steps.items():
                if other != name:
                    step.order({"address": self.address, "folder": str(self.folder)})

    @property
    def up(self) -> list[str]:
        """Nodes that have joined."""
        return [name for name, step in self.steps.items() if step.up is not None]

    @property
    def missing(self) -> list[str]:
        """Nodes that have not."""
        return [name for name, step in self.steps.items() if step.up is None]

    @property
    def address(self) -> str:
        """``HOST:PORT`` of the head, once it has started."""
        return self._of_the_head()["address"]

    @property
    def folder(self) -> Path:
        """The folder for Ray's files, of the same path on every node, once the head has started."""
        return Path(self._of_the_head()["folder"])

    def _of_the_head(self) -> Mapping[str, str]:
        up = self.steps[self.head].up
        assert up is not None
        return up

    def words(self, name: str) -> str:
        """Why a node has not joined."""
        step = self.steps[name]
        if step.error:
            return step.error
        said = last_words(bytes(step.said)).removeprefix("srun: ")
        return f"its step ended ({said})" if step.ended else "it has not joined"

    def end(self) -> None:
        """End what runs on the nodes; each removes its files. May be called twice."""
        if self.head in self.up:
            # An srun that was itself told to end may carry no more words.
            with suppress(OSError):
                (self.folder / END).touch()
        for step in self.steps.values():
            step.order(None)
        deadline = time.monotonic() + END_SECONDS
        for step in self.steps.values():
            try:
                step.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                step.process.kill()
        self.steps.clear()


def _srun(name: str, environment: Mapping[str, str]) -> list[str]:
    """One task on one node, beside the batch step. What the site or the job's own options set otherwise is stated."""
    cpus = environment.get("SLURM_CPUS_PER_TASK")
    return [
        *("srun", "--nodes=1", "--ntasks=1", f"--nodelist={name}", "--overlap", "--export=ALL", "--mpi=none"),
        *("--kill-on-bad-exit=0", "--wait=0", "--quiet", "--job-name=ray"),
        *([f"--cpus-per-task={cpus}"] if cpus else []),
    ]
