"""Both runs of a pair on the same type of device, where a cluster has several. Knows tasks and names of types alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from tune_bn.protocols.runner import Task

PATIENCE_SECONDS = 60.0
"""How long a pair waits for a type that went away where nothing can bring it back; nodes come and go in between."""
ELASTIC_PATIENCE_SECONDS = 900.0
"""The same where the cluster may start a node of that type."""


class PairPlacement:
    """Decides for each pair which type of device its runs get.

    A pair goes where its first run went. A new pair goes to the type with the fewest runs in flight for its number of
    devices, and where these are equal, to the one with the fewest pairs. A pair whose type is gone is given up to
    another type, which is said: a study must not wait for what does not come back, and the records tell the rest.

    Args:
        elastic: whether the cluster may grow.
        warn: takes a line for the user.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        *,
        elastic: bool = False,
        warn: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = ELASTIC_PATIENCE_SECONDS if elastic else PATIENCE_SECONDS
        self._warn = warn or (lambda line: None)
        self._clock = clock
        self._of_pair: dict[str, str] = {}
        self._in_flight: dict[str, str] = {}
        self._gone_since: dict[str, float] = {}

    def type_for(self, task: Task, types: Mapping[str, float]) -> str | None:
        """The type that a task must get; None: any will do.

        Args:
            task: about to be handed out.
            types: devices by type, on the nodes that are there now.
        """
        if task.pair is None or not (types or task.beside):
            return None
        chosen = self._of_pair.get(task.pair) or task.beside
        if chosen is not None and self.given_up(chosen, types):
            if types:
                self._warn(
                    f"{task.key}: another run of its pair ran on {chosen}, which the cluster has no more; it goes to "
                    f"{' or '.join(sorted(types))}, and the verdict says so"
                )
            chosen = None
        chosen = chosen or self._least_loaded(types)
        if chosen is None:
            return None
        self._of_pair[task.pair] = self._in_flight[task.key] = chosen
        return chosen if len(types) > 1 or chosen not in types else None

    def _least_loaded(self, types: Mapping[str, float]) -> str | None:
        def load(kind: str) -> tuple[float, float, str]:
            running, pairs = ([*book.values()].count(kind) for book in (self._in_flight, self._of_pair))
            return running / types[kind], pairs / types[kind], kind

        return min(types, key=load, default=None)

    def ended(self, task: Task, kind: str | None = None) -> None:
        """A task is in flight no more; ``kind`` is the type that it had, where it ran to its end."""
        self._in_flight.pop(task.key, None)
        if task.pair is not None and kind:
            self._of_pair[task.pair] = kind

    def given_up(self, kind: str, types: Collection[str]) -> bool:
        """Whether a type has been away for so long that nobody should wait for it. Ask from time to time."""
        if kind in types:
            self._gone_since.pop(kind, None)
            return False
        return self._clock() - self._gone_since.setdefault(kind, self._clock()) >= self._patience
