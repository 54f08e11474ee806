"""One Tune experiment over all stages of a study, so that its workers stay warm from one stage to the next.

Tune's own entry points give an experiment back once it is over, and then its workers are gone. So its controller is
taken step by step here, by one stage after the other.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ray.tune import CheckpointConfig
from ray.tune.experiment import Experiment as TuneExperiment
from ray.tune.experiment import Trial

from tune_bn.protocols.runner import Task
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.runners.ray import compat
from tune_bn.runners.ray.feed import CurrentStage, FeedCallback, FeedSearcher
from tune_bn.runners.ray.schedulers import Scheduler
from tune_bn.runners.ray.share import ClusterShare
from tune_bn.runners.ray.trainable import TASK
from tune_bn.runners.stopping import EarlyStopping

_MANY = 100_000


def _trial_name(trial: Trial) -> str:
    # Tune pickles this function for every trial; with the tasks in a closure that grew with the square of their number.
    task: Task = trial.config[TASK]
    return task.key


class Experiment:
    """Workers, and who hands them trials.

    Args:
        trainable: what Tune trains, with all that its workers share.
        folder: of Tune's own files.
        share: what the study may take of the cluster.
        max_failures: of a trial that raises.
        pending: trials that may wait for a worker; None: any number.
        keep: seconds for which a worker without a trial is kept while no trial waits.
        own_ray: whether the Ray is this process's own.
    """

    def __init__(
        self,
        trainable: Any,
        folder: Path,
        share: ClusterShare,
        *,
        max_failures: int,
        pending: int | None = None,
        keep: float = 0.0,
        own_ray: bool = False,
    ) -> None:
        self._experiment = TuneExperiment(
            "",
            trainable,
            num_samples=sys.maxsize,
            storage_path=str(folder),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            max_failures=max_failures,
        )
        self._share = share
        self._pending = pending or _MANY
        self._keep, self._own_ray = keep, own_ray
        self._controller: Any = None
        self._stage: CurrentStage
        self._scheduler: Scheduler

    def work(self, searcher: FeedSearcher, callback: FeedCallback, stopping: EarlyStopping, stop: StopRequest) -> None:
        """Work until the searcher has handed out all and all came back, or until the callback says that it must end.

        Raises:
            Interrupted: a stop was asked for.
            TuneError, RayError: the cluster is lost.
        """
        if self._controller is None:
            self._stage = CurrentStage(callback)
            self._scheduler = Scheduler(stopping, lambda: self._share.beside_others)
            self._controller = compat.make_controller(
                self._experiment,
                searcher,
                self._scheduler,
                [self._stage],
                keep=self._keep,
                own_ray=self._own_ray,
            )
            self._controller.update_max_pending_trials(self._pending)
        else:
            compat.go_on(self._controller, searcher)
            self._stage.stage, self._scheduler.stopping = callback, stopping
        # Ray has taken signals for itself.
        stop.listen()
        while not (searcher.over or callback.failure is not None or callback.released):
            # Ten steps a second at least, whatever trials report.
            stop.check()
            self._controller.step()

    def close(self) -> None:
        """End its workers, and the trials that still run; of none of these it is said that they are complete."""
        if self._controller is not None:
            self._controller.cleanup()
