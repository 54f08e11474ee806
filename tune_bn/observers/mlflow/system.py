"""What the machine does while runs are trained on it: MLflow's own system metrics.

Importing this module loads no MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from tune_bn.errors import TrackingError
from tune_bn.host.extras import installed
from tune_bn.observers.mlflow.compat import system_monitors

LEAST_SECONDS = 1.0
"""Between two samples: a load over less time says little."""


def check_system_metrics(gpu: float) -> Iterator[str]:
    """Yields remarks on what will not be measured. Raises :class:`TrackingError` where nothing can be."""
    if not installed("psutil"):
        raise TrackingError(
            "tracking.system_metrics: got True, but psutil is not installed; accepted: false, or `pip install psutil`"
        )
    if gpu and not installed("pynvml"):
        yield "tracking.system_metrics: without GPUs, since pynvml is not installed (`pip install nvidia-ml-py`)"


class SystemMetrics:
    """Samples of this machine. Used by one thread."""

    def __init__(self) -> None:
        self._monitors = system_monitors()
        # The first load is that since nothing.
        for monitor in self._monitors:
            monitor.collect_metrics()
            monitor.clear_metrics()
        self._at = 0.0
        self._last: dict[str, float] = {}

    def sample(self) -> dict[str, float]:
        """The metrics by MLflow's names, ``system/cpu_utilization_percentage``, …, as of this second."""
        if time.monotonic() - self._at >= LEAST_SECONDS:
            self._at, self._last = time.monotonic(), {}
            for monitor in self._monitors:
                monitor.collect_metrics()
                self._last |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
        return self._last
