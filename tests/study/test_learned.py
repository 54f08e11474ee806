"""A search in which nothing learned ends before its selection, unless it is told to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.study.local_studies import CONTENT
from tests.study.scripted_runner import scripted_study
from tune_bn.errors import StudyError
from tune_bn.records.record import CONFIRM, SELECT
from tune_bn.records.score import accuracy
from tune_bn.space.loading import parse_space
from tune_bn.study.learned import at_chance
from tune_bn.study.study import Study


def study_of(folder: Path, best: float, images: int | None = 600, **budget: Any) -> Study:
    space = parse_space(CONTENT | {"budget": {"trials": 4, "finalists": 2} | budget}, "tiny")
    study, _ = scripted_study(folder, space, lambda task, seed: best - 0.5 * (task.trial or 0) + 0.1 * (seed % 3))
    if images is not None:
        object.__setattr__(study.info, "data", {"val": {"count": images, "images": "x", "labels": "y"}})
    object.__setattr__(study.info, "score", accuracy(diverged=10.0))
    return study


def stages(study: Study) -> set[str]:
    return {record.stage for record in study.folder.records}


@pytest.mark.parametrize("best", [10.0, 12.0, 14.0])
@pytest.mark.parametrize("run", [Study.run, Study.confirm])
def test_nothing_is_selected_where_every_network_guesses(tmp_path: Path, best: float, run: Any) -> None:
    study = study_of(tmp_path / "one", best)
    study.search()
    with pytest.raises(StudyError) as caught:
        run(study)
    text = str(caught.value)
    assert text.startswith("one: the best candidate is at chance after 2 epochs: ")
    assert "where guessing reaches 10 %" in text
    assert "--set train.epochs=8" in text
    assert text.endswith("--set budget.at_chance=go_on --resume")
    assert not stages(study) & {SELECT, CONFIRM}
    assert not study.folder.plan_file.exists()


@pytest.mark.parametrize(
    ("best", "images", "budget"),
    [
        (20.0, 600, {}),
        (96.0, 600, {}),
        (10.0, 600, {"at_chance": "go_on"}),
        (10.0, 40, {}),
        (10.0, None, {}),
    ],
)
def test_a_search_that_learned_or_whose_user_says_so_goes_on(
    tmp_path: Path, best: float, images: int | None, budget: dict[str, Any]
) -> None:
    study = study_of(tmp_path / "one", best, images, **budget)
    study.search()
    study.select()
    assert SELECT in stages(study)


@pytest.mark.parametrize("classes", [2, 10, 200])
def test_luck_is_not_learning_and_little_is_not_luck(tmp_path: Path, classes: int) -> None:
    chance = 100 / classes
    luck = 100 * (chance / 100 * (1 - chance / 100) / 1000) ** 0.5
    study = study_of(tmp_path / "one", chance + 3 * luck)
    study.search()
    records = study.folder.records.read()
    assert at_chance(records, chance=0.9 * chance, images=10**6) == ""
    assert "at chance" in at_chance(records, chance=chance, images=1000)
    assert at_chance([], chance=chance, images=1000) == ""


def test_a_short_search_begins_with_what_learns_in_a_short_course() -> None:
    space = parse_space(CONTENT | {"sampler": {"points": "paper_grid"}}, "tiny")
    points = space.start_points()
    assert [point["gamma"] for point in points[:3]] == [0.1, 0.25, 0.5]
    whole = parse_space(
        CONTENT | {"search": {"gamma": {"log_uniform": [0.01, 1.0]}}} | {"sampler": {"points": "paper_grid"}}, "t"
    )
    assert sorted(point["gamma"] for point in whole.start_points()) == [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0]
    assert whole.start_points()[-1]["gamma"] == 0.01
