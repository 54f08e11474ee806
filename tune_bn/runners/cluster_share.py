"""Several studies on one cluster: each knows how many there are, and takes no more than its share."""

from __future__ import annotations

import math
import time
import uuid
from typing import Any

import ray
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

NAMESPACE, PREFIX = "tune_bn", "study-"
LOOK_SECONDS = 3.0
"""Least time between two looks at the cluster."""


class _Presence:
    """An actor that does nothing; that it is there says that its study is at work."""


class ClusterShare:
    """How many trials a study may have in flight.

    A study that is alone takes what it may have. Beside others it takes ``ceil(capacity / studies)`` at most. What it
    has too many of when another study comes, runs to its end.

    Args:
        cpu: CPU cores per trial.
        gpu: GPUs per trial.
        max_concurrent: trials at the same time, whatever else; None: what fits the cluster.
        elastic: the cluster grows, to what holds ``max_concurrent`` trials at least.
        shared: whether others may use the cluster; a cluster of the study's own needs no sharing.
    """

    def __init__(
        self, *, cpu: float, gpu: float, max_concurrent: int | None = None, elastic: bool = False, shared: bool = False
    ) -> None:
        self.needed = {"CPU": cpu, "GPU": gpu}
        self.max_concurrent = max_concurrent
        self.elastic = elastic
        self._presence: Any = None
        self._looked_at = -math.inf
        self._fits, self._studies = 1, 1
        if shared:
            # On the driver's node: it lives as long as the driver, while other nodes come and go.
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
            self._presence = (
                ray.remote(_Presence)
                .options(
                    name=f"{PREFIX}{uuid.uuid4().hex}",
                    namespace=NAMESPACE,
                    num_cpus=0,
                    max_restarts=-1,
                    scheduling_strategy=here,
                )
                .remote()
            )

    def leave(self) -> None:
        """Take no share any more. May be called twice."""
        if self._presence is not None:
            ray.kill(self._presence)
            self._presence = None

    @property
    def most(self) -> int:
        """Trials that may be in flight now."""
        self._look()
        if self._studies <= 1:
            return self.max_concurrent or self._fits
        part = math.ceil(self._size / self._studies)
        return part if self.max_concurrent is None else min(self.max_concurrent, part)

    @property
    def crowded(self) -> bool:
        """Whether there are more studies than trials fit the cluster, so that they must take turns."""
        self._look()
        return self._studies > self._size

    @property
    def _size(self) -> int:
        return max(self._fits, self.max_concurrent or 0) if self.elastic else self._fits

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        available = ray.cluster_resources()
        fits = [available.get(kind, 0.0) / amount for kind, amount in self.needed.items() if amount > 0]
        self._fits = max(1, int(min(fits) + 1e-9))
        if self._presence is not None:
            named = list_named_actors(all_namespaces=True)
            here = [actor for actor in named if actor["namespace"] == NAMESPACE and actor["name"].startswith(PREFIX)]
            self._studies = max(1, len(here))
