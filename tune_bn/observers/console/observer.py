"""Progress on the console: a live view on a terminal, plain lines into a pipe or a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from tune_bn.analysis.plan import design_of
from tune_bn.analysis.wording import detectable_words
from tune_bn.observers.console.progress import Progress, standing
from tune_bn.observers.console.view import duration_words, heartbeat_line, live_view, run_line
from tune_bn.protocols.observer import Observer, StudyInfo
from tune_bn.protocols.runner import Point, Task
from tune_bn.records.files import not_linked, writing
from tune_bn.records.plan import PLAN_FILE, Plan
from tune_bn.records.record import Record
from tune_bn.records.score import PERCENT
from tune_bn.records.times import utc_now

REFRESH_PER_SECOND = 4
DECODING_LINE_SECONDS = 30
FIRST_HEARTBEAT_SECONDS, HEARTBEAT_SECONDS = 10.0, 60.0
"""Silence of a pipe or a file after which it is told that the study works: in a stage without a result, and twice as
long after each such line; and at most."""
PULSE_SECONDS = 2.0


class ConsoleObserver(Observer):
    """Shows a study's progress.

    On a terminal there is one live view, refreshed at most four times a second, and one lasting line per finished
    stage. Elsewhere there is one line per started stage, finished run and warning, with no escape codes. When the
    reader of a pipe goes away the observer falls silent and the study goes on.

    Args:
        console: where to write; None: standard output, live where that is a terminal.
        clock: seconds that only grow.
        stamped: begin each line with the time (UTC).
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        stamped: bool = False,
    ) -> None:
        # FORCE_COLOR asks for colours in a log, never for cursor movements: only a real terminal gets the live view.
        self._console = console or Console(force_terminal=sys.stdout.isatty(), highlight=False)
        self._lock = threading.RLock()
        self._progress = Progress(clock)
        self._live: Live | None = None
        self._silent = False
        self._clock = clock
        self._stamped = stamped
        self._last_decoding_line = self._last_line = clock()
        self._stage_open = self._plan_known = False
        self._patience = FIRST_HEARTBEAT_SECONDS
        self._ended = threading.Event()
        self._pulse: threading.Thread | None = None

    def __enter__(self) -> ConsoleObserver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decoding(self, done: int, total: int) -> None:
        """Images are being read before the study starts: so many of so many are decoded."""
        with self._lock:
            self._progress.decoded = (done, total) if done < total else None
        if self._console.is_interactive:
            if done < total:
                self._start_live()
            else:
                self.close()
        elif done == total or self._clock() - self._last_decoding_line >= DECODING_LINE_SECONDS:
            self._last_decoding_line = self._clock()
            self._print(f"data  {done}/{total} images decoded")

    def study_started(self, info: StudyInfo, records: Sequence[Record]) -> None:
        with self._lock:
            self._progress.study = info.folder.name
            self._progress.score = info.score
            self._progress.is_baseline = info.is_baseline
            self._plan_known = (info.folder / PLAN_FILE).exists()
            for record in records:
                self._progress.add(record)

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        self._end_stage()
        with self._lock:
            self._progress.begin_stage(stage, planned_runs, done_runs)
            self._stage_open, self._patience = True, FIRST_HEARTBEAT_SECONDS
        if self._console.is_interactive:
            self._start_live()
        else:
            before = f", {done_runs} done before" if done_runs else ""
            self._print(f"{stage}  {planned_runs} runs planned{before}")
            self._start_pulse()

    def early_order_seen(self, line: str) -> None:
        """One lasting line: it decides what the rest of the search costs."""
        self._end_finished_stage()
        self._print(f"stopping  {line}", wrap=True)

    def plan_locked(self, plan: Plan) -> None:
        """What is going to be claimed and, where that is news, what can be found, in two lasting lines."""
        self._end_stage()
        rule = design_of(plan)
        spreads = [
            arm.selection.get(f"{plan.score.validation}_std") for arm in plan.candidates if arm.selection is not None
        ]
        known = [spread for spread in spreads if spread]
        looks = "" if rule is None else f", looks at {', '.join(map(str, rule.looks))} pairs"
        arms = ", ".join(arm.arm for arm in plan.candidates)
        when = " before" if self._plan_known else ""
        how = f"{len(plan.seeds)} seeds, {plan.stopping}{looks}"
        met = plan.most_opponents
        tunings = f" against {met} tunings of the baseline" if met > 1 else ""
        self._print(f"plan  {plan.plan_sha256[:12]} locked{when}: {arms}{tunings} on {how}")
        if self._plan_known:
            return
        seeds, most = len(plan.seeds), max(known, default=None)
        unit = "points" if plan.score.unit == PERCENT else plan.score.unit
        found = detectable_words(seeds, plan.alpha, len(plan.candidates), most, rule, unit)
        self._print(f"power  {found}" + (", as on the selection seeds" if known else ""), wrap=True)

    def task_started(self, task: Task) -> None:
        with self._lock:
            self._progress.start(task)

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        with self._lock:
            self._progress.move(task, curves)

    def task_killed(self, task: Task) -> None:
        with self._lock:
            self._progress.running.pop(task.key, None)

    def run_recorded(self, record: Record, curve: Sequence[Point]) -> None:
        with self._lock:
            self._progress.finish(record)
            self._patience = HEARTBEAT_SECONDS
            line = run_line(record, self._progress)
        if not self._console.is_interactive:
            self._print(line)

    def artifacts_changed(self, paths: Sequence[Path]) -> None:
        """Files are not progress."""

    def study_finished(self, status: str, summary: Mapping[str, float | str]) -> None:
        self._end_stage()
        self.end()
        self.close()

    def concluding(self, line: str) -> None:
        """Every stage is over, and what comes now takes a while: nothing is at work any more, so the view goes."""
        self._end_stage()
        self.close()
        self._print(line)

    def note(self, line: str) -> None:
        """Print one line that is no progress."""
        self._end_finished_stage()
        self._print(" ".join(line.splitlines()))

    def warn(self, message: str) -> None:
        """Print a warning as one line, above the live view where there is one."""
        self._print(f"warning: {' '.join(message.split())}", style="yellow")

    def close(self) -> None:
        """Take the live view off the screen and give the terminal back. May be called twice."""
        live, self._live = self._live, None
        if live is not None:
            # Also where the console is gone: it gives back stdout and ends the thread of the live view.
            self._silent = not _survives(live.stop) or self._silent

    def end(self) -> None:
        """Print no heartbeat any more."""
        self._ended.set()

    def _end_stage(self) -> None:
        """Leave one lasting line about the stage that the live view showed."""
        with self._lock:
            progress, was_open, self._stage_open = self._progress, self._stage_open, False
        if self._live is None or not was_open:
            return
        with self._lock:
            counts = f"{progress.done}/{progress.planned} runs in {duration_words(progress.stage_elapsed)}"
            line = "  ".join([progress.stage, counts, *standing(progress)])
        self._print(line)

    def _end_finished_stage(self) -> None:
        """What comes after the last run of a stage is told after it."""
        with self._lock:
            finished = self._progress.done >= self._progress.planned
        if finished:
            self._end_stage()

    def beat(self) -> None:
        """One line about where the stage is, where none was printed for as long as patience lasts."""
        if self._console.is_interactive or self._clock() - self._last_line < self._patience:
            return
        with self._lock:
            progress = self._progress
            silent = self._stage_open and (progress.running or progress.done < progress.planned)
            line = heartbeat_line(progress) if silent else ""
        if line:
            self._patience = min(2 * self._patience, HEARTBEAT_SECONDS)
            self._print(line)

    def _start_pulse(self) -> None:
        if self._pulse is None:
            self._pulse = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
            self._pulse.start()

    def _beat_on(self) -> None:
        while not self._ended.wait(PULSE_SECONDS):
            self.beat()

    def _start_live(self) -> None:
        if self._live is None and not self._silent:
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=REFRESH_PER_SECOND,
                transient=True,
            )
            self._write(self._live.start)

    def _print(self, line: str, style: str | None = None, *, wrap: bool = False) -> None:
        if self._stamped:
            line = f"{utc_now()}  {line}"
        self._last_line = self._clock()
        # What the terminal's encoding lacks is shown as a question mark rather than lost with its line.
        encoding = self._console.encoding
        text = Text(line.encode(encoding, "replace").decode(encoding), style=style or "")
        # The lock of the progress must not be held here: the thread of the live view takes both, in the other order.
        whole = not (wrap and self._console.is_interactive)
        self._write(lambda: self._console.print(text, soft_wrap=whole))

    def _write(self, action: Callable[[], None]) -> None:
        """Do something to the console; fall silent for good where it is gone (a closed pipe, a lost terminal)."""
        self._silent = self._silent or not _survives(action)

    def _render(self) -> RenderableType:
        with self._lock:
            return live_view(self._progress)


@contextmanager
def console_log(path: Path) -> Iterator[ConsoleObserver]:
    """The console's lines once more, with their times, at the end of a file: for whoever looks later, or elsewhere.

    Raises:
        StudyError: the file cannot be written.
    """
    with writing(path):
        handle = open(path, "a", encoding="utf-8", errors="replace", buffering=1, opener=not_linked)  # noqa: SIM115
    with handle:
        log = ConsoleObserver(Console(file=handle, force_terminal=False, no_color=True, highlight=False), stamped=True)
        try:
            yield log
        finally:
            log.end()


def _survives(action: Callable[[], None]) -> bool:
    """Run ``action``; False where the console did not take its output."""
    try:
        action()
    except (OSError, ValueError, SystemExit):  # rich answers a broken pipe with SystemExit
        return False
    return True
