"""Where the runs of a study are trained: on a Ray that is joined or started, or in this process.

Ray is loaded where runs are trained on it alone: a study of this process alone needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tune_bn.records.commands import IN_PROCESS

if TYPE_CHECKING:
    from tune_bn.observers.console.observer import ConsoleObserver
    from tune_bn.protocols.runner import Runner
    from tune_bn.protocols.stop_request import StopRequest
    from tune_bn.protocols.trainer import Trainer
    from tune_bn.runners.ray.start import RayOptions
    from tune_bn.space.space import Space
    from tune_bn.study.folder import StudyFolder

    MakeRunner = Callable[[StudyFolder, Callable[[str], None], StopRequest], Runner]
    """A runner for a study's folder; it warns by a function, and heeds a request to stop."""

BUILTIN = "tune_bn.trainers.builtin"
"""Module of the trainer of a space that names none."""


class Runners:
    """Makes the runner of a study.

    Args:
        space: of the study.
        address: of a Ray cluster; None: a Ray is started on this machine; :data:`tune_bn.records.commands.IN_PROCESS`:
            there is none.
        console: is told where the runs are trained.
        ray_init: further arguments of ``ray.init``.
    """

    def __init__(
        self, space: Space, address: str | None, console: ConsoleObserver, ray_init: Mapping[str, Any] | None = None
    ) -> None:
        self.space, self.address = space, address
        self._console, self._init = console, ray_init or {}
        self._begun = False

    def begin(self) -> None:
        """Start the Ray of this machine, if there is to be one: it takes seconds in which this process may go on.

        Raises:
            RunnerError: it cannot be started, or a trial does not fit it.
        """
        if self.address is None:
            self._connect(self._options())

    def reach(self, trainer: Trainer) -> MakeRunner:
        """Join the cluster, or see to it that Ray has started.

        Raises:
            RunnerError: that cannot be, or a trial does not fit.
        """
        if self.address == IN_PROCESS:
            return self._in_process(trainer)
        options = self._options(trainer)
        if not self._begun:
            self._connect(options)

        from tune_bn.runners.ray import compat
        from tune_bn.runners.ray.runner import RayTuneRunner

        compat.require()

        def on_ray(folder: StudyFolder, warn: Callable[[str], None], stop: StopRequest) -> RayTuneRunner:
            # Those of a Ray cluster often have one account.
            studies = folder.path.parent.resolve()
            ours = replace(options, user=f"{studies.stat().st_uid}:{studies}")
            return RayTuneRunner(trainer, ours, folder.checkpoints, runs=folder.runs, warn=warn, stop=stop)

        return on_ray

    def leave(self) -> None:
        """Leave the cluster, where it was reached; a Ray of this machine ends. May be called twice."""
        if self._begun:
            from tune_bn.runners.ray.start import disconnect

            disconnect()

    def _connect(self, options: RayOptions) -> None:
        from tune_bn.runners.ray.start import connect

        for line in self._where():
            self._console.note(line)
        connect(options)
        self._begun = True

    def _options(self, trainer: Trainer | None = None) -> RayOptions:
        from tune_bn.runners.ray.start import RayOptions

        resources = self.space.resources
        return RayOptions(
            address=self.address,
            cpu=resources.cpu,
            gpu=resources.gpu,
            max_concurrent=resources.max_concurrent,
            elastic=resources.elastic,
            max_failures=self.space.budget.max_failures,
            checkpoint_seconds=resources.checkpoint_seconds,
            keep_weights=resources.keep_weights == "confirmed",
            code=() if trainer is None else trainer.code,
            modules=(BUILTIN if trainer is None else type(trainer).__module__,),
            init=self._init,
            tell=self._console.warn,
        )

    def _in_process(self, trainer: Trainer) -> MakeRunner:
        from tune_bn.runners.local import LocalRunner, local_place

        for line in self._where():
            self._console.note(line)
        space, resources = self.space, self.space.resources
        place = local_place(resources.cpu, resources.gpu)
        return lambda folder, warn, stop: LocalRunner(
            trainer,
            place=place,
            checkpoints=folder.checkpoints,
            runs=folder.runs,
            checkpoint_seconds=resources.checkpoint_seconds,
            keep_weights=resources.keep_weights == "confirmed",
            max_failures=space.budget.max_failures,
            warn=warn,
            stop=stop,
        )

    def _where(self) -> Iterator[str]:
        """Where the runs will be trained, and what is not done there."""
        if self.address != IN_PROCESS:
            yield f"ray  {f'joining {self.address} …' if self.address else 'starting on this machine …'}"
            return
        yield "local  no Ray: one run after the other in this process, which a run may take down (--resume goes on)"
        resources = self.space.resources
        idle = [f"max_concurrent: {resources.max_concurrent}"] * (resources.max_concurrent not in (None, 1))
        idle += ["elastic: true"] * resources.elastic
        if idle:
            yield f"local  without effect here: resources {', '.join(idle)}"
