"""Start points from other studies: what is taken over, in which order, and what is not."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tune_bn.analysis.plan import seal
from tune_bn.errors import SpecError, StudyError
from tune_bn.records.record import (
    BASELINE,
    CANDIDATE,
    COMPLETED,
    DIVERGED,
    FAILED,
    PRUNED,
    SEARCH,
    SELECT,
    Record,
    fresh_seeds,
)
from tune_bn.space.loading import parse_space, with_override
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.warm_start import MOST_STARTS, warm_started

CONTENT: dict[str, Any] = {
    "name": "small",
    "model": {"arch": "resnet8"},
    "data": {"source": "digits"},
    "search": {"gamma": {"log_uniform": [0.01, 1.0]}, "c": {"log_uniform": [1, 1000]}},
}
SOURCE = {"search": [101, 102], "select": [201, 202], "confirm": [1, 2]}
"""The seeds of the studies that others start from."""
FRESH = {**SOURCE, "confirm": [11, 12]}
LR = {"choice": [0.1, 0.05, 0.01]}
PLAN: dict[str, Any] = {
    "schema_version": 1,
    "study": "small-1",
    "space_sha256": "0" * 64,
    "created_at": "2026-01-01T00:00:00+00:00",
    "baseline": {"arm": "baseline", "trial": None, "config": {"gamma": 1.0, "c": 1.0}},
    "candidates": [{"arm": "candidate-1", "trial": None, "config": {"gamma": 0.1, "c": 100.0}}],
    "metric": "test_accuracy",
    "direction": "maximize",
    "test": "paired_t_greater",
    "alpha": 0.05,
    "correction": "holm",
    "stopping": "fixed",
    "seeds": [1, 2],
    "used_seeds": {},
    "diverged": {"rule": "chance", "score": 10.0},
    "commit": None,
    "versions": {},
}


def space_with(**sections: Any) -> Space:
    return parse_space({**CONTENT, "seeds": FRESH, **sections}, "new.yaml")


class Writer:
    """Writes the records of a study as its stages would have."""

    def __init__(self, path: Path, **sections: Any) -> None:
        self.space = space_with(**{"seeds": SOURCE, **sections})
        self.folder = StudyFolder(path).created(self.space)

    def trial(
        self,
        number: int,
        scores: Sequence[float],
        *,
        select: Sequence[float] = (),
        status: str = COMPLETED,
        arm: str = CANDIDATE,
        **config: Any,
    ) -> None:
        """One trial with a validation accuracy for each seed; ``status`` is that of its last search run."""
        config = self.space.normalized({"gamma": 1.0, "c": 1.0} | config)
        for stage, values in ((SEARCH, scores), (SELECT, select)):
            seeds = getattr(self.space.seeds, stage)
            for seed, value in zip(seeds, values, strict=False):
                last = stage == SEARCH and seed == seeds[-1]
                record = Record(
                    study=self.folder.name,
                    stage=stage,
                    arm=arm,
                    trial=number,
                    seed=seed,
                    config=config,
                    status=status if last else COMPLETED,
                    reason="",
                    epochs=1,
                    epochs_planned=1,
                    scores={"val_accuracy": value},
                    attempts=1,
                    started_at="2026-01-01T00:00:00+00:00",
                    duration_seconds=1.0,
                    device="cpu",
                    versions={},
                    commit=None,
                    space_sha256=self.space.sha256,
                )
                self.folder.records.append(record)


@pytest.fixture
def searched(tmp_path: Path) -> Writer:
    """Six trials that ran to their end, two of which met on the selection seeds, and three that did not."""
    study = Writer(tmp_path / "small-1")
    study.trial(0, [90, 92], gamma=0.1, c=100)
    study.trial(1, [97, 97], select=[94, 94], gamma=0.2, c=30)
    study.trial(2, [96, 96], select=[95, 95], gamma=0.3, c=30)
    study.trial(3, [95, 95], gamma=0.4, c=30)
    study.trial(4, [99, 99], status=PRUNED, gamma=0.5, c=30)
    study.trial(5, [99, 10], status=DIVERGED, gamma=0.6, c=30)
    study.trial(6, [99, 99], status=FAILED, gamma=0.7, c=30)
    study.trial(7, [99], gamma=0.8, c=30)
    study.trial(8, [80, 80], gamma=0.02, c=300)
    study.trial(9, [70, 70], gamma=0.03, c=300)
    study.trial(0, [99, 99], arm=BASELINE, gamma=0.9)
    return study


def points_of(space: Space) -> list[dict[str, Any]]:
    assert isinstance(space.sampler.points, list)
    return space.sampler.points


def test_finalists_come_first_by_their_selection_and_the_others_by_their_search(searched: Writer) -> None:
    warm, (line,) = warm_started(space_with(sampler={"points": "none"}), "new.yaml", [searched.folder])
    assert [point["gamma"] for point in points_of(warm)] == [0.3, 0.2, 0.4, 0.1, 0.02]
    assert points_of(warm)[0] == {"gamma": 0.3, "c": 30.0}
    assert line == (
        "warm start: 5 start points from small-1, best first (2 by their mean over the selection seeds, 3 over the "
        "search seeds); left out: 1 beyond the best 5, 4 stopped early, failed or diverged"
    )


def test_the_selection_ranks_by_how_long_it_kept_a_trial(tmp_path: Path) -> None:
    study = Writer(tmp_path / "small-1")
    study.trial(0, [99, 99], select=[96], gamma=0.1)
    study.trial(1, [90, 90], select=[94, 94], gamma=0.2)
    study.trial(2, [91, 91], select=[95, 95], gamma=0.3)
    study.trial(3, [98, 98], gamma=0.4)
    warm, _ = warm_started(space_with(sampler={"points": "none"}), "new.yaml", [study.folder])
    assert [point["gamma"] for point in points_of(warm)] == [0.3, 0.2, 0.1, 0.4]


def test_the_points_that_the_space_has_follow_and_the_space_keeps_them_all(searched: Writer, tmp_path: Path) -> None:
    warm, _ = warm_started(space_with(), "new.yaml", [searched.folder])
    expected = [0.3, 0.2, 0.4, 0.1, 0.02, 0.25, 0.5, 0.05, 1.0, 0.75, 0.01]
    # (0.1, 100) of the paper's grid is a point of the other study: it is tried once.
    assert [point["gamma"] for point in warm.start_points(CANDIDATE)] == expected
    assert warm.sha256 != space_with().sha256
    kept = StudyFolder(tmp_path / "small-2").created(warm).space()
    assert kept.start_points(CANDIDATE) == warm.start_points(CANDIDATE)
    assert kept.sha256 == warm.sha256


def test_what_lies_outside_is_left_out_and_gives_no_place_away(searched: Writer) -> None:
    search = {"gamma": {"uniform": [0.05, 0.3]}, "c": {"log_uniform": [1, 1000]}}
    given = [{"gamma": 0.2, "c": 30.0}, {"gamma": 0.06}]
    warm, (line,) = warm_started(space_with(search=search, sampler={"points": given}), "new.yaml", [searched.folder])
    assert points_of(warm) == [
        {"gamma": 0.3, "c": 30.0},
        {"gamma": 0.2, "c": 30.0},
        {"gamma": 0.1, "c": 100.0},
        given[1],
    ]
    assert "3 outside the ranges of this space" in line


def test_what_the_other_study_held_fixed_counts_and_what_is_not_searched_here_is_named(tmp_path: Path) -> None:
    other = Writer(
        tmp_path / "small-1",
        search={"gamma": {"log_uniform": [0.01, 1.0]}, "lr": LR},
        train={"c": 7, "momentum": 0.8, "weight_decay": 0.001},
    )
    other.trial(0, [90, 90], gamma=0.1, c=7, lr=0.01)
    other.trial(1, [91, 91], gamma=0.1, c=7, lr=0.05)
    here = {**CONTENT["search"], "momentum": {"uniform": [0.5, 0.9]}}
    warm, (line,) = warm_started(space_with(search=here, sampler={"points": "none"}), "new.yaml", [other.folder])
    assert points_of(warm) == [{"gamma": 0.1, "c": 7.0, "momentum": 0.8}]
    assert ", without lr, which this space does not search; left out: 1 equal to a point before them" in line


def test_one_gamma_stands_for_each_stage_and_not_the_other_way_round(searched: Writer, tmp_path: Path) -> None:
    by_stage = {"gamma": {"per_stage": {"log_uniform": [0.05, 1.0]}}, "c": {"log_uniform": [1, 1000]}}
    warm, _ = warm_started(space_with(search=by_stage), "new.yaml", [searched.folder])
    assert warm.start_points(CANDIDATE)[0] == {"gamma.1": 0.3, "gamma.2": 0.3, "gamma.3": 0.3, "c": 30.0}
    other = Writer(tmp_path / "staged-1", search=by_stage)
    other.trial(0, [90, 90], gamma={"per_stage": [0.1, 0.2, 0.3]}, c=10)
    again, _ = warm_started(space_with(search=by_stage), "new.yaml", [other.folder])
    assert again.start_points(CANDIDATE)[0] == {"gamma.1": 0.1, "gamma.2": 0.2, "gamma.3": 0.3, "c": 10.0}
    with pytest.raises(StudyError, match="got staged-1, of whose 1 finished trials none lies in this space; accepted"):
        warm_started(space_with(), "new.yaml", [other.folder])


def test_several_studies_follow_each_other(searched: Writer, tmp_path: Path) -> None:
    other = Writer(tmp_path / "small-2")
    other.trial(0, [99, 99], gamma=0.3, c=30)
    other.trial(1, [98, 98], gamma=0.33, c=33)
    warm, lines = warm_started(
        space_with(sampler={"points": "none"}), "new.yaml", [searched.folder, other.folder, other.folder]
    )
    assert [point["gamma"] for point in points_of(warm)] == [0.3, 0.2, 0.4, 0.1, 0.02, 0.33]
    assert [line.split(", best")[0].removeprefix("warm start: ") for line in lines] == [
        f"{MOST_STARTS} start points from small-1",
        "1 start point from small-2",
        "0 start points from small-2",
    ]


def test_the_baseline_starts_with_the_same_nuisance_coordinates(tmp_path: Path) -> None:
    search = {**CONTENT["search"], "lr": LR}
    other = Writer(tmp_path / "small-1", search=search)
    for number, (gamma, lr) in enumerate([(0.1, 0.01), (0.2, 0.01), (0.3, 0.05)]):
        other.trial(number, [90 - number] * 2, gamma=gamma, c=10, lr=lr)
    warm, _ = warm_started(space_with(search=search), "new.yaml", [other.folder])
    first = warm.start_points(CANDIDATE)[:3]
    assert [(point["gamma"], point["lr"]) for point in first] == [(0.1, 0.01), (0.2, 0.01), (0.3, 0.05)]
    # Three learning rates are all that the baseline has; those of the points come first.
    assert warm.start_points(BASELINE) == [{"lr": 0.01}, {"lr": 0.05}, {"lr": 0.1}]
    search["lr"] = {"log_uniform": [0.01, 0.1]}
    warm, _ = warm_started(space_with(search=search), "new.yaml", [other.folder])
    assert warm.start_points(BASELINE) == [{"lr": 0.01}, {"lr": 0.05}]
    assert warm.trials_of(BASELINE) == warm.trials_of(CANDIDATE)


def test_a_chain_of_warm_starts_keeps_every_seed_that_chose_a_point(searched: Writer, tmp_path: Path) -> None:
    seeds = {"search": [301], "select": [302], "confirm": [21, 22]}
    second, _ = warm_started(space_with(seeds=seeds), "new.yaml", [searched.folder])
    assert second.seeds.earlier == [1, 2, 101, 102, 201, 202]
    middle = Writer(tmp_path / "small-2", seeds=second.seeds.model_dump(), sampler=second.sampler.model_dump())
    middle.trial(0, [95], gamma=0.2, c=30)
    for known, words in ([102, 3], "102"), ([1, 2, 3], "1–2"), ([4, 22], "22"):
        third = space_with(seeds={"search": [401], "select": [402], "confirm": known})
        with pytest.raises(StudyError, match=f"got small-2, which .* on the seeds {words} of seeds.confirm; accepted"):
            warm_started(third, "new.yaml", [middle.folder])
    third = space_with(seeds={"search": [401], "select": [402], "confirm": [3, 4, 23]})
    assert warm_started(third, "new.yaml", [middle.folder])[0].seeds.earlier == [
        *(1, 2, 21, 22, 101, 102, 201, 202, 301, 302),
    ]


def test_an_earlier_seed_is_no_confirmation_seed() -> None:
    problem = r"seeds\.confirm: got 2; accepted: a fresh seed, such as seeds\.confirm=\{from: 3, to: 4\}; 2 is one of "
    with pytest.raises(SpecError, match=problem):
        space_with(seeds=SOURCE | {"earlier": [2]})


def refusal(space: Space, *studies: StudyFolder) -> str:
    with pytest.raises(StudyError) as caught:
        warm_started(space, "new.yaml", studies)
    return str(caught.value)


@pytest.mark.parametrize("confirmed", [False, True], ids=["to be confirmed", "confirmed"])
def test_the_seeds_on_which_a_source_confirms_are_used_and_others_are_proposed(tmp_path: Path, confirmed: bool) -> None:
    fifteen = {"search": [101], "select": [201], "confirm": {"from": 1, "to": 15}}
    claim = {"stopping": "group_sequential"}
    source = Writer(tmp_path / "small-1", seeds=fifteen, claim=claim)
    source.trial(0, [90], gamma=0.1)
    if confirmed:
        # It ended at its first look: the other seeds of its plan may still be run, and count all the same.
        plan = {**PLAN, "space_sha256": source.space.sha256, "seeds": list(range(1, 16))}
        source.folder.plan_file.write_text(json.dumps(seal(plan)))
    said = refusal(space_with(seeds=fifteen), source.folder)
    assert "got small-1, which searches, selects or confirms on the seeds 1–15 of seeds.confirm; accepted: " in said
    (proposed,) = re.findall(r"--set '(seeds\.confirm=.*)'$", said)
    assert proposed == "seeds.confirm={from: 16, to: 30}"
    content = with_override({**CONTENT, "seeds": fifteen}, proposed)
    warm, _ = warm_started(parse_space(content, "new.yaml"), "new.yaml", [source.folder])
    assert warm.seeds.confirm == list(range(16, 31))
    assert warm.seeds.earlier == [*range(1, 16), 101, 201]


def test_a_plan_that_was_locked_on_other_seeds_than_the_space_says_counts_too(tmp_path: Path) -> None:
    source = Writer(tmp_path / "small-1")
    source.trial(0, [90, 90], gamma=0.1)
    source.folder.plan_file.write_text(json.dumps(seal({**PLAN, "seeds": [11, 40]})))
    assert "on the seeds 11 of seeds.confirm" in refusal(space_with(), source.folder)


def test_what_is_proposed_is_fresh_to_every_source_and_to_the_space_itself(tmp_path: Path) -> None:
    first = Writer(tmp_path / "a", seeds={"search": [3], "select": [4], "confirm": [1, 2]})
    other = Writer(tmp_path / "elsewhere" / "b", seeds={"search": [9], "select": [10], "confirm": [7, 8]})
    for source in (first, other):
        source.trial(0, [90], gamma=0.1)
    own = {"search": [5], "select": [12], "confirm": [2, 21], "earlier": [16]}
    assert refusal(space_with(seeds=own), other.folder, first.folder).endswith(
        "--warm-start: got a, which searches, selects or confirms on the seeds 2 of seeds.confirm; accepted: fresh "
        "ones, such as --set 'seeds.confirm={from: 13, to: 14}'"
    )


@pytest.mark.parametrize(
    ("number", "taken", "proposed"),
    [
        (15, range(1, 16), "{from: 16, to: 30}"),
        (2, [], "{from: 1, to: 2}"),
        (3, [2, 6, 9], "{from: 3, to: 5}"),
        (4, [2, 6, 9, 0], "{from: 10, to: 13}"),
        (2, [2**63 - 1, 1, 1], "{from: 2, to: 3}"),
    ],
)
def test_fresh_seeds_are_the_lowest_in_a_row(number: int, taken: Sequence[int], proposed: str) -> None:
    assert fresh_seeds(number, taken) == proposed


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"sampler": {"name": "grid"}}, "got small-1 for a space with sampler.name: grid; accepted: a space that"),
        (
            {"search": {}, "claim": {"arms": {"ours": {"gamma": 0.1}}}},
            "got small-1 for a space with claim.arms; accepted: a space that samples",
        ),
        (
            {"search": {"gamma": {"uniform": [0.9, 1.0]}}},
            "got small-1, of whose 6 finished trials none lies in this space; accepted: a study with points of",
        ),
        (
            {"seeds": {"search": [5], "select": [6], "confirm": [11, 102, 201]}},
            "got small-1, which searches, selects or confirms on the seeds 102, 201 of seeds.confirm; accepted",
        ),
    ],
)
def test_a_study_that_cannot_serve_is_refused(searched: Writer, sections: dict[str, Any], problem: str) -> None:
    with pytest.raises(StudyError) as caught:
        warm_started(space_with(**sections), "new.yaml", [searched.folder])
    assert str(caught.value).startswith(f"--warm-start: {problem}")


def test_a_study_without_a_finished_trial_is_refused(tmp_path: Path) -> None:
    other = Writer(tmp_path / "small-1")
    other.trial(0, [99, 99], status=PRUNED, gamma=0.1)
    with pytest.raises(StudyError, match="got small-1, where no candidate trial of a search ran to its end on every"):
        warm_started(space_with(), "new.yaml", [other.folder])
