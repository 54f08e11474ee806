"""What the console shows, on a terminal and into a pipe."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from tune_bn.analysis.power import minimum_detectable_effect
from tune_bn.errors import StudyError
from tune_bn.observers.console.observer import ConsoleObserver, console_log
from tune_bn.protocols.observer import StudyInfo
from tune_bn.protocols.runner import Point, Task
from tune_bn.records.record import Record
from tune_bn.records.score import accuracy as accuracy_score
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.points import epoch_point

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
CONFIG = {"gamma": 0.2, "c": 100.0}
INFO = StudyInfo("digits-1", "digits", Path("studies/digits-1"), "0" * 64, None, {})


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(stage: str = "search", arm: str = "candidate", trial: int | None = 7, seed: int = 101, **fields: Any) -> Record:
    values: dict[str, Any] = {
        "config": CONFIG,
        "status": "completed",
        "reason": "all epochs done",
        "epochs": 40,
        "scores": {"val_accuracy": 97.166, "best_epoch": 31},
        **fields,
    }
    return Record(
        study="digits-1",
        stage=stage,
        arm=arm,
        trial=trial,
        seed=seed,
        epochs_planned=40,
        attempts=1,
        started_at="2026-01-01T00:00:00Z",
        duration_seconds=1.42,
        device="cpu",
        versions={},
        commit=None,
        space_sha256="0" * 64,
        **values,
    )


def scored(trial: int, accuracy: float, seed: int = 101, status: str = "completed", stage: str = "search") -> Record:
    scores = {"val_accuracy": accuracy, "best_epoch": 3}
    return run(stage, trial=trial, seed=seed, status=status, scores=scores, config={"gamma": trial / 100, "c": 10.0})


def confirmed(arm: str, seed: int, accuracy: float, metric: str = "test_accuracy") -> Record:
    return run("confirm", arm, None, seed, scores={"val_accuracy": 98.0, "best_epoch": 31, metric: accuracy})


def task(trial: int, seeds: tuple[int, ...] = (101,)) -> Task:
    return Task("search", "candidate", trial, CONFIG, RunConfig(train=TrainConfig(epochs=40)), seeds, steps=40)


def point(epoch: int, val_accuracy: float) -> Point:
    return epoch_point(epoch, 1.0, 50.0, 1.0, val_accuracy, 0.1)


class Screen:
    """An observer with a console in memory and a clock."""

    def __init__(self, *, terminal: bool) -> None:
        self.file = io.StringIO()
        self.clock = Clock()
        console = Console(
            file=self.file, force_terminal=terminal, width=110, height=30, _environ={"TERM": "xterm-256color"}
        )
        self.observer = ConsoleObserver(console, clock=self.clock)
        self.observer.study_started(INFO, [])

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()

    def last_frame(self) -> list[str]:
        """Close the observer and give back what its view showed last, without escape codes."""
        seen = len(self.file.getvalue())
        self.observer.close()
        plain = Text.from_ansi(self.file.getvalue()[seen:].replace("\r", "")).plain
        return [line.rstrip() for line in plain.splitlines() if line.strip()]


@pytest.fixture
def pipe() -> Screen:
    return Screen(terminal=False)


@pytest.fixture
def terminal() -> Screen:
    return Screen(terminal=True)


def test_a_pipe_gets_one_plain_line_per_finished_run(pipe: Screen) -> None:
    pipe.observer.stage_started("search", 24, 6)
    pipe.observer.task_started(task(7))
    pipe.observer.task_progress(task(7), {101: [point(1, 50.0)]})
    pipe.clock.now += 5
    pipe.observer.run_recorded(scored(3, 97.33), ())
    pipe.clock.now += 5
    pipe.observer.run_recorded(run(), ())
    pipe.observer.study_finished("FINISHED", {})
    # Two runs in 10 seconds and 16 to go: 80 seconds.
    assert pipe.lines == [
        "search  24 runs planned, 6 done before",
        "search  trial 3 seed 101  gamma=0.03 c=10  completed 40/40 epochs  val 97.33 %  1.4 s  "
        "[7/24, best 97.33 %, 1:25 left]",
        "search  trial 7 seed 101  gamma=0.2 c=100  completed 40/40 epochs  val 97.17 %  1.4 s  "
        "[8/24, best 97.33 %, 1:20 left]",
    ]


def test_time_left_counts_pruned_runs_and_not_the_durations(pipe: Screen) -> None:
    pipe.observer.stage_started("search", 724, 0)
    pipe.clock.now += 60
    for trial in range(4):
        pipe.observer.run_recorded(scored(trial, 90.0, status="pruned"), ())
    assert pipe.lines[-1].endswith("[4/724, 3:00:00 left]")


def test_the_last_run_has_no_time_left(pipe: Screen) -> None:
    pipe.observer.stage_started("search", 1, 0)
    pipe.clock.now += 60
    pipe.observer.run_recorded(run(), ())
    assert pipe.lines[-1].endswith("[1/1, best 97.17 %]")


@pytest.mark.parametrize("status", ["pruned", "diverged", "failed"])
def test_a_run_that_did_not_complete_never_leads(pipe: Screen, status: str) -> None:
    pipe.observer.stage_started("search", 10, 0)
    pipe.observer.run_recorded(scored(1, 96.0), ())
    pipe.observer.run_recorded(scored(2, 99.0, status=status), ())
    assert "best 96.00 %" in pipe.lines[-1]


def test_a_configuration_leads_by_its_mean_over_seeds(pipe: Screen) -> None:
    pipe.observer.stage_started("select", 10, 0)
    for trial, seed, accuracy in ((1, 201, 99.0), (1, 202, 95.0), (2, 201, 97.5), (2, 202, 97.7)):
        pipe.observer.run_recorded(scored(trial, accuracy, seed, stage="select"), ())
    assert "best 97.60 %" in pipe.lines[-1]


def test_a_diverged_seed_takes_its_configuration_out_of_the_lead(pipe: Screen) -> None:
    pipe.observer.stage_started("select", 10, 0)
    pipe.observer.run_recorded(scored(1, 99.0, 201, stage="select"), ())
    pipe.observer.run_recorded(scored(2, 97.0, 201, stage="select"), ())
    pipe.observer.run_recorded(scored(1, 10.0, 202, "diverged", stage="select"), ())
    assert "best 97.00 %" in pipe.lines[-1]


def test_a_resumed_study_remembers_its_best(pipe: Screen) -> None:
    pipe.observer.study_started(INFO, [scored(1, 98.5), scored(2, 99.9, stage="select")])
    pipe.observer.stage_started("search", 10, 1)
    pipe.observer.run_recorded(scored(3, 96.0), ())
    assert "[2/10, best 98.50 %" in pipe.lines[-1]


@pytest.mark.parametrize("metric", ["test_accuracy", "final_test_accuracy"])
def test_confirm_shows_the_planned_metric_and_the_mean_of_every_arm(pipe: Screen, metric: str) -> None:
    pipe.observer.study_started(replace(INFO, score=accuracy_score(metric)), [])
    pipe.observer.stage_started("confirm", 4, 0)
    pipe.observer.run_recorded(confirmed("baseline", 1, 96.0, metric), ())
    pipe.observer.run_recorded(confirmed("baseline", 2, 97.0, metric), ())
    pipe.observer.run_recorded(confirmed("candidate-1", 1, 97.25, metric), ())
    assert pipe.lines[-1].startswith(
        "confirm  candidate-1 seed 1  gamma=0.2 c=100  completed 40/40 epochs  test 97.25 %"
    )
    assert "[3/4, baseline 96.50 % (n=2), candidate-1 97.25 % (n=1)" in pipe.lines[-1]


def test_a_failure_shows_its_reason_on_one_line(pipe: Screen) -> None:
    pipe.observer.stage_started("search", 10, 0)
    pipe.observer.run_recorded(run(status="failed", reason="[bold]no\nmemory " + 200 * "x", scores={}, epochs=3), ())
    assert len(pipe.lines) == 2
    assert "failed 3/40 epochs  ([bold]no memory xxx" in pipe.lines[-1]
    assert "val" not in pipe.lines[-1]
    assert len(pipe.lines[-1]) < 200


def test_a_pipe_gets_no_escape_codes_and_no_folded_lines(pipe: Screen) -> None:
    pipe.observer.stage_started("search", 10, 0)
    config = {f"key{number}": number / 3 for number in range(20)}
    pipe.observer.run_recorded(run(config=config), ())
    pipe.observer.warn("the tracking server\n  does not answer [x]")
    pipe.observer.close()
    assert len(pipe.lines) == 3
    assert pipe.lines[-1] == "warning: the tracking server does not answer [x]"
    assert "\x1b" not in pipe.file.getvalue()


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"val_accuracy_mean": 96.0, "val_accuracy_std": 0.5, "n": 3}, "where an arm spreads by 0.5 and"),
        ({"val_accuracy_mean": 96.0, "val_accuracy_std": 0.0, "n": 3}, "standard deviations of the paired differences"),
        (
            {"val_accuracy_mean": 96.0, "val_accuracy_std": None, "n": 1},
            "standard deviations of the paired differences",
        ),
    ],
)
def test_a_locked_plan_says_what_it_claims_and_what_it_can_find(
    pipe: Screen, synthetic_study, selection, words
) -> None:
    plan = synthetic_study(candidates=2).plan
    candidates = [arm | {"selection": selection} for arm in plan["candidates"]]
    pipe.observer.plan_locked(plan | {"candidates": candidates})
    first, second = pipe.lines
    assert first == f"plan  {plan['plan_sha256'][:12]} locked: candidate-1, candidate-2 on 15 seeds, fixed"
    # The first Holm step of two candidates.
    least = minimum_detectable_effect(1.0, 15, alpha=0.025)
    spread = selection["val_accuracy_std"]
    gain = f"{least * spread * 2**0.5:.3g} points" if spread else f"{least:.3g} standard deviations"
    assert second.startswith(f"power  15 seeds find a true gain of {gain} ")
    assert words in second
    assert ("as on the selection seeds" in second) == bool(spread)


def test_a_resume_does_not_say_again_what_can_be_found(pipe: Screen, synthetic_study, tmp_path: Path) -> None:
    study = synthetic_study()
    folder = study.write(tmp_path / "digits-1")
    pipe.observer.study_started(replace(INFO, folder=folder), [])
    pipe.observer.plan_locked(study.plan)
    (line,) = pipe.lines
    assert f"{study.plan['plan_sha256'][:12]} locked before: candidate-1 on 15 seeds" in line


def test_the_best_is_the_best_candidate_and_the_baseline_stands_beside_it(pipe: Screen) -> None:
    def is_baseline(config: Any) -> bool:
        return config["gamma"] == 0.09

    pipe.observer.study_started(replace(INFO, is_baseline=is_baseline), [])
    pipe.observer.stage_started("search", 5, 0)
    for record in (scored(9, 97.0), scored(3, 96.0), run("search", "baseline", 0, scores={"val_accuracy": 96.5})):
        pipe.observer.run_recorded(record, ())
    assert [line.partition("[")[2].split(",")[1:3] for line in pipe.lines[1:]] == [
        [" baseline 97.00 %", " 0:00 left]"],
        [" best 96.00 %", " baseline 97.00 %"],
        [" best 96.00 %", " baseline 97.00 %"],
    ]


def test_a_silent_pipe_hears_after_a_minute_that_the_study_works(pipe: Screen) -> None:
    pipe.observer.beat()
    pipe.observer.stage_started("search", 8, 0)
    for trial in range(6):
        pipe.observer.task_started(task(trial))
    pipe.observer.task_progress(task(0), {101: [point(12, 90.0)]})
    pipe.clock.now += 59
    pipe.observer.beat()
    assert len(pipe.lines) == 1
    pipe.clock.now += 1
    pipe.observer.beat()
    pipe.observer.beat()
    assert pipe.lines[1:] == [
        "search  0/8 runs; at work: trial 0 epoch 12/40, trial 1 epoch 0/40, trial 2 epoch 0/40, trial 3 epoch 0/40 "
        "and 2 more; 1:00 so far"
    ]
    pipe.clock.now += 60
    pipe.observer.beat()
    assert len(pipe.lines) == 3


def test_the_end_of_a_stage_stands_above_the_plan(terminal: Screen, synthetic_study) -> None:
    terminal.observer.stage_started("select", 1, 0)
    terminal.observer.run_recorded(scored(3, 96.0, stage="select"), ())
    terminal.observer.plan_locked(synthetic_study().plan)
    terminal.observer.stage_started("confirm", 30, 0)
    terminal.observer.close()
    text = Text.from_ansi(terminal.file.getvalue()).plain
    assert text.count("select  1/1 runs") == 1
    assert text.index("select  1/1 runs") < text.index(" locked: candidate-1")


def test_letters_that_the_encoding_lacks_do_not_lose_the_line() -> None:
    raw = io.BytesIO()
    observer = ConsoleObserver(Console(file=io.TextIOWrapper(raw, "ascii", write_through=True)))
    observer.warn("γ is odd")
    observer.warn("and on")
    assert raw.getvalue() == b"warning: ? is odd\nwarning: and on\n"


def test_decoding_is_reported_at_its_end_and_twice_a_minute(pipe: Screen) -> None:
    for done in range(0, 101, 10):
        pipe.observer.decoding(done, 100)
        pipe.clock.now += 7
    # The calls come at 0, 7, … 70 seconds: one has to wait for 35 and 70.
    assert pipe.lines == ["data  50/100 images decoded", "data  100/100 images decoded"]


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
    # One run in 10 seconds, 17 to go, 20 seconds on the way.
    assert head.startswith("digits-1  search  ")
    assert head.endswith("  7/24 runs  0:30 elapsed, 2:30 left")
    assert best == "best so far  97.33 %  gamma=0.03 c=10  (trial 3)"
    assert running.split("  ") == ["", "trial 7 seed 101, 102", "gamma=0.2 c=100", "epoch 2/40", "val 65.00 %"]


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


def test_a_closed_pipe_silences_the_console_and_not_the_study(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from tune_bn.observers.console.observer import ConsoleObserver
observer = ConsoleObserver()
for number in range(20_000):
    observer.warn(f"line {{number}}")
observer.close()
Path({str(tmp_path / "end")!r}).write_text("reached")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "warning: line 0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    assert (tmp_path / "end").read_text() == "reached"


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path.parent / "victim")])
def test_a_log_that_cannot_be_written_is_said_in_one_line(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "driver.log")
    with pytest.raises(StudyError, match=r"driver\.log: cannot be written \("), console_log(tmp_path / "driver.log"):
        pass
    assert not (tmp_path / "victim").exists()


def test_the_console_loads_neither_ray_nor_torch() -> None:
    program = """import sys, tune_bn.observers.console.observer
print(sorted({'ray', 'torch', 'mlflow', 'optuna'} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
