"""``scheduler: {grace: auto}`` in whole searches: who is never stopped, when it stops, and what a resume finds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.statistics.simulation import SimulatedRunner
from benchmarks.statistics.surrogates import Point
from tests.study.local_studies import Follower, essence
from tune_bn.analysis.early_order import read_looks
from tune_bn.cli.validate import describe
from tune_bn.errors import Interrupted
from tune_bn.front.wiring import sampler_of
from tune_bn.observers.console.observer import ConsoleObserver
from tune_bn.protocols.runner import PastTrial, RunResult, SchedulerConfig, Task
from tune_bn.records.curves import Point as CurvePoint
from tune_bn.records.record import BASELINE, CANDIDATE, COMPLETED, DIVERGED, FAILED, PRUNED, SEARCH
from tune_bn.report.writing import write_report
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.auto_grace import objective_by_epoch
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.testing.scripted import ScriptedTrainer
from tune_bn.training.points import epoch_point

EPOCHS, FIRST = 20, 16
RULES = ("asha", "median")
LR = {"log_uniform": [0.01, 1.0]}


def space_with(**sections: Any) -> Space:
    content: dict[str, Any] = {
        "name": "auto",
        "model": {"arch": "resnet18"},
        "train": {"epochs": EPOCHS},
        "search": {"gamma": {"log_uniform": [0.01, 1.0]}, "c": {"log_uniform": [1, 1000]}},
        "sampler": {"points": "none", "name": "random"},
        "scheduler": {"name": "asha", "grace": "auto", "reduction": 3},
        "budget": {"trials": 24, "finalists": 3},
        "seeds": {"search": [101], "select": [201, 202], "confirm": [1, 2, 3]},
    }
    return parse_space({**content, **sections}, "auto")


class Settling:
    """A world in which the order of trials is reversed before an epoch and final from there on."""

    def __init__(self, at: int) -> None:
        self.at = at

    def curve(self, point: Point, seed: int, epochs: int) -> list[float]:
        good = math.log10(point.gamma) + 0.1 * math.log10(point.c) + math.log10(point.lr) + 0.001 * seed
        late = [80 + good + 0.01 * epoch for epoch in range(1, epochs + 1)]
        return [value if epoch >= self.at else 40 - good for epoch, value in enumerate(late, start=1)]

    def test_score(self, point: Point, seed: int, metric: str) -> float:
        return self.curve(point, seed, EPOCHS)[-1]


class Fated(SimulatedRunner):
    """Ends trials of the candidates as they are fated to."""

    fates: Mapping[int, str] = {}

    def _results(self, course: Any, stopped_by: Any) -> list[RunResult]:
        results, task = super()._results(course, stopped_by), course.task
        fate = self.fates.get(task.trial) if (task.stage, task.arm) == (SEARCH, CANDIDATE) else None
        changed: dict[str, Any] = {"status": fate, "scores": {}, "reason": f"Error{task.trial}: no"} if fate else {}
        if fate == DIVERGED:
            changed |= {"curve": results[0].curve[:12], "epochs": 12, "scores": {"val_accuracy": 10.0}}
        return [replace(result, **changed) for result in results]


class Listening(Follower):
    """Keeps what is said, and after how many records."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.said: list[tuple[int, str]] = []

    def early_order_seen(self, line: str) -> None:
        self.said.append((len(self.recorded), line))


def study_in(
    folder: Path, space: Space, at: int, workers: int = 1, *, stop_after: int | None = None, **fates: str
) -> Study:
    where = StudyFolder(folder)
    where.resumed(space) if where.exists else where.created(space)
    runner = Fated(Settling(at), workers)
    runner.fates = {int(name[1:]): fate for name, fate in fates.items()}
    return Study(
        where,
        space,
        runner=runner,
        make_sampler=lambda arm, outcomes: sampler_of(space, where, arm, outcomes),
        observer=Listening(stop_after),
        trainer=ScriptedTrainer(),
    )


