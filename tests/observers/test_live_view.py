"""The live view on a terminal."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import Literal

import pytest
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.text import Text

from tests.observers.screens import HIDE_CURSOR, INFO, SHOW_CURSOR, Screen, confirmed, point, run, scored, task
from tune_bn.analysis.plan import plan_from
from tune_bn.observers.console.progress import Progress
from tune_bn.observers.console.view import live_view


def test_the_end_of_a_stage_stands_above_the_plan(terminal: Screen, synthetic_study) -> None:
    terminal.observer.stage_started("select", 1, 0)
    terminal.observer.run_recorded(scored(3, 96.0, stage="select"), ())
    terminal.observer.plan_locked(plan_from(synthetic_study().plan))
    terminal.observer.stage_started("confirm", 30, 0)
    terminal.observer.close()
    text = Text.from_ansi(terminal.file.getvalue()).plain
    assert text.count("select  1/1 runs") == 1
    assert text.index("select  1/1 runs") < text.index(" locked: candidate-1")


def test_what_is_told_after_the_last_run_stands_below_its_stage(terminal: Screen) -> None:
    terminal.observer.stage_started("search", 1, 0)
    terminal.observer.note("told while a run is at work")
    terminal.observer.run_recorded(scored(3, 96.0), ())
    terminal.observer.early_order_seen("nothing is stopped")
    terminal.observer.stage_started("confirm", 4, 0)
    terminal.observer.run_recorded(confirmed("baseline", 1, 96.0), ())
    terminal.clock.now += 5
    # A look may end a confirmation before all that was planned has run.
    terminal.observer.concluding("report  verdict, pages and pictures …")
    assert not isinstance(sys.stdout, FileProxy)
    terminal.clock.now += 60
    terminal.observer.study_finished("FINISHED", {})
    text = Text.from_ansi(terminal.file.getvalue().replace("\r", "")).plain
    places = [
        text.rindex(words)
        for words in ("told while", "search  1/1 runs in", "stopping  nothing", "confirm  1/4 runs in 0:05", "report  ")
    ]
    assert places == sorted(places)
    assert text.count("confirm  1/4 runs in") == 1


@pytest.mark.parametrize("colours", ["standard", "256", "truecolor"])
def test_a_full_bar_does_not_look_like_an_empty_one(colours: Literal["standard", "256", "truecolor"]) -> None:
    def first_colour(done: int) -> str:
        progress = Progress(lambda: 0.0)
        progress.begin_stage("search", 4, done)
        console = Console(file=io.StringIO(), force_terminal=True, color_system=colours, width=100)
        console.print(live_view(progress))
        drawn = console.file.getvalue()
        return drawn[: drawn.index("━")].rpartition("\x1b[")[2]

    assert first_colour(4) == first_colour(2)
    assert first_colour(4) != first_colour(0)


def test_decoding_is_live_on_a_terminal_and_leaves_nothing(terminal: Screen) -> None:
    stdout = sys.stdout
    terminal.observer.decoding(30, 100)
    assert sys.stdout is not stdout
    [line] = terminal.last_frame()
    assert line.startswith("decoding")
    assert line.endswith("30/100 images")
    terminal.observer.decoding(60, 100)
    terminal.observer.decoding(100, 100)
    assert sys.stdout is stdout


def test_the_live_view_shows_stage_best_and_running_tasks(terminal: Screen) -> None:
    terminal.observer.stage_started("search", 24, 6)
    terminal.clock.now += 10
    terminal.observer.run_recorded(scored(3, 97.33), ())
    terminal.observer.task_started(task(7, (101, 102)))
    terminal.observer.task_progress(task(7, (101, 102)), {101: [point(1, 50.0), point(2, 60.0)], 102: [point(2, 70.0)]})
    terminal.clock.now += 20
    head, best, running = terminal.last_frame()[:3]
    # One run and a tenth in 10 seconds, 16.9 to go, 20 seconds on the way.
    assert head.startswith("digits-1  search  ")
    assert head.endswith("  7/24 runs  0:30 elapsed, 2:14 left in search")
    assert best == "best so far  97.33 %  gamma=0.03 c=10  (trial 3)"
    assert running.split("  ") == ["", "trial 7 seed 101, 102", "gamma=0.2 c=100", "epoch 2/40", "val 65.00 %"]


@pytest.mark.parametrize("at_once", [1, 2, 8, 64])
def test_what_is_left_after_the_first_of_many_that_run_side_by_side(terminal: Screen, at_once: int) -> None:
    terminal.observer.stage_started("search", 128, 0)
    for trial in range(at_once):
        terminal.observer.task_started(task(trial))
    terminal.clock.now += 40
    for trial in range(1, at_once):
        terminal.observer.task_progress(task(trial), {101: [point(39, 90.0)]})
    terminal.observer.run_recorded(scored(0, 97.0), ())
    left = terminal.observer._progress.seconds_left
    assert left is not None
    whole = 128 / at_once * 40
    assert whole - 40 - 2 <= left <= 1.05 * whole


@pytest.mark.parametrize(
    ("columns", "name"), [(72, "d-1"), (80, "digits-1"), (100, "digits-1"), (80, "a-study-with-a-very-long-name-20")]
)
def test_a_narrow_terminal_shortens_bar_and_names_before_any_number(terminal: Screen, columns: int, name: str) -> None:
    terminal.observer._console.width = columns
    terminal.observer.study_started(replace(INFO, folder=INFO.folder.with_name(name)), [])
    terminal.observer.stage_started("confirm", 30, 0)
    started = replace(task(7), overrides={"gamma": 0.06793, "c": 932.7})
    terminal.observer.task_started(started)
    terminal.observer.task_progress(started, {101: [point(12, 93.67)]})
    terminal.observer.run_recorded(confirmed("baseline", 1, 95.65), ())
    terminal.clock.now += 600
    head, _, running = terminal.last_frame()[:3]
    head = head.replace("╸", "━")
    assert head.startswith(name[:6] if len(name) > 9 else f"{name}  confirm  ━")
    assert "  confirm  ━" in head
    assert "  1/30 runs  10:00 elapsed, 0:00 left in confirm" in head
    assert running.endswith("epoch 12/40  val 93.67 %")


def test_finished_and_killed_tasks_leave_the_live_view(terminal: Screen) -> None:
    terminal.observer.stage_started("search", 24, 0)
    for trial in (7, 8, 9):
        terminal.observer.task_started(task(trial))
    terminal.observer.run_recorded(run(trial=7), ())
    terminal.observer.task_killed(task(8))
    terminal.observer.task_progress(task(8), {101: [point(3, 50.0)]})
    shown = "\n".join(terminal.last_frame())
    assert "trial 7 seed" not in shown
    assert "trial 8 seed" not in shown
    assert "trial 9 seed 101" in shown


def test_a_large_cluster_does_not_flood_the_live_view(terminal: Screen) -> None:
    terminal.observer.stage_started("search", 500, 0)
    for trial in range(100):
        terminal.observer.task_started(task(trial))
    frame = terminal.last_frame()
    assert sum("epoch 0/40" in line for line in frame) == 10
    assert any("and 90 more" in line for line in frame)


def test_finished_stages_and_warnings_stay_on_the_terminal(terminal: Screen) -> None:
    terminal.observer.stage_started("search", 2, 0)
    terminal.observer.run_recorded(scored(1, 97.0), ())
    terminal.observer.warn("slow disk")
    terminal.clock.now += 65
    terminal.observer.stage_started("confirm", 2, 0)
    terminal.observer.run_recorded(confirmed("baseline", 1, 96.0), ())
    terminal.observer.study_finished("KILLED", {})
    plain = Text.from_ansi(terminal.file.getvalue().replace("\r", "")).plain
    for line in (
        "warning: slow disk",
        "search  1/2 runs in 1:05  best 97.00 %",
        "confirm  1/2 runs in 0:00  baseline 96.00 % (n=1)",
    ):
        assert plain.count(line) == 1


def test_the_terminal_is_given_back_after_an_interrupt(terminal: Screen) -> None:
    stdout, stderr = sys.stdout, sys.stderr

    def work() -> None:
        with terminal.observer:
            terminal.observer.stage_started("search", 2, 0)
            assert sys.stdout is not stdout
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    terminal.observer.close()
    assert (sys.stdout, sys.stderr) == (stdout, stderr)
    text = terminal.file.getvalue()
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def test_a_terminal_that_goes_away_harms_nobody(terminal: Screen) -> None:
    stdout = sys.stdout
    terminal.observer.stage_started("search", 2, 0)
    terminal.file.close()
    terminal.observer.warn("unheard")
    terminal.observer.run_recorded(run(), ())
    terminal.observer.study_finished("FINISHED", {})
    assert sys.stdout is stdout
