"""A data set on a device with the engines that train on it: what a worker makes once and all of its runs use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from tune_bn.data.dataset import Dataset
from tune_bn.data.device import DeviceImages
from tune_bn.method.user_network import is_user_network
from tune_bn.training.config import RunConfig
from tune_bn.training.engine import Engine, Recorder, Step
from tune_bn.training.layout import Layout, layout_of


class DeviceData(DeviceImages):
    """A data set on the device, made once per worker and used by all of its runs.

    Args:
        dataset: the images.
        device: where they are trained on.
        resident: see :class:`tune_bn.data.device.DeviceSplit`.
        recorder: makes what records the steps of an engine; None: nothing does; ``auto``: CUDA graphs on a GPU.
    """

    def __init__(
        self,
        dataset: Dataset,
        device: torch.device,
        *,
        resident: bool | None = None,
        recorder: Callable[[], Recorder] | Literal["auto"] | None = "auto",
    ) -> None:
        super().__init__(dataset, device, resident=resident)
        if recorder == "auto":
            recorder = CudaGraphs if device.type == "cuda" else None
        self._engines = EnginePool(recorder)

    def engine(self, config: RunConfig, model: nn.Module) -> Engine:
        """See :meth:`EnginePool.engine`."""
        return self._engines.engine(config, self, model)

    def layout(self, config: RunConfig) -> Layout:
        """The memory format of a run; see :func:`tune_bn.training.layout.layout_of`."""
        return layout_of(config.model, self.image_shape(config.data), self.num_classes)


class EnginePool:
    """The engines of a worker.

    Args:
        recorder: makes the recorder of an engine; None: no step is recorded. An engine whose step is neither recorded
            nor compiled is not used again, since it costs nothing to make.
        size: engines that are kept for later runs; each takes the device memory of a step.
    """

    def __init__(self, recorder: Callable[[], Recorder] | None, size: int = 2) -> None:
        self.recorder = recorder
        self.size = size
        self._engines: dict[str, Engine] = {}

    def engine(self, config: RunConfig, data: DeviceImages, model: nn.Module) -> Engine:
        """An engine for a run, new or used.

        Args:
            config: of the run.
            data: its images, the same at each call.
            model: the run's network as built. A new engine takes it for its own.
        """

        def new() -> Engine:
            return Engine(config, data, model, None if self.recorder is None else self.recorder())

        # A network of the user's may keep more of a run than its state_dict has.
        if is_user_network(config.model.arch) or (self.recorder is None and not config.train.compile):
            return new()
        key = architecture(config)
        engine = self._engines.pop(key, None) or new()
        self._engines[key] = engine
        for oldest in list(self._engines)[: -self.size]:
            del self._engines[oldest]
        return engine


def architecture(config: RunConfig) -> str:
    """What the step of a configuration depends on: all but what is only an initial value or a learning rate."""
    norm = "scaled" if config.model.norm == "base" else config.model.norm
    model = replace(config.model, norm=norm, gamma=1.0, gamma_branch_end=None, unit_gate=False)
    # Only with a rate of their own are the β a group of their own.
    c_beta = 1.0 if config.train.c_beta == 1 else 2.0
    train = replace(config.train, lr=1.0, c=1.0, c_beta=c_beta, schedule="constant", epochs=1, warmup_epochs=0)
    return repr(RunConfig(model, config.data, train))


class CudaGraphs:
    """A :data:`Recorder` that captures steps into CUDA graphs; those of one instance share their memory."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, step: Step, warm_up: Step) -> Step:
        """See :data:`Recorder`."""
        # As torch asks for: a few times on another stream first.
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(3):
                warm_up()
        current.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Another thread may write a checkpoint meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            step()
        self._pool = graph.pool()
        return graph.replay
