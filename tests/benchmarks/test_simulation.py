"""The pieces of the benchmarks that are not real: known truths, and a runner that draws runs around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest

from benchmarks.statistics.simulation import AGREEMENT, Laboratory, Quiet, SimulatedRunner
from benchmarks.statistics.surrogates import (
    OFF_GRID,
    ON_GRID,
    Equal,
    Point,
    Table1a,
    best_anywhere,
    best_cell,
    point_of_cell,
)
from tune_bn.errors import RunnerError
from tune_bn.method.config import ModelConfig
from tune_bn.paper import tables as paper
from tune_bn.protocols.runner import PastTrial, SchedulerConfig, Task
from tune_bn.records.curves import Point as CurvePoint
from tune_bn.records.record import COMPLETED, PRUNED
from tune_bn.testing.tasks import Tasks
from tune_bn.training.config import RunConfig, TrainConfig

EPOCHS = 18
OURS, BASE = Point(0.1, 100.0, 0.1), Point(1.0, 1.0, 0.1)
LABORATORY = Laboratory(ON_GRID, replicate=3, rho=0.5)


def task(trial: int, *seeds: int, point: Point = OURS, test_metric: str | None = None, may_stop: bool = True) -> Task:
    config = RunConfig(
        ModelConfig(arch="resnet18", gamma=point.gamma), train=TrainConfig(epochs=EPOCHS, lr=point.lr, c=point.c)
    )
    overrides = {"gamma": point.gamma, "c": point.c, "lr": point.lr}
    return Task("search", "candidate", trial, overrides, config, seeds or (1,), test_metric, may_stop)


class Events(Quiet):
    """An observer that keeps what a runner tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[str] = []
        self.points: dict[tuple[str, int], list[CurvePoint]] = {}

    def task_started(self, task: Task) -> None:
        self.started.append(task.key)

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[CurvePoint]]) -> None:
        for seed, points in curves.items():
            self.points.setdefault((task.key, seed), []).extend(points)


@pytest.mark.parametrize("surrogate", [ON_GRID, OFF_GRID], ids=lambda surrogate: surrogate.name)
def test_the_surrogates_give_back_every_cell_of_table_1a(surrogate: Table1a) -> None:
    for cell in paper.cells("table1a"):
        assert surrogate.mean(point_of_cell(cell)) == pytest.approx(cell.mean, abs=1e-9)
        assert surrogate.std(point_of_cell(cell)) == pytest.approx(cell.std, abs=1e-9)


def test_one_surrogate_has_its_optimum_on_the_grid_and_the_other_beside_it() -> None:
    assert best_cell(ON_GRID) == best_cell(OFF_GRID) == 90.80
    point, mean = best_anywhere(ON_GRID)
    assert (point.gamma, point.lr, mean) == (0.1, 0.1, pytest.approx(90.80))
    assert ON_GRID.mean(OURS) == pytest.approx(mean)
    point, mean = best_anywhere(OFF_GRID)
    assert mean == pytest.approx(90.80 + 0.3, abs=0.001)
    assert min(abs(math.log10(point.gamma / cell.gamma)) for cell in paper.cells("table1a") if cell.gamma) > 0.05
    assert point.c < 50


def test_no_surrogate_goes_beyond_its_table() -> None:
    with pytest.raises(ValueError, match=r"gamma: got 0\.001; accepted"):
        ON_GRID.mean(Point(0.001, 100.0, 0.1))
    with pytest.raises(ValueError, match=r"lr: got 0\.5; accepted"):
        ON_GRID.mean(Point(0.1, 100.0, 0.5))


def test_the_scores_have_the_stated_moments_and_correlations() -> None:
    seeds = range(4000)
    ours, base = (np.array([LABORATORY.scores(point, seed) for seed in seeds]).T for point in (OURS, BASE))
    tolerance = 4 / math.sqrt(len(seeds))
    for scores, point in ((ours, OURS), (base, BASE)):
        mean, std = ON_GRID.mean(point), ON_GRID.std(point)
        assert np.allclose(scores.mean(axis=1), mean, atol=tolerance * std)
        assert np.allclose(scores.std(axis=1, ddof=1), std, rtol=tolerance)
        assert np.corrcoef(scores)[0, 1] == pytest.approx(AGREEMENT, abs=tolerance)
    for kind in range(2):
        assert np.corrcoef(ours[kind], base[kind])[0, 1] == pytest.approx(LABORATORY.rho, abs=tolerance)
    # Whole images.
    assert np.allclose(ours[0] * 50, np.round(ours[0] * 50), atol=1e-6)


def test_a_score_depends_on_replicate_configuration_and_seed_alone() -> None:
    def scores(replicate: int, point: Point, seed: int) -> tuple[float, float]:
        return Laboratory(Equal(), replicate, 0.5).scores(point, seed)

    assert scores(1, OURS, 5) == scores(1, Point(*OURS), 5)
    others = {scores(2, OURS, 5), scores(1, BASE, 5), scores(1, OURS, 6)}
    assert len(others | {scores(1, OURS, 5)}) == 4