def searched(study: Study, arm: str = CANDIDATE) -> dict[int, tuple[str, int]]:
    """Status and epochs of each trial."""
    records = study.folder.records.read()
    return {r.trial: (r.status, r.epochs) for r in records if r.stage == SEARCH and r.arm == arm}  # type: ignore[misc]


def said(study: Study) -> list[tuple[int, str]]:
    assert isinstance(study.observer, Listening)
    return study.observer.said


@pytest.mark.parametrize(
    ("rule", "workers", "at"), [("asha", 1, 3), ("asha", 4, 12), ("median", 4, 3), ("median", 1, 19)]
)
def test_stopping_begins_where_the_order_settles_and_spares_the_first(
    tmp_path: Path, rule: str, workers: int, at: int
) -> None:
    study = study_in(tmp_path / "s", space_with(scheduler={"name": rule, "grace": "auto"}), at, workers)
    study.search()
    trials = searched(study)
    assert {trials[n] for n in range(FIRST)} == {(COMPLETED, EPOCHS)}
    stopped = [epochs for status, epochs in trials.values() if status == PRUNED]
    assert stopped
    assert min(stopped) >= at
    ((records, line),) = said(study)
    # With several workers others may end between the first ones; whoever runs then goes on.
    assert FIRST <= records < FIRST + workers
    assert f"safe from epoch {at} of {EPOCHS}" in line
    (look,) = read_looks(study.folder.early_order)
    assert (look.safe_from, look.trials) == (at, {CANDIDATE: FIRST})
    assert study.folder.early_order in study.folder.artifacts()


def test_where_no_early_order_counts_nothing_is_stopped(tmp_path: Path) -> None:
    study = study_in(tmp_path / "s", space_with(), EPOCHS)
    study.search()
    assert set(searched(study).values()) == {(COMPLETED, EPOCHS)}
    assert [records for records, _ in said(study)] == [16, 24]
    assert all("not safe here: at epoch 19 of 20" in line for _, line in said(study))
    assert said(study)[0][1].endswith("next look at 24 trials")
    assert said(study)[-1][1].endswith("nothing is stopped")
    assert [found.trials[CANDIDATE] for found in read_looks(study.folder.early_order)] == [16, 24]


def test_start_points_are_never_stopped_however_many_they_are(tmp_path: Path) -> None:
    points = [{"gamma": 0.9 - 0.04 * n} for n in range(18)]
    study = study_in(tmp_path / "s", space_with(sampler={"points": points, "name": "random"}), 5)
    study.search()
    assert {searched(study)[n] for n in range(18)} == {(COMPLETED, EPOCHS)}
    assert PRUNED in {status for status, _ in searched(study).values()}
    assert [records for records, _ in said(study)] == [18]


def test_every_cell_of_a_grid_is_a_start_point(tmp_path: Path) -> None:
    """In the order of a grid the first cells are all alike and speak for no other."""
    search = {"gamma": {"choice": [0.01, 0.1, 1.0]}, "c": {"choice": [1, 10, 100, 1000]}}
    study = study_in(tmp_path / "s", space_with(search=search, sampler={"name": "grid"}), 3)
    study.search()
    assert set(searched(study).values()) == {(COMPLETED, EPOCHS)}
    assert len(searched(study)) == 12


@pytest.mark.parametrize("seeds", [[101], [101, 102]])
def test_both_arms_run_their_first_trials_to_the_end_and_both_are_asked(tmp_path: Path, seeds: list[int]) -> None:
    search = {"gamma": {"log_uniform": [0.01, 1.0]}, "lr": LR}
    space = space_with(
        search=search, budget={"trials": 40}, seeds={"search": seeds, "select": [201, 202], "confirm": [1, 2, 3]}
    )
    study = study_in(tmp_path / "s", space, 6, workers=2)
    study.search()
    for arm in (CANDIDATE, BASELINE):
        assert {searched(study, arm)[n] for n in range(FIRST)} == {(COMPLETED, EPOCHS)}
        assert PRUNED in {status for status, _ in searched(study, arm).values()}
    (look,) = read_looks(study.folder.early_order)
    assert (look.trials, look.safe_from) == ({CANDIDATE: FIRST, BASELINE: FIRST}, 6)
    assert "16 candidate and 16 baseline trials" in said(study)[0][1]


