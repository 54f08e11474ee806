"""Breaks MLflow and PostgreSQL under a study, and prints what became of it as JSON: run by mlflow_outage.sh."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.load.mlflow_load import missing
from tests.faults.harness import Workplace, space_with
from tune_bn.service import tracking_uri
from tune_bn.service.head import Head, default_state

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "12"))
"""Longer than the pause between two attempts of the observer."""
BRISK, SLOW = 0.05, 1.0
"""Seconds of a training forward; a run has 50. The study must not end before its servers are broken."""
MIDDLING = OUTAGE_SECONDS / 48


def answers(uri: str) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((uri.partition("//")[2].split(":")[0], int(uri.rpartition(":")[2]))) == 0


def refuse(uri: str, seconds: float) -> int:
    """Stand in for a server that is away, until somebody has tried to reach it for so long; returns how often."""
    address = uri.partition("//")[2].split(":")
    with socket.create_server((address[0], int(address[1])), backlog=16) as listener:
        tries = [time.monotonic()]
        while tries[-1] - tries[0] < seconds:
            assert select.select([listener], [], [], 60)[0], "nobody tries any more"
            listener.accept()[0].close()
            tries.append(time.monotonic())
    return len(tries) - 1


def main() -> None:
    uri = tracking_uri()
    assert uri is not None
    services = Head(default_state()).supervisor
    content = space_with(tracking={"uri": uri})
    place = Workplace(Path("/run/home/work"), content, pace=BRISK)
    process = place.start()

    def says(phrase: str) -> bool:
        """Whether the last that the driver said of MLflow is this."""
        lines = (place.study / "driver.log").read_text(encoding="utf-8").splitlines()
        return phrase in next((line for line in reversed(lines) if "MLflow at" in line), "")

    def wait_until(condition: Callable[[], bool]) -> None:
        place.set_pace(SLOW)
        place.wait_for(condition, process)
        place.set_pace(BRISK)

    place.wait_for_records(1, process)
    killed = services.pids()["mlflow"]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: services.pids().get("mlflow", killed) != killed and answers(uri))

    place.wait_for_records(3, process)
    services.stop_program("mlflow")
    place.set_pace(MIDDLING)
    tries = refuse(uri, OUTAGE_SECONDS)
    during = len(place.records())
    services.start_program("mlflow")
    wait_until(lambda: says("is back; "))

    place.wait_for_records(during + 1, process)
    services.stop_program("postgres")
    wait_until(lambda: says("cannot be used now"))
    services.start_program("postgres")
    wait_until(lambda: says("is back; "))
    said, warned = process.communicate(timeout=600)

    outcome = {
        "returncode": process.returncode,
        "said": said + warned,
        "tries": tries,
        "outages": (place.study / "driver.log").read_text(encoding="utf-8").count("is back; "),
        "missing": missing(uri, place.study),
        "records": [asdict(record) for record in place.records()],
        "steps": place.steps,
        "content": content,
    }
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
