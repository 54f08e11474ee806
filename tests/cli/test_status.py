import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from tests.study.local_studies import CONTENT
from tests.study.scripted_runner import scripted_study
from tune_bn.analysis.wording import config_words
from tune_bn.cli.status import describe_study, table
from tune_bn.cli.watch import still
from tune_bn.records.files import write_json
from tune_bn.space.loading import parse_space
from tune_bn.study.driver import BROKEN, LOST, STOPPED, DriverState
from tune_bn.study.folder import StudyFolder

BEGAN = "2026-01-01T00:00:00+00:00"


def test_a_study_that_was_stopped_and_one_that_runs(tmp_path: Path, synthetic_study: Callable[..., Any]) -> None:
    folder = StudyFolder(synthetic_study(n=5).write(tmp_path / "one"))
    row = describe_study(folder)
    assert (row["study"], row["space"], row["state"], row["stage"]) == ("one", "digits", "stopped", "confirm")
    assert row["runs"]["search"] == {"done": 23, "planned": 24}
    assert row["runs"]["select"] == {"done": 9, "planned": 9}
    assert row["runs"]["confirm"]["done"] == 10
    assert row["failed"] == 1
    assert row["verdict"] is None
    best = max(
        record.scores["val_accuracy"]
        for record in folder.records
        if record.stage == "search" and record.status == "completed"
    )
    assert row["best"]["val_accuracy"] == best
    with folder.locked():
        assert describe_study(folder)["state"] == "running"
    folder.verdict_file.write_text('{"verdict": "supported"}')
    assert describe_study(folder)["state"] == "finished"
    assert describe_study(folder)["verdict"] == "supported"
    assert "candidate: γ = " in table([describe_study(folder)], tmp_path)


def test_the_best_is_the_best_candidate(tmp_path: Path) -> None:
    space = parse_space(CONTENT | {"sampler": {"points": [{"gamma": 1.0, "c": 1.0}]}}, "tiny")
    study, _ = scripted_study(
        tmp_path / "one", space, lambda task, seed: 99.0 if task.trial == 0 else 90.0 + task.trial
    )
    study.search()
    row = describe_study(study.folder)
    assert row["best"]["val_accuracy"] == 93.0
    assert row["best_baseline"] == {"config": {"gamma": 1.0, "c": 1.0}, "val_accuracy": 99.0, "words": "99.00 %"}
    assert "best candidate on validation: 93.00 % with " in table([row], tmp_path)
    assert "(baseline: 99.00 %)" in table([row], tmp_path)


@pytest.mark.parametrize("arms", [1, 3, 14])
def test_once_a_plan_is_locked_its_candidates_are_shown_and_not_who_led_the_search(
    tmp_path: Path, synthetic_study: Callable[..., Any], arms: int
) -> None:
    study = synthetic_study(n=5, candidates=arms, trials=60 if arms > 3 else 24)
    folder = StudyFolder(study.write(tmp_path / "one"))
    row = describe_study(folder)
    planned = json.loads(folder.plan_file.read_text())["candidates"]
    assert [(one["arm"], one["config"]) for one in row["candidates"]] == [(a["arm"], a["config"]) for a in planned]
    shown = " ".join(table([row], tmp_path).split())
    assert "best candidate" not in shown
    assert config_words(planned[0]["config"]) in shown
    assert ("; and 11 more" in shown) == (arms == 14)
    screen = still(folder, 200)
    assert f"\n{'chosen' if arms == 1 else 'arms':<8} " in screen
    assert config_words(planned[0]["config"]) in screen
    assert "best  " not in screen
    folder.plan_file.write_text("{")
    assert "best candidate on validation: " in table([describe_study(folder)], tmp_path)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_stopped_study_can_be_read_in_a_narrow_terminal(
    tmp_path: Path, synthetic_study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    folder = StudyFolder(synthetic_study(n=5).write(tmp_path / "one"))
    reason = "budget.cost = 12 is used up: 34.5 device-hours at 0.35"
    write_json(folder.driver_file, asdict(DriverState(started_at=BEGAN, state=STOPPED, reason=reason)))
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", str(width))
    lines = Text.from_ansi(table([describe_study(folder)], tmp_path)).plain.splitlines()
    assert max(map(len, lines)) <= width
    head, numbers, best, why = (" ".join(line.split()) for line in lines)
    assert head == "study state search select confirm device-h cost left"
    # Two arms on five seeds, as the plan has them, whatever the space says now.
    assert numbers.startswith("one stopped 23/24 9/9 10/10 ")
    assert best.startswith("candidate: γ = ")
    assert why == f"stopped: {reason}"


def test_a_study_that_cannot_be_read_is_shown_with_its_whole_problem(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "spoilt")
    folder.path.mkdir()
    folder.space_file.write_text("name: x\nsearch: {gamma: {log_uniform: [1, 0]}}\n")
    row = describe_study(folder)
    assert row["state"] == "unreadable"
    problem = "search.gamma.log_uniform: got [1, 0]; accepted: [low, high] with 0 < low < high"
    assert row["problem"].endswith(problem)
    assert problem in table([row], tmp_path)


def test_a_spoilt_verdict_is_none(tmp_path: Path, synthetic_study: Callable[..., Any]) -> None:
    folder = StudyFolder(synthetic_study(n=3).write(tmp_path / "one"))
    for spoilt in (b"{", b"[]", b"{}", b"\xff", b"3"):
        folder.verdict_file.write_bytes(spoilt)
        assert describe_study(folder)["verdict"] is None


def test_no_studies(tmp_path: Path) -> None:
    assert table([], tmp_path) == f"no studies in {tmp_path}"


def test_what_is_no_file_or_no_verdict_ends_no_table(tmp_path: Path, synthetic_study: Callable[..., Any]) -> None:
    folder = StudyFolder(synthetic_study(n=3).write(tmp_path / "one"))
    folder.verdict_file.write_text("[" * 100_000)
    assert describe_study(folder)["verdict"] is None
    folder.records.path.unlink()
    folder.records.path.mkdir()
    assert "records.jsonl: cannot be read" in describe_study(folder)["problem"]


@pytest.mark.parametrize(
    ("driver", "state"),
    [
        (DriverState(started_at=BEGAN), "died"),
        (DriverState(started_at=BEGAN, reason="interrupted by SIGTERM"), "stopped"),
        (DriverState(started_at=BEGAN, state=STOPPED, reason="budget.cost = 3 is used up"), "stopped"),
        (DriverState(started_at=BEGAN, state=LOST), "died"),
        (DriverState(started_at=BEGAN, state=BROKEN), "failed"),
    ],
)
def test_a_driver_that_was_killed_while_it_stopped_was_told_to(
    driver: DriverState, state: str, tmp_path: Path, synthetic_study: Callable[..., Any]
) -> None:
    folder = StudyFolder(synthetic_study(n=3).write(tmp_path / "one"))
    write_json(folder.driver_file, asdict(driver))
    row = describe_study(folder)
    assert (row["state"], row["reason"]) == (state, driver.reason)
