"""Nodes that are killed or drained under a study on Ray, and a neighbour that fails: it ends as an undisturbed one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.faults.harness import (
    ONE_STAGE,
    TRAINERS,
    FaultTable,
    References,
    Workplace,
    essence,
    named,
    run_in_process,
    space_with,
    trained_by,
)
from tests.faults.on_ray import Watcher, check, connected, disturbed, on_ray
from tune_bn.protocols.runner import Task
from tune_bn.protocols.trainer import Trainer
from tune_bn.records.record import FAILED
from tune_bn.runners.ray.compat import GcsClient, preemption
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.study.folder import StudyFolder

PREEMPTION = preemption()
FOREVER_MS = 2**53

pytestmark = pytest.mark.usefixtures("one_thread")


HEALTH_CHECKS = {"INITIAL_DELAY_MS": 500, "PERIOD_MS": 300, "TIMEOUT_MS": 1000, "FAILURE_THRESHOLD": 4}
"""By which a node that is gone is noticed in a second or two."""


@pytest.fixture
def cluster(counting: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that trains nothing, where the driver is, and two nodes for a trial each."""
    for name, value in HEALTH_CHECKS.items():
        monkeypatch.setenv(f"RAY_health_check_{name.lower()}", str(value))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_whole_node_is_killed(
    tmp_path: Path, counting: Path, cluster: Cluster, undisturbed: References, fault_table: FaultTable, trainer: str
) -> None:
    # Slow until it happened: the run that is hit must not end before, and two workers whose starts lie a quarter of a
    # minute apart on a busy machine must both be at their start then.
    content = trained_by(trainer, ONE_STAGE)
    place = Workplace(tmp_path, content, pace=1.0, counting=counting)
    options = connected(place, address=cluster.address)
    node = sorted(cluster.worker_nodes, key=lambda node: node.node_id)[0]
    removal = threading.Thread(target=lambda: cluster.remove_node(node, allow_graceful=False))

    def kill(watcher: Watcher, task: Task) -> None:
        if not watcher.times and watcher.two_began:
            watcher.times += 1
            removal.start()
        elif watcher.killed:
            place.set_pace(0.02)

    watcher = Watcher(kill)
    disturbed(place, options, watcher)
    removal.join()
    row = fault_table.add(named("SIGKILL of a node", trainer), watcher.times, undisturbed(content), place.outcome())
    check(place, row, watcher, most_extra=100 / 8)
    assert [record.attempts for record in place.records() if record.attempts > 1] == [2] * len(watcher.killed)
    assert len(watcher.killed) == 1


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("checkpoints", [True, False], ids=["shared checkpoints", "no checkpoints"])
def test_a_node_is_drained(
    tmp_path: Path,
    counting: Path,
    cluster: Cluster,
    undisturbed: References,
    fault_table: FaultTable,
    checkpoints: bool,
    trainer: str,
) -> None:
    # Slow until it happened: the run that is hit must not end before, and two workers whose starts lie a quarter of a
    # minute apart on a busy machine must both be at their start then.
    content = trained_by(trainer, ONE_STAGE)
    place = Workplace(tmp_path, content, pace=1.0, counting=counting)
    # No checkpoint is due: the one that counts is written on notice.
    options = connected(place, address=cluster.address, checkpoint_seconds=3600, max_failures=0)
    gone = sorted(node.node_id for node in cluster.worker_nodes)[0]

    def drain(watcher: Watcher, task: Task) -> None:
        if not watcher.times and watcher.two_began:
            watcher.times += 1
            client = GcsClient(address=cluster.address)
            accepted, reason = client.drain_node(gone, PREEMPTION, "the spot price rose", FOREVER_MS)
            assert accepted, reason
        elif watcher.killed:
            place.set_pace(0.02)

    watcher = Watcher(drain)

    def make(trained: Trainer, folder: StudyFolder) -> RayTuneRunner:
        return on_ray(trained, options, folder) if checkpoints else RayTuneRunner(trained, options)

    run_in_process(place, make, watcher)
    name = named("node drained" if checkpoints else "node drained, no checkpoint", trainer)
    row = fault_table.add(name, watcher.times, undisturbed(content), place.outcome())
    check(place, row, watcher, most_extra=0 if checkpoints else 100 / 8)
    # It is no failure of the run, though none was allowed.
    assert {record.attempts for record in place.records()} == {1}
    assert len(watcher.killed) == 1


def test_of_two_studies_on_one_slot_each_gets_turns_and_one_fails_alone(
    tmp_path: Path, counting: Path, undisturbed: References, fault_table: FaultTable
) -> None:
    content = {**ONE_STAGE, "seeds": {"confirm": [1, 2, 3, 4, 5, 6]}}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        good = Workplace(tmp_path / "good", content, pace=0.05, counting=counting)
        broken = space_with(model={"arch": "counting_network:breaking"}, budget={"max_failures": 0, "trials": 2})
        bad = Workplace(tmp_path / "bad", broken, pace=0.05, counting=counting)
        first = good.start("--address", cluster.address)
        good.wait_for_records(1, first)
        # Five seconds a run, and eleven of them: the second takes a while to begin.
        good.set_pace(0.1)
        second = bad.start("--address", cluster.address)
        said, error = second.communicate(timeout=400)
        # It came later, and had its turns before the stage of the first was over.
        assert first.poll() is None
        assert len(good.records()) < 12
        assert second.returncode not in (0, 130), said + error
        assert "Traceback" not in error
        good.set_pace(0)
        said, error = first.communicate(timeout=400)
        assert first.returncode in (0, 1), said + error
    finally:
        cluster.shutdown()
    assert {record.status for record in bad.records()} == {FAILED}
    assert essence(good.records()) == essence(undisturbed(content).records)
    row = fault_table.add("another study on the cluster fails", 1, undisturbed(content), good.outcome())
    assert (row.lost, row.duplicates, row.extra_work_percent) == (0, 0, 0)
