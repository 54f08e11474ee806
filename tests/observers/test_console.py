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

from tests.observers.screens import INFO, Screen, confirmed, point, run, scored, task
from tune_bn.analysis.plan import plan_from
from tune_bn.analysis.power import minimum_detectable_effect
from tune_bn.errors import StudyError
from tune_bn.observers.console.observer import ConsoleObserver, console_log
from tune_bn.records.score import accuracy as accuracy_score


def test_a_pipe_gets_one_plain_line_per_finished_run(pipe: Screen) -> None:
    pipe.observer.stage_started("search", 24, 6)
    pipe.observer.task_started(task(7))
    pipe.observer.task_progress(task(7), {101: [point(1, 50.0)]})
    pipe.clock.now += 5
    pipe.observer.run_recorded(scored(3, 97.33), ())
    pipe.clock.now += 5
    pipe.observer.run_recorded(run(), ())
    pipe.observer.study_finished("FINISHED", {})
    # A run and an epoch of forty in 5 seconds, then two runs in 10 and 16 to go.
    assert pipe.lines == [
        "search  24 runs planned, 6 done before",
        "search  trial 3 seed 101  gamma=0.03 c=10  completed 40/40 epochs  val 97.33 %  1.4 s  "
        "[7/24, best 97.33 %, 1:23 left]",
        "search  trial 7 seed 101  gamma=0.2 c=100  completed 40/40 epochs  val 97.17 %  1.4 s  "
        "[8/24, best 97.33 %, 1:20 left]",
    ]


def test_time_left_counts_pruned_runs_and_not_the_durations(pipe: Screen) -> None:
    pipe.observer.stage_started("search", 724, 0)
    pipe.clock.now += 60
    for trial in range(4):
        pipe.observer.run_recorded(scored(trial, 90.0, status="pruned"), ())
    assert pipe.lines[-1].endswith("[4/724, 3:00:00 left]")


def test_the_start_of_workers_is_not_counted_for_every_run_that_is_left(pipe: Screen) -> None:
    pipe.observer.stage_started("search", 11, 0)
    pipe.clock.now += 40
    pipe.observer.task_started(task(3))
    pipe.clock.now += 6
    pipe.observer.run_recorded(scored(3, 90.0), ())
    assert pipe.lines[-1].endswith("[1/11, best 90.00 %, 1:00 left]")


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
    pipe.observer.plan_locked(plan_from(plan | {"candidates": candidates}))
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
    pipe.observer.plan_locked(plan_from(study.plan))
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


def test_a_silent_pipe_hears_soon_and_then_every_minute_that_the_study_works(pipe: Screen) -> None:
    def lines_after(*seconds: float) -> list[str]:
        before = len(pipe.lines)
        for passed in seconds:
            pipe.clock.now += passed
            pipe.observer.beat()
        return pipe.lines[before:]

    assert lines_after(100) == []
    pipe.observer.stage_started("search", 8, 0)
    assert lines_after(9) == []
    assert lines_after(1, 1) == ["search  0/8 runs; no run is at work; 0:10 so far"]
    for trial in range(6):
        pipe.observer.task_started(task(trial))
    pipe.observer.task_progress(task(0), {101: [point(12, 90.0)]})
    assert lines_after(18, 1) == [
        "search  0/8 runs; at work: trial 0 epoch 12/40, trial 1 epoch 0/40, trial 2 epoch 0/40, trial 3 epoch 0/40 "
        "and 2 more; 0:30 so far"
    ]
    # Then after 40 seconds, and never less often than once a minute.
    assert [len(lines_after(*[1] * wait)) for wait in (40, 60, 60)] == [1, 1, 1]
    pipe.observer.run_recorded(run(trial=0), ())
    assert lines_after(59) == []
    assert len(lines_after(1)) == 1
    pipe.observer.concluding("report …")
    assert lines_after(600) == []


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


@pytest.mark.long
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


@pytest.mark.long
def test_the_console_loads_neither_ray_nor_torch() -> None:
    program = """import sys, tune_bn.observers.console.observer
print(sorted({'ray', 'torch', 'mlflow', 'optuna'} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