def test_a_baseline_of_few_configurations_holds_nobody_up(tmp_path: Path) -> None:
    search = {"gamma": {"log_uniform": [0.01, 1.0]}, "lr": {"choice": [0.1, 0.03, 0.01]}}
    study = study_in(tmp_path / "s", space_with(search=search), 6)
    study.search()
    assert read_looks(study.folder.early_order)[0].trials == {CANDIDATE: FIRST, BASELINE: 3}
    assert {status for status, _ in searched(study, BASELINE).values()} == {COMPLETED}
    assert PRUNED in {status for status, _ in searched(study).values()}


@pytest.mark.parametrize("at", [5, EPOCHS])
@pytest.mark.parametrize(("stop_after", "file_lost"), [(3, False), (15, True), (16, False), (16, True), (20, False)])
def test_a_resumed_search_decides_as_the_uninterrupted_one(
    tmp_path: Path, at: int, stop_after: int, file_lost: bool
) -> None:
    whole = study_in(tmp_path / "a", space_with(), at)
    whole.search()
    parts = study_in(tmp_path / "b", space_with(), at, stop_after=stop_after)
    with pytest.raises(Interrupted):
        parts.search()
    if file_lost:
        parts.folder.early_order.unlink(missing_ok=True)
    parts = study_in(tmp_path / "b", space_with(), at)
    parts.search()
    assert essence(parts) == essence(whole)
    assert parts.folder.early_order.read_bytes() == whole.folder.early_order.read_bytes()
    # Who resumes hears how it stands.
    assert (stop_after >= FIRST) == (said(parts)[0][0] == 0)


def test_more_trials_than_were_planned_first_change_no_look(tmp_path: Path) -> None:
    study = study_in(tmp_path / "s", space_with(budget={"trials": 9}), EPOCHS)
    study.search()
    assert said(study) == [], "all of them are the first, which run to their end anyway"
    study = study_in(tmp_path / "s", space_with(budget={"trials": 24}), EPOCHS)
    study.search()
    assert [found.trials[CANDIDATE] for found in read_looks(study.folder.early_order)] == [16, 24]


def test_a_trial_that_failed_is_waited_for_and_left_out_of_the_order(tmp_path: Path) -> None:
    study = study_in(tmp_path / "s", space_with(), 5, t2=FAILED, t5=FAILED)
    study.search()
    looks = read_looks(study.folder.early_order)
    assert [(found.trials[CANDIDATE], found.safe_from) for found in looks] == [(FIRST - 2, 5)]


def test_what_failed_and_ran_again_later_changes_no_look(tmp_path: Path) -> None:
    study = study_in(tmp_path / "s", space_with(), 5, t15=FAILED, stop_after=FIRST)
    with pytest.raises(Interrupted):
        study.search()
    for _ in range(2):
        study = study_in(tmp_path / "s", space_with(), 5)
        study.search()
        # It is one of the first trials still.
        assert searched(study)[15] == (COMPLETED, EPOCHS)
        assert [(look.trials, look.safe_from) for look in read_looks(study.folder.early_order)] == [
            ({CANDIDATE: 15}, 5)
        ]


def test_a_search_whose_curves_were_lost_waits_for_others(tmp_path: Path) -> None:
    seeds = {"search": [101, 102], "select": [201, 202], "confirm": [1, 2, 3]}
    study = study_in(tmp_path / "s", space_with(seeds=seeds), 5, stop_after=2 * FIRST)
    with pytest.raises(Interrupted):
        study.search()
    # Of each trial one seed is left.
    lines = study.folder.curves.path.read_text().splitlines(keepends=True)
    study.folder.curves.path.write_text("".join(line for line in lines if "-s102" not in line))
    study = study_in(tmp_path / "s", space_with(seeds=seeds), 5)
    study.search()
    looks = [(found.trials[CANDIDATE], found.safe_from) for found in read_looks(study.folder.early_order)]
    assert looks == [(0, None), (8, None)]