def test_a_small_gamma_starts_late_and_ends_higher() -> None:
    ours, base = (Laboratory(ON_GRID, 3).curve(point, 1, EPOCHS) for point in (OURS, BASE))
    assert ours[EPOCHS // 4] < base[EPOCHS // 4]
    assert ours[-1] > base[-1]
    for curve, point in ((ours, OURS), (base, BASE)):
        assert all(earlier < later for earlier, later in pairwise(curve))
        assert curve[-1] == Laboratory(ON_GRID, 3).scores(point, 1)[0]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_comes_back_once_with_the_scores_of_its_runs(workers: int) -> None:
    tasks = [task(0, 1), task(1, 2, 3, test_metric="test_accuracy"), task(2, 4, point=BASE), task(3, 5)]
    feed, events = Tasks(*tasks), Events()
    SimulatedRunner(LABORATORY, workers).run(feed, events)
    assert events.started == [t.key for t in tasks]
    assert set(feed.results) == set(events.started)
    for t in tasks:
        point = BASE if t.trial == 2 else OURS
        assert [result.seed for result in feed.results[t.key]] == list(t.seeds)
        for result in feed.results[t.key]:
            val, test = LABORATORY.scores(point, result.seed)
            wanted = {"val_accuracy": val, "best_epoch": EPOCHS}
            assert result.scores == (wanted if t.test_metric is None else wanted | {t.test_metric: test})
            assert (result.status, result.epochs, result.reason) == (COMPLETED, EPOCHS, f"reached epoch {EPOCHS}")
            assert [point.step for point in result.curve] == list(range(1, EPOCHS + 1))
            assert tuple(events.points[t.key, result.seed]) == result.curve


def test_workers_run_side_by_side_in_virtual_time() -> None:
    feed = Tasks(task(0, 1), task(1, 1), task(2, 1))
    SimulatedRunner(LABORATORY, workers=2).run(feed, Events())
    first, second, third = (results[0].started_at for results in feed.results.values())
    assert first == second < third


def test_hopeless_trials_are_stopped_at_the_first_rung_and_say_so() -> None:
    scheduler = SchedulerConfig("asha", grace=2, reduction=3, max_epochs=EPOCHS)
    feed, events = Tasks(task(0, 1), task(1, 1, may_stop=False)), Events()
    history = [PastTrial("candidate", n, dict.fromkeys(range(1, EPOCHS + 1), 99.0)) for n in range(2, 6)]
    SimulatedRunner(LABORATORY).run(feed, events, scheduler=scheduler, history=history)
    (stopped,), (spared,) = feed.results.values()
    assert (stopped.status, stopped.epochs, stopped.reason) == (PRUNED, 2, "stopped by asha after epoch 2")
    assert stopped.scores == {"val_accuracy": stopped.curve[-1]["val_accuracy"], "best_epoch": 2}
    assert len(stopped.curve) == 2
    assert (spared.status, spared.epochs) == (COMPLETED, EPOCHS)


@pytest.mark.parametrize("name", ["asha", "median"])
def test_the_only_trial_runs_to_its_end(name: str) -> None:
    feed = Tasks(task(0, 1))
    SimulatedRunner(LABORATORY).run(feed, Events(), scheduler=SchedulerConfig(name, 2, 3, EPOCHS))
    ((result,),) = feed.results.values()
    assert (result.status, result.epochs) == (COMPLETED, EPOCHS)


@pytest.mark.parametrize(
    ("name", "gap", "status"),
    [("asha", 0.05, PRUNED), ("asha", -0.05, COMPLETED), ("median", 0.05, PRUNED), ("median", -0.05, COMPLETED)],
)
def test_a_scheduler_sees_the_mean_over_the_seeds(name: str, gap: float, status: str) -> None:
    seeds = (1, 2, 3)
    means = [fmean(step) for step in zip(*(LABORATORY.curve(BASE, s, EPOCHS) for s in seeds), strict=True)]
    past = {epoch: mean + gap for epoch, mean in enumerate(means, start=1)}
    history = [PastTrial("candidate", n, past) for n in range(1, 5)]
    feed = Tasks(task(0, *seeds, point=BASE))
    # One rung, so that the median rule's mean over the epochs is that of one epoch.
    scheduler = SchedulerConfig(name, grace=12, reduction=3, max_epochs=EPOCHS)
    SimulatedRunner(LABORATORY).run(feed, Events(), scheduler=scheduler, history=history)
    assert {result.status for result in feed.results["search-candidate-t00000-s1"]} == {status}


def test_a_feed_that_waits_for_nothing_is_refused() -> None:
    class Stuck(Tasks):
        exhausted = False  # type: ignore[assignment]

    with pytest.raises(RunnerError, match="accepted: a feed that ends"):
        SimulatedRunner(LABORATORY).run(Stuck(), Events())
