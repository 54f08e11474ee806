"""The contract suite on the runners that this package has, and on some that break it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from tune_bn.protocols.runner import Feed, Listener, PastTrial, Runner, RunResult, SchedulerConfig, Task
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.protocols.trainer import COMPLETED, PRUNED, Trainer
from tune_bn.runners.local import LocalRunner
from tune_bn.runners.ray import runner as ray_runner
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.start import RayOptions, connect, disconnect
from tune_bn.testing.runner import PATIENCE, RunnerContract
from tune_bn.testing.scripted import ScriptedTrainer
from tune_bn.testing.tasks import SCORE, Events, Tasks, Work, final_score, steps_of, task


class TestLocal(RunnerContract):
    def runner(self, trainer: Trainer, **asked: Any) -> Runner:
        return LocalRunner(trainer, **asked)


@pytest.fixture(scope="module")
def cluster(warm_ray: None) -> Iterator[None]:
    """One for all of them: it takes ten seconds to start."""
    connect(RayOptions(init={"num_cpus": 2}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_runner, "disconnect", lambda: None)
        yield
    disconnect()
    assert not ray.is_initialized()


@pytest.mark.usefixtures("cluster")
class TestRay(RunnerContract):
    def runner(
        self,
        trainer: Trainer,
        *,
        checkpoints: Path | None,
        warn: Callable[[str], None],
        stop: StopRequest,
        **settings: Any,
    ) -> Runner:
        return RayTuneRunner(trainer, RayOptions(**settings), checkpoints, warn=warn, stop=stop)

    def test_workers_stay_warm_from_stage_to_stage(self, tmp_path: Path) -> None:
        """Also one that waits for the last run of a stage, and whatever scheduler the next stage has."""

        def measured(config: Work, seed: int, step: int) -> dict[str, float]:
            # Each worker has one run: none ends before both have begun.
            (Path(config.folder) / str(seed)).touch()
            until = time.monotonic() + PATIENCE
            while len(list(Path(config.folder).iterdir())) < 2 and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(config.seconds)
            return {"val_score": config.level * (1 - 1 / (step + 1)), "worker": float(os.getpid())}

        scheduler = SchedulerConfig("asha", 2, 2, 8)
        history = [PastTrial("candidate", 9, {2: 80.0})]
        workers = []
        with self._open(ScriptedTrainer(SCORE, measured, final_score, steps_of)) as runner:
            for stage, rule in enumerate((None, scheduler, None)):
                (folder := tmp_path / str(stage)).mkdir()
                poor = Work(10.0, steps=8, folder=str(folder))
                tasks = [task(2 * stage, 1, config=poor), task(2 * stage + 1, 2, config=replace(poor, seconds=0.2))]
                feed = Tasks(*tasks)
                runner.run(feed, Events(), scheduler=rule, history=history if rule else ())
                assert set(feed.ended.values()) == {(PRUNED, 2) if rule else (COMPLETED, 8)}
                runs = (results[0] for results in feed.results.values())
                workers.append({run.curve[-1].metrics["worker"] for run in runs})
        assert len(workers[0]) == 2
        assert workers[1] == workers[2] == workers[0]


class Hasty(LocalRunner):
    """Hands back what has not ended."""

    def _train(self, task: Task, *given: Any) -> list[RunResult]:
        return super()._train(task, *given)[:1]


class Mute(LocalRunner):
    """Tells nobody that what ran was killed."""

    def run(self, feed: Feed, listener: Listener, **given: Any) -> None:
        listener.task_killed = lambda task: None  # type: ignore[method-assign]
        super().run(feed, listener, **given)


class Impatient(LocalRunner):
    """Gives up at the first error."""

    def __init__(self, trainer: Trainer, **asked: Any) -> None:
        super().__init__(trainer, **{**asked, "max_failures": 0})


class Shameless(LocalRunner):
    """Stops also what its feed spares."""

    def run(self, feed: Feed, listener: Listener, **given: Any) -> None:
        feed.spares = lambda task: False  # type: ignore[method-assign]
        super().run(feed, listener, **given)


def suite_on(kind: type[LocalRunner]) -> RunnerContract:
    class Suite(RunnerContract):
        def runner(self, trainer: Trainer, **asked: Any) -> Runner:
            return kind(trainer, **asked)

    return Suite()


BROKEN: Sequence[tuple[type[LocalRunner], str]] = (
    (Hasty, "test_every_task_comes_back_once_with_the_results_of_runs_alone"),
    (Mute, "test_a_stop_that_is_asked_for_kills_what_runs_and_keeps_what_finished"),
    (Impatient, "test_a_retry_goes_on_from_the_checkpoint_and_ends_as_if_nothing_had_happened"),
    (Impatient, "test_a_task_that_keeps_raising_fails_alone"),
    (Shameless, "test_arms_are_apart_and_a_feed_may_spare_a_task"),
)


@pytest.mark.parametrize(("kind", "test"), BROKEN)
def test_a_runner_that_breaks_the_contract_is_found(kind: type[LocalRunner], test: str) -> None:
    with pytest.raises(AssertionError):
        getattr(suite_on(kind), test)()
