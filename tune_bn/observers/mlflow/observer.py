"""MLflow as an observer: mirrors a study into a tracking store without ever holding the study up.

One daemon thread owns the store. Observer methods only put an event into its queue; the thread applies what has
gathered to a picture of what is still undelivered, and then delivers it in as few calls as it can. What was delivered
leaves the picture. Where the store fails, the thread lets go of it, tries again every ``retry_seconds``, and then
compares the study's ``records.jsonl`` and ``curves.jsonl`` with what the store holds: the same catch-up that a resume
needs.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from tune_bn.errors import innermost, own_fault
from tune_bn.observers.mlflow.compat import apply, client_settings, hush
from tune_bn.observers.mlflow.live import LiveRun, Machine, Sample, deliver_live
from tune_bn.observers.mlflow.models import ModelOf, model_or_remark
from tune_bn.observers.mlflow.sqlite_writer import POLL_SECONDS, SqliteWriter
from tune_bn.observers.mlflow.uri import check_tracking_uri, default_tracking_uri, shown, sqlite_path
from tune_bn.protocols.observer import StudyInfo
from tune_bn.protocols.runner import Point, Task
from tune_bn.records.commands import search_command
from tune_bn.records.curves import CurveLog
from tune_bn.records.identity import renewed, settle, tracked_at
from tune_bn.records.log import RecordLog
from tune_bn.records.plan import Plan
from tune_bn.records.record import CONFIRM, Record

if TYPE_CHECKING:
    from tune_bn.observers.mlflow.store import MlflowStore

__all__ = ["MlflowObserver", "check_tracking_uri", "default_tracking_uri"]

# MLflow's own patience is several minutes for a dead server; here a later retry is cheaper than a stuck thread.
_SETTINGS = client_settings(retries=1, seconds=10)
# How long the end of a study waits for the last deliveries, in seconds.
_FINAL_SECONDS = 30.0
_FINAL_SECONDS_DOWN = 10.0
# How long one study writes before another one may, where both write to one SQLite file.
_TURN_SECONDS = 5.0


class MlflowObserver:
    """Mirrors one study into MLflow: a parent run for the study, a child run per configuration and seed.

    A run that is resumed goes on under its run id, and epochs that the store already has are not sent again. A run that
    failed and its successful retry share one MLflow run, which shows the last record.

    Args:
        tracking_uri: as accepted by :func:`check_tracking_uri`.
        artifact_root: folder for the artifacts of a new experiment in a database store; a server decides itself.
        warn: takes one line for the user. It is called from the observer's thread too, and must not raise.
        system_metrics: whether runs are shown with what the machine of this process does.
        model_of: gives the networks of confirmed runs, which become models of MLflow once the study has finished; None:
            they do not.
        retry_seconds: pause between attempts to reach a store that failed.
        flush_seconds: how long events gather before they are delivered together.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        artifact_root: Path | None,
        warn: Callable[[str], None],
        system_metrics: bool = False,
        model_of: ModelOf | None = None,
        retry_seconds: float = 10.0,
        flush_seconds: float = 5.0,
    ) -> None:
        self._uri = tracking_uri
        self._artifact_root = artifact_root
        self._warn = warn
        self._retry_seconds = retry_seconds
        self._flush_seconds = flush_seconds
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._delivered = threading.Event()
        self._abandoned = threading.Event()
        self._down = threading.Event()
        self._waiting = threading.Event()
        self._modelling = threading.Event()
        self._model_of = model_of

        # Everything below belongs to the thread.
        self._writer = SqliteWriter(tracking_uri)
        self._store: MlflowStore | None = None
        self._own_id: str | None = None
        self._folder = Path()
        self._live: dict[str, LiveRun] = {}
        self._recorded: dict[str, tuple[Record, Sequence[Point]]] = {}
        self._tags: dict[str, str] = {}
        self._metrics: dict[str, float] = {}
        self._artifacts: dict[Path, None] = {}
        self._artifacts_failed = False
        self._caught_up = 0
        self._final: str | None = None
        self._troubled: set[str] = set()
        self._refused: set[str] = set()
        self._machine = Machine(system_metrics)
        self._samples: dict[str, list[Sample]] = {}
        self._modelled: set[str] = set()

    # What the study calls.

    def study_started(self, info: StudyInfo, records: Sequence[Record]) -> None:
        """Start mirroring. ``records`` are not needed: the catch-up reads them from the study's folder."""
        apply(_SETTINGS)
        self._folder = info.folder
        self._thread = threading.Thread(target=self._work, args=(info,), name="mlflow-observer", daemon=True)
        self._thread.start()

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        """Note the stage on the parent run."""
        self._events.put(functools.partial(self._tags.update, {"stage": stage, "planned_runs": str(planned_runs)}))

    def task_started(self, task: Task) -> None:
        """Show one run per seed as running."""
        self._events.put(functools.partial(self._on_started, task, _now()))

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        """Add points to the learning curves."""
        copy = {seed: tuple(points) for seed, points in curves.items()}
        self._events.put(functools.partial(self._on_progress, task, copy, _now()))

    def task_killed(self, task: Task) -> None:
        """Show the runs of the task as killed."""
        self._events.put(functools.partial(self._on_killed, task))

    def early_order_seen(self, line: str) -> None:
        """What it says is among the artifacts."""

    def plan_locked(self, plan: Plan) -> None:
        """The plan is among the artifacts."""

    def run_recorded(self, record: Record, curve: Sequence[Point]) -> None:
        """Show one run as finished, with its scores and its whole curve."""
        self._events.put(functools.partial(self._on_recorded, record, tuple(curve)))

    def artifacts_changed(self, paths: Sequence[Path]) -> None:
        """Copy files of the study's folder to the parent run."""
        self._events.put(functools.partial(self._artifacts.update, dict.fromkeys(paths)))

    def study_finished(self, status: str, summary: Mapping[str, float | str]) -> None:
        """Deliver what is left, for a bounded time: half a minute, or ten seconds where the store cannot be reached.

        The turns of other studies that write to the same SQLite file come on top.
        """
        if self._thread is None:
            return
        self._events.put(functools.partial(self._on_finished, status, dict(summary)))
        spent, before = 0.0, time.monotonic()
        while not self._delivered.wait(0.05):
            now = time.monotonic()
            # While other studies write to the same file nothing is wrong, and that has a limit of its own. Nor is it
            # while models are made: they take seconds each, and a store that does not answer ends that.
            held = self._waiting.is_set() or self._modelling.is_set()
            spent, before = spent + (0.0 if held else now - before), now
            patience = _FINAL_SECONDS_DOWN if self._down.is_set() else _FINAL_SECONDS
            if spent > patience or not self._thread.is_alive():
                break
        self._abandoned.set()
        if not self._delivered.is_set():
            self._warn(
                f"MLflow at {shown(self._uri)} does not show everything of this study yet; nothing is lost: once it "
                f"can be used, {search_command(self._folder)} catches up"
            )

    # What the thread does.

    def _work(self, info: StudyInfo) -> None:
        # To load MLflow takes seconds of a core, and at the start workers need it to load torch.
        self._gather()
        while not self._abandoned.is_set():
            done = True
            try:
                # Its import sets levels of its own.
                import mlflow  # noqa: F401

                if "MLFLOW_LOGGING_LEVEL" not in os.environ:
                    hush(logging.CRITICAL)
                self._waiting.set()
                with self._writer.turn(self._abandoned.is_set):
                    self._waiting.clear()
                    done = self._deliver(info)
            except Exception as error:
                self._waiting.clear()
                if self._abandoned.is_set():
                    return
                self._let_go(error)
            if not done:
                # Whoever waits for a turn looks more often than this.
                self._abandoned.wait(2 * POLL_SECONDS)
                continue
            if self._final is not None and self._store is not None:
                self._delivered.set()
                return
            self._gather()

    def _gather(self) -> None:
        """Apply events until the time to deliver them; at once when the study ends."""
        if self._final is not None:
            self._abandoned.wait(min(1.0, self._retry_seconds))
            return
        deadline = time.monotonic() + (self._retry_seconds if self._down.is_set() else self._flush_seconds)
        while self._final is None:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                return
            event()

    def _on_started(self, task: Task, at: int) -> None:
        for seed in task.seeds:
            self._live[task.run_key(seed)] = LiveRun(task, seed, started=at)
        self._machine.look(self._live.values(), _now())

    def _on_progress(self, task: Task, curves: Mapping[int, Sequence[Point]], at: int) -> None:
        for seed, points in curves.items():
            if run := self._live.get(task.run_key(seed)):
                run.points.extend((point, at) for point in points)

    def _on_killed(self, task: Task) -> None:
        for seed in task.seeds:
            if run := self._live.get(task.run_key(seed)):
                run.killed = True

    def _on_recorded(self, record: Record, curve: Sequence[Point]) -> None:
        if (run := self._live.pop(record.key, None)) is not None and run.samples:
            self._samples[record.key] = run.samples
        self._recorded[record.key] = (record, curve)

    def _on_finished(self, status: str, summary: Mapping[str, float | str]) -> None:
        for run in self._live.values():
            run.killed = True
        for name, value in summary.items():
            if isinstance(value, str):
                self._tags[name] = value
            else:
                self._metrics[name] = float(value)
        self._final = status

    def _deliver(self, info: StudyInfo) -> bool:
        """Deliver what there is, records first; False where there are more of them than one turn is to take."""
        end = time.monotonic() + _TURN_SECONDS
        store = self._store or self._open(info)
        for key, (record, curve) in list(self._recorded.items()):
            if time.monotonic() > end:
                self._store = store
                return False
            self._attempt(store, key, functools.partial(store.finish_run, record, curve))
            del self._recorded[key]
            self._caught_up += 1
            if samples := self._samples.pop(key, None):
                self._attempt(store, key, functools.partial(store.log_system, key, samples))
        self._machine.look(self._live.values(), _now())
        for key, run in list(self._live.items()):
            self._attempt(store, key, functools.partial(deliver_live, store, key, run))
            run.points.clear()
            run.samples.clear()
            if run.killed:
                del self._live[key]
        if self._tags or self._metrics:
            store.update_study(self._tags, self._metrics)
            self._tags.clear()
            self._metrics.clear()
        self._deliver_artifacts(store)
        if self._final == "FINISHED" and self._model_of is not None:
            self._modelling.set()
            try:
                through = self._deliver_models(store, end)
            finally:
                self._modelling.clear()
            if not through:
                self._store = store
                return False
        if self._final is not None:
            store.finish_study(self._final)
        if self._down.is_set():
            self._warn(f"MLflow at {shown(self._uri)} is back; finished runs caught up: {self._caught_up}")
            self._down.clear()
        self._caught_up = 0
        self._store = store
        return True

    def _deliver_models(self, store: MlflowStore, end: float) -> bool:
        """Make models of confirmed runs; False where there are more than one turn is to take.

        Only once nothing is trained any more: to build a network must not draw from the generators of one that trains.
        """
        assert self._model_of is not None
        for record in RecordLog(self._folder / "records.jsonl").read():
            if record.stage != CONFIRM or record.key in self._modelled or not store.lacks_model(record):
                continue
            if time.monotonic() > end:
                return False
            if (model := model_or_remark(self._model_of, record, self._warn)) is not None:
                self._attempt(store, record.key, functools.partial(store.log_model, record, model))
            self._modelled.add(record.key)
        return True

    def _open(self, info: StudyInfo) -> MlflowStore:
        """Open the store, and put what it lacks of the study's records to what is still to be delivered."""
        from tune_bn.observers.mlflow.store import MlflowStore

        store = MlflowStore(self._uri, info, self._study_id(info), self._artifact_root)
        log = RecordLog(info.folder / "records.jsonl").read()
        if store.foreign({record.sha256 for record in log}):
            # A copy of this folder went on elsewhere, and its runs are there under the id that both had.
            self._own_id = renewed(info.folder).study_id
            store = MlflowStore(self._uri, info, self._own_id, self._artifact_root)
        self._remark_other_store(info)
        records = {record.key: record for record in log}
        curves = CurveLog(info.folder / "curves.jsonl").read()
        backlog = {
            key: (record, curves.get(key, ()))
            for key, record in records.items()
            if key not in self._live and key not in self._refused and not store.shows(record)
        }
        self._recorded = backlog | self._recorded
        for key in store.running() - self._live.keys() - self._recorded.keys():
            store.kill_run(key)
        return store

    def _study_id(self, info: StudyInfo) -> str:
        return self._own_id or info.study_id or settle(info.folder).study_id

    def _remark_other_store(self, info: StudyInfo) -> None:
        now = shown(self._uri)
        before = tracked_at(info.folder, now)
        if not before or before == now:
            return
        # A database that is there no more went with the studies to another folder.
        file = sqlite_path(before)
        if file is None or file.exists():
            self._warn(f"MLflow: this study was tracked at {before} until now; all of its runs go to {now}")

    def _attempt(self, store: MlflowStore, key: str, deliver: Callable[[], None]) -> None:
        """Deliver one run. One that the store refuses again after a fresh look at the store is left out."""
        if key in self._refused:
            return
        try:
            deliver()
        except Exception as error:
            if not (key in self._troubled and store.is_refusal(error)):
                self._troubled.add(key)
                raise
            self._refused.add(key)
            self._warn(f"MLflow at {shown(self._uri)} refuses run {key} ({innermost(error)}); it is left out there")
        else:
            self._troubled.discard(key)

    def _deliver_artifacts(self, store: MlflowStore) -> None:
        try:
            for path in list(self._artifacts):
                store.upload(path)
                del self._artifacts[path]
        except Exception as error:
            if own_fault(error) is not None:
                raise
            # Artifacts may lie elsewhere than runs; only where the store itself is gone is this an outage.
            store.ping()
            if not self._artifacts_failed:
                self._warn(f"MLflow at {shown(self._uri)} takes runs but no artifacts ({innermost(error)})")
            self._artifacts_failed = True

    def _let_go(self, error: Exception) -> None:
        self._store = None
        if not self._down.is_set():
            self._down.set()
            place = own_fault(error)
            if place is not None:
                self._warn(
                    f"a fault of tune_bn itself ({place}, {innermost(error)}), not of MLflow at {shown(self._uri)}: "
                    "the study is not shown there; it goes on, and its records are whole"
                )
                return
            self._warn(
                f"MLflow at {shown(self._uri)} cannot be used now ({innermost(error)}); the study goes on, "
                "its runs follow when MLflow is back"
            )


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts time."""
    return time.time_ns() // 1_000_000
