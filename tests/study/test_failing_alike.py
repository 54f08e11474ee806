"""Runs that raise: a stage ends over the first few that raise alike, says why, and a resume tries them again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.study.local_studies import CONTENT
from tests.study.scripted_runner import LOST, Score, scripted_study
from tune_bn.analysis.verdict import verify_study
from tune_bn.errors import StudyError
from tune_bn.protocols.runner import RunResult, Task
from tune_bn.records.record import BASELINE, CANDIDATE, COMPLETED, CONFIRM, DIVERGED, FAILED, PRUNED, SEARCH, SELECT
from tune_bn.runners.worker import error_line
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.failures import FIRST, LATER, kind_of
from tune_bn.study.study import Study

SEEDS = {"search": [101], "select": [201, 202, 203], "confirm": {"from": 1, "to": 5}}
WITH_LR = {**CONTENT["search"], "lr": {"log_uniform": [0.01, 0.1]}}
VIEW = "RuntimeError: view size is not compatible with input tensor's size and stride"


def space_with(**sections: Any) -> Space:
    return parse_space({**CONTENT, "seeds": SEEDS, "budget": {"trials": 12, "finalists": 2}, **sections}, "tiny")


def good(task: Task, seed: int) -> float:
    own = 0.0 if task.arm.startswith(BASELINE) else 3.0 + 0.1 * (seed % 3) + 0.01 * (task.trial or 0)
    return 90 + 0.3 * (seed % 4) + own


def error_of(study: Study, stages: Any = Study.run) -> str:
    with pytest.raises(StudyError) as caught:
        stages(study)
    return str(caught.value)


def counted(study: Study, stage: str) -> Counter[tuple[str, str]]:
    return Counter((record.arm, record.status) for record in study.folder.records if record.stage == stage)


def mended(folder: Path, space: Space, score: Score = good) -> Study:
    """The resume once the cause is mended; it must come to a verdict."""
    study, _ = scripted_study(folder, space, score)
    study.run()
    assert verify_study(folder)["verdict"] == "supported"
    return study


@pytest.mark.parametrize("at_once", [1, 2, 7])
def test_a_search_ends_with_the_third_trial_that_raises_the_same(tmp_path: Path, at_once: int) -> None:
    folder, space = tmp_path / "tiny-1", space_with()
    study, _ = scripted_study(folder, space, lambda task, seed: VIEW, at_once=at_once)
    said = error_of(study)
    assert said == (
        f"{folder}: the first 3 candidate trials of the stage search all raised the same error: {VIEW}; what finished "
        "is kept; accepted: --resume once its cause is mended, which tries them again"
    )
    assert counted(study, SEARCH) == {(CANDIDATE, FAILED): FIRST}
    broken = {record.trial: record.config for record in study.folder.records}
    done = mended(folder, space)
    # The same configurations under the same numbers, and the whole budget.
    assert counted(done, SEARCH) == {(CANDIDATE, FAILED): FIRST, (CANDIDATE, COMPLETED): 12}
    ran = {r.trial: r.config for r in done.folder.records if r.stage == SEARCH and r.status == COMPLETED}
    assert sorted(ran) == list(range(12))
    assert {trial: ran[trial] for trial in broken} == broken


def test_a_resume_that_fails_again_says_so_again_and_nothing_is_lost(tmp_path: Path) -> None:
    folder, space = tmp_path / "tiny-1", space_with()
    for attempt in (1, 2, 3):
        study, _ = scripted_study(folder, space, lambda task, seed: VIEW)
        assert "the first 3 candidate trials" in error_of(study)
        assert counted(study, SEARCH) == {(CANDIDATE, FAILED): FIRST * attempt}
    assert counted(mended(folder, space), SEARCH)[CANDIDATE, COMPLETED] == 12


@pytest.mark.parametrize("broken", [BASELINE, CANDIDATE])
def test_an_arm_that_cannot_be_trained_ends_the_search_beside_one_that_can(tmp_path: Path, broken: str) -> None:
    folder, space = tmp_path / "tiny-1", space_with(search=WITH_LR)
    study, _ = scripted_study(folder, space, lambda task, seed: VIEW if task.arm == broken else good(task, seed))
    assert f"the first 3 {broken} trials of the stage search all raised" in error_of(study)
    found = counted(study, SEARCH)
    assert found.pop((broken, FAILED)) == FIRST
    assert sum(found.values()) <= FIRST
    done = counted(mended(folder, space), SEARCH)
    assert (done[BASELINE, COMPLETED], done[CANDIDATE, COMPLETED]) == (6, 6)


def test_messages_that_differ_in_their_numbers_alone_are_alike() -> None:
    first = "RuntimeError: shape '[128, 64]' is invalid for input of size 4096 at 0x7f00ab"
    assert kind_of(first) == kind_of("RuntimeError: shape '[32, 64]' is invalid for input of size 1.5 at 0x7fffff")
    assert kind_of(first) != kind_of("ValueError: shape '[128, 64]' is invalid for input of size 4096 at 0x7f00ab")


def test_errors_of_several_kinds_do_not_end_a_search_that_may_have_good_trials(tmp_path: Path) -> None:
    def score(task: Task, seed: int) -> float | str:
        broken = task.stage == SEARCH and task.trial in range(6)
        return f"{'ValueError' if task.trial in (1, 3, 5) else 'OSError'}: no" if broken else good(task, seed)

    study, _ = scripted_study(tmp_path / "tiny-1", space_with(), score)
    study.run()
    assert counted(study, SEARCH) == {(CANDIDATE, FAILED): 6, (CANDIDATE, COMPLETED): 6}


@pytest.mark.parametrize(("in_a_row", "ends"), [(FIRST, False), (LATER - 1, False), (LATER, True)])
def test_after_a_trial_that_ran_more_of_them_are_needed(tmp_path: Path, in_a_row: int, ends: bool) -> None:
    """A few configurations may be at fault themselves: a batch that does not fit the memory, for example."""
    budget = {"trials": LATER + 4, "finalists": 2}
    folder, space = tmp_path / "tiny-1", space_with(budget=budget)

    def score(task: Task, seed: int) -> float | str:
        return VIEW if task.stage == SEARCH and 1 < task.trial <= 1 + in_a_row else good(task, seed)

    study, _ = scripted_study(folder, space, score)
    if not ends:
        study.run()
        assert counted(study, SEARCH)[CANDIDATE, FAILED] == in_a_row
        return
    assert f"the last {LATER} candidate trials of the stage search all raised the same error: {VIEW}" in error_of(study)
    # What ran before is kept, what raised is tried again.
    assert counted(mended(folder, space), SEARCH) == {(CANDIDATE, COMPLETED): LATER + 4, (CANDIDATE, FAILED): LATER}


def test_lost_workers_are_not_the_studys_fault(tmp_path: Path) -> None:
    study, _ = scripted_study(
        tmp_path / "tiny-1", space_with(), lambda task, seed: LOST if task.trial in range(6) else good(task, seed)
    )
    study.search()
    assert counted(study, SEARCH) == {(CANDIDATE, FAILED): 6, (CANDIDATE, COMPLETED): 6}


def test_lost_workers_between_them_do_not_hide_errors_that_are_alike(tmp_path: Path) -> None:
    study, _ = scripted_study(
        tmp_path / "tiny-1", space_with(), lambda task, seed: LOST if (task.trial or 0) % 2 else VIEW
    )
    assert "the first 3 candidate trials" in error_of(study)


def test_the_selection_ends_as_well_and_resumes(tmp_path: Path) -> None:
    folder, space = tmp_path / "tiny-1", space_with(search=WITH_LR)
    study, _ = scripted_study(folder, space, lambda task, seed: VIEW if task.stage == SELECT else good(task, seed))
    assert "the first 3 candidate runs of the stage select all raised the same error" in error_of(study)
    assert sum(counted(study, SELECT).values()) == FIRST
    mended(folder, space)


@pytest.mark.parametrize("broken", ["baseline", "wide"])
def test_a_confirmation_of_stated_arms_ends_over_the_arm_that_raises(tmp_path: Path, broken: str) -> None:
    arms = {"ours": {"gamma": 0.3, "c": 10}, "wide": {"gamma": 0.5, "c": 10}}
    folder, space = tmp_path / "tiny-1", space_with(search={}, claim={"arms": arms})
    study, _ = scripted_study(folder, space, lambda task, seed: VIEW if task.arm == broken else good(task, seed))
    assert f"the first 3 {broken} runs of the stage confirm all raised the same error: {VIEW}" in error_of(study)
    assert sum(counted(study, CONFIRM).values()) <= 3 * FIRST
    done = mended(folder, space)
    assert verify_study(folder)["retried"] == [f"confirm-{broken}-s{seed}" for seed in (1, 2, 3)]
    assert counted(done, CONFIRM)[broken, COMPLETED] == 5


def test_a_verdict_says_what_its_missing_runs_raised(tmp_path: Path) -> None:
    def score(task: Task, seed: int) -> float | str:
        return VIEW if (task.stage, task.arm) == (CONFIRM, BASELINE) and seed in (2, 4) else good(task, seed)

    study, _ = scripted_study(tmp_path / "tiny-1", space_with(), score)
    study.run()
    reason = verify_study(study.folder.path)["reason"]
    assert "baseline has no finished run for seed 2, 4, so the arms are not paired; 2 of its runs raised, " in reason
    assert f"the first: {VIEW}; --resume tries again" in reason


def test_too_few_trials_to_end_over_are_named_and_tried_again(tmp_path: Path) -> None:
    folder, space = tmp_path / "tiny-1", space_with(budget={"trials": 2, "finalists": 1})
    study, _ = scripted_study(folder, space, lambda task, seed: VIEW)
    assert error_of(study) == (
        f"{folder}: no candidate trial of the search ran to its end: all 2 raised (the first: {VIEW}); accepted: "
        "--resume once the cause of the error is mended"
    )
    assert counted(mended(folder, space), SEARCH) == {(CANDIDATE, FAILED): 2, (CANDIDATE, COMPLETED): 2}


def test_an_arm_without_a_score_in_the_selection_says_what_its_runs_raised(tmp_path: Path) -> None:
    def score(task: Task, seed: int) -> float | str:
        raises = task.stage == SELECT and task.arm == CANDIDATE and seed == 203
        return f"ValueError: trial {'one' if task.trial else 'nought'}" if raises else good(task, seed)

    folder, space = tmp_path / "tiny-1", space_with(budget={"trials": 2, "finalists": 2})
    study, _ = scripted_study(folder, space, score)
    said = error_of(study)
    assert (
        "no finalist of the candidate arm has a score on every selection seed: of its runs 2 raised (the first: "
        in said
    )
    assert "ValueError: trial " in said
    mended(folder, space)


@pytest.mark.parametrize(
    ("fates", "words", "way"),
    [
        (
            [FAILED, FAILED, PRUNED, DIVERGED],
            "2 raised (the first: ValueError: 0), 1 diverged, 1 stopped early",
            "mended",
        ),
        ([DIVERGED, DIVERGED], "all 2 diverged", "smaller learning rates"),
        ([DIVERGED], "1 diverged", "smaller learning rates"),
        ([PRUNED, PRUNED, PRUNED], "all 3 stopped early", "a scheduler that stops later"),
    ],
)
def test_what_became_of_the_trials_is_told_apart(tmp_path: Path, fates: list[str], words: str, way: str) -> None:
    class Fated:
        """A runner that ends each trial as it is fated to."""

        def run(self, feed: Any, listener: Any, **_: Any) -> None:
            for number, status in enumerate(fates):
                task = feed.next()
                reason = f"{'ValueError' if number else 'ValueError: 0'}"
                scores = {} if status == FAILED else {"val_accuracy": 10.0, "best_epoch": 1.0}
                now = "2026-01-01T00:00:00+00:00"
                feed.finished(task, [RunResult(101, status, reason, 1, scores, (), 1, now, 1.0, "cpu", {})])

    study, _ = scripted_study(tmp_path / "tiny-1", space_with(budget={"trials": len(fates), "finalists": 1}), good)
    study.runner = Fated()  # type: ignore[assignment]
    study.search()
    said = error_of(study, Study.select)
    assert f"no candidate trial of the search ran to its end: {words}; accepted: " in said
    assert way in said


def test_trials_that_were_never_begun_are_no_trials_that_failed(tmp_path: Path) -> None:
    study, _ = scripted_study(
        tmp_path / "tiny-1", space_with(budget={"trials": 2, "finalists": 1, "hours": 1e-9}), good
    )
    assert "no candidate trial of the search ran to its end: none was begun; accepted: --resume, with" in error_of(
        study
    )


def test_a_trial_of_the_baseline_itself_is_named_as_that(tmp_path: Path) -> None:
    points = [{"gamma": 1.0, "c": 1.0}]
    space = space_with(sampler={"points": points}, budget={"trials": 1, "finalists": 1})
    study, _ = scripted_study(tmp_path / "tiny-1", space, good)
    assert "ran to its end: 1 equal to the baseline or not run on every seed; accepted: more" in error_of(study)


TRACEBACK = """Traceback (most recent call last):
  File "a.py", line 3, in <module>
    f()
    ^^^
  File "a.py", line 2, in f
    raise ValueError("one")
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TRACEBACK + "ValueError: one\n", "ValueError: one"),
        (
            TRACEBACK + "torch.AcceleratorError: CUDA error: device-side assert triggered\nCUDA kernel errors might be "
            "asynchronously reported\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n",
            "torch.AcceleratorError: CUDA error: device-side assert triggered",
        ),
        (TRACEBACK + "KeyError: 'a'\n\nDuring handling of it:\n\n" + TRACEBACK + "OSError: two\n", "OSError: two"),
        (
            "Failure # 1 (occurred at 2026-01-01)\nray::T.train() (pid=1)\n" + TRACEBACK + "ValueError: one\n"
            "Failure # 2 (occurred at 2026-01-01)\nray::T.train() (pid=1)\n" + TRACEBACK + "ValueError: two\n",
            "ValueError: two",
        ),
        (TRACEBACK + "RuntimeError: sizes\n    of many\n  lines\nend\n", "RuntimeError: sizes"),
        ("the worker died\n", "the worker died"),
        ("", "unknown error"),
        (" \n", "unknown error"),
    ],
)
def test_the_line_that_names_an_error_is_found(text: str, line: str) -> None:
    assert error_line(text) == line