def test_a_trial_that_diverged_ends_at_chance_and_is_none_of_the_better_half(tmp_path: Path) -> None:
    study = study_in(tmp_path / "s", space_with(), 2, t1=DIVERGED, t4=DIVERGED)
    study.search()
    looks = read_looks(study.folder.early_order)
    assert (looks[0].trials, looks[0].safe_from) == ({CANDIDATE: FIRST}, 2)


def test_the_objective_of_a_trial_is_the_mean_of_the_best_so_far() -> None:
    def curve(*accuracies: float) -> list[CurvePoint]:
        return [epoch_point(n, 0.1, 99.0, 0.2, value, 0.1) for n, value in enumerate(accuracies, start=1)]

    two = [(COMPLETED, curve(50, 40, 70)), (COMPLETED, curve(30, 60, 50))]
    assert objective_by_epoch(two, ScriptedTrainer().score) == {1: 40, 2: 55, 3: 65}
    assert objective_by_epoch([two[0], (DIVERGED, curve(30, 60))], ScriptedTrainer().score) == {1: 40, 2: 30, 3: 40}
    assert objective_by_epoch([], ScriptedTrainer().score) == {}


def test_each_twentieth_part_of_the_course_is_in_question() -> None:
    assert SchedulerConfig("asha", None, 3, 40).milestones == tuple(range(2, 40, 2))
    assert SchedulerConfig("asha", None, 3, 180).milestones == tuple(range(9, 180, 9))
    assert SchedulerConfig("median", None, 3, 5).milestones == (1, 2, 3, 4)
    assert SchedulerConfig("median", None, 3, 1).milestones == ()
    assert SchedulerConfig("asha", None, 3, 27).milestones[:4] == (2, 3, 5, 6)
    for epochs in range(2, 60):
        config = SchedulerConfig("asha", None, 3, epochs)
        for grace in config.milestones:
            rungs = config.decisions(grace)
            assert rungs[0] == grace
            assert set(rungs) <= set(config.milestones)
            assert all(later >= 3 * earlier for earlier, later in pairwise(rungs))


def test_a_space_of_several_lengths_of_course_stops_nothing() -> None:
    search = {"gamma": {"log_uniform": [0.01, 1.0]}, "epochs": {"choice": [10, 20]}}
    assert space_with(search=search).scheduler_config is None
    assert space_with(train={"epochs": 1}).scheduler_config is None
    assert space_with().scheduler_config == SchedulerConfig("asha", None, 3, EPOCHS)


def task(trial: int) -> Task:
    space = space_with()
    return Task(SEARCH, CANDIDATE, trial, {}, space.run_config({}), (101,), may_stop=True)


@pytest.mark.parametrize("rule", RULES)
def test_whoever_passes_while_nothing_is_known_is_compared_with_later(rule: str) -> None:
    known: list[int | None] = [None]
    config = SchedulerConfig(rule, None, 3, EPOCHS, lambda: known[0])
    stopping = EarlyStopping(config, [PastTrial(CANDIDATE, 9, dict.fromkeys(range(1, 21), 50.0))])
    for trial in range(4):
        assert not any(stopping.stops(task(trial), {epoch: 60.0}, done=False) for epoch in range(1, 11))
    known[0] = 6
    # It is past that epoch, and nobody is stopped between milestones of the rule.
    assert not stopping.stops(task(0), {11: 60.0}, done=False) or rule == "median"
    assert not stopping.stops(task(5), {5: 1.0}, done=False)
    assert stopping.stops(task(5), {6: 1.0}, done=False)
    assert not stopping.stops(task(6), {6: 99.0}, done=False)


def test_the_median_rule_forgets_what_was_before_the_grace() -> None:
    config = SchedulerConfig("median", None, 3, EPOCHS, lambda: 10)
    past = [PastTrial(CANDIDATE, n, {e: 0.0 if e < 10 else 80.0 for e in range(1, 21)}) for n in range(4)]
    assert EarlyStopping(config, past).stops(task(9), {10: 79.0}, done=False)
    assert not EarlyStopping(config, past).stops(task(9), {10: 81.0}, done=False)


def test_a_scheduler_that_nobody_tells_stops_nothing() -> None:
    past = [PastTrial(CANDIDATE, n, dict.fromkeys(range(1, 21), 80.0)) for n in range(4)]
    stopping = EarlyStopping(SchedulerConfig("asha", None, 3, EPOCHS), past)
    assert not any(stopping.stops(task(9), {epoch: 1.0}, done=False) for epoch in range(1, 20))


def test_the_console_says_it_in_a_line_of_its_own(tmp_path: Path) -> None:
    out = StringIO()
    study = study_in(tmp_path / "s", space_with(), 6)
    study.observer = study.recorder.observer = ConsoleObserver(Console(file=out, width=400))
    study.search()
    lines = [line for line in out.getvalue().splitlines() if line.startswith("stopping")]
    assert len(lines) == 1
    assert "stopping  early stopping is safe from epoch 6 of 20 here: " in lines[0]


@pytest.mark.parametrize(
    ("at", "found"), [(6, "safe from epoch 6 of 20"), (EPOCHS, "not safe here: at epoch 19 of 20")]
)
def test_the_report_says_it_with_a_picture(tmp_path: Path, at: int, found: str) -> None:
    study = study_in(tmp_path / "s", space_with(), at)
    study.run()
    write_report(study.folder.path)
    text = study.folder.report_file.read_text()
    stopped = sum(status == PRUNED for status, _ in searched(study).values())
    assert f"Early stopping is {found}" in text
    assert f"{stopped or 'No'} trials were stopped early" in text
    assert "plots/early_order.png" in text
    assert (study.folder.plots / "early_order.png").stat().st_size > 10_000


def test_a_damaged_file_of_looks_takes_the_report_no_further_section(tmp_path: Path) -> None:
    study = study_in(tmp_path / "s", space_with(), 6)
    study.search()
    study.folder.early_order.write_text(json.dumps({"looks": [{"safe_from": 3}]}))
    write_report(study.folder.path)
    text = study.folder.report_file.read_text()
    assert "early_order.json: not the looks at an early order" in text
    assert "Early stopping is safe" not in text
    # The records know it.
    study_in(tmp_path / "s", space_with(), 6).search()
    write_report(study.folder.path)
    assert "Early stopping is safe from epoch 6 of 20" in study.folder.report_file.read_text()


def test_a_space_that_states_its_grace_has_neither_section_nor_file(tmp_path: Path) -> None:
    study = study_in(tmp_path / "s", space_with(scheduler={"name": "asha", "grace": 4}), 6)
    study.search()
    write_report(study.folder.path)
    assert not study.folder.early_order.exists()
    assert "## Early stopping" not in study.folder.report_file.read_text()


def lines_of(text: str) -> Sequence[str]:
    return [line for line in text.splitlines() if line.startswith("search")]


def test_validate_says_who_runs_to_the_end() -> None:
    search = {"gamma": {"log_uniform": [0.01, 1.0]}, "lr": {"choice": [0.1, 0.01]}}
    digits = {"data": {"source": "digits"}, "model": {"arch": "resnet8"}}
    (line,) = lines_of(describe(space_with(**digits), Path("x")))
    assert "early stopping: by asha, once the first 16 candidate trials, which run to their end, show when" in line
    (line,) = lines_of(describe(space_with(**digits, search=search), Path("x")))
    assert "once the first 16 candidate and 2 baseline trials, which" in line
