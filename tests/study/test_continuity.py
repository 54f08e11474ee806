"""Where a study goes on, its data must be that of its beginning, and from the plan on all that decides a score."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.study.local_studies import CONTENT, Follower, study_in
from tune_bn.analysis.plan import read_plan, seal
from tune_bn.analysis.verdict import verify_study
from tune_bn.data.dataset import load_dataset
from tune_bn.errors import Interrupted, StudyError
from tune_bn.records.data_file import data_remarks
from tune_bn.records.files import write_json
from tune_bn.records.record import CONFIRM, SEARCH
from tune_bn.report.markdown import to_markdown
from tune_bn.report.study import load
from tune_bn.report.writing import contents
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.study import Study


def make_data(root: Path, seed: int = 0, train: int = 8, test: int = 6) -> Path:
    """Class folders of noise; all files have one size and one date."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                path = root / split / name / f"{number:02d}.bmp"
                Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
                os.utime(path, (1e9, 1e9))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data")


def space_of(root: Path | str, **sections: Any) -> Space:
    content = {
        **CONTENT,
        "data": {"source": "folder", "root": str(root), "val_size": 4},
        "train": {"epochs": 1, "batch_size": 6},
        "budget": {"trials": 2, "finalists": 1},
        "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3]},
        **sections,
    }
    return parse_space(content, "tiny")


def study_at(folder: Path, space: Space, follower: Follower | None = None) -> Study:
    return study_in(folder, load_dataset(space.data), space, follower)


def interrupted(folder: Path, space: Space, after: int) -> None:
    with pytest.raises(Interrupted):
        study_at(folder, space, Follower(after)).run()


def refusal(folder: Path, space: Space) -> str:
    records = (folder / "records.jsonl").read_bytes()
    with pytest.raises(StudyError) as caught:
        study_at(folder, space).run()
    assert (folder / "records.jsonl").read_bytes() == records
    assert "\n" not in str(caught.value)
    return str(caught.value)


def exchange(root: Path, split: str) -> None:
    """One image with another of the same size and date."""
    path = root / split / "cat" / "01.bmp"
    shutil.copy2(root / split / "dog" / "02.bmp", path)


def move_to_another_class(root: Path) -> None:
    os.rename(root / "train/cat/01.bmp", root / "train/dog/99.bmp")


def rename_class(root: Path) -> None:
    for split in ("train", "test"):
        os.rename(root / split / "cat", root / split / "chat")


def add_class(root: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(root / split / "cat", root / split / "eel")


CHANGES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "all images": (lambda root: make_data(root, seed=1), ["other training images (12 before and now)", "test images"]),
    "more images": (lambda root: make_data(root, train=9), ["training images (12 before, 14 now)"]),
    "one test image": (lambda root: exchange(root, "test"), ["began with: other test images (12 before and now);"]),
    "one training image": (lambda root: exchange(root, "train"), ["images (12 before and now)"]),
    "labels": (move_to_another_class, ["training images and labels (12 before and now)"]),
    "a class's name": (rename_class, ["other names of classes (2 before and now)", "gone: cat; new: chat"]),
    "a class more": (add_class, ["classes (2 before, 3 now)", "gone: none; new: eel"]),
}


@pytest.mark.parametrize("after", [1, 4], ids=["search", "confirmation"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_resume_on_other_data_is_refused_and_told_what_changed(
    tmp_path: Path, root: Path, change: str, after: int
) -> None:
    space, folder = space_of(root), tmp_path / "studies" / "one"
    interrupted(folder, space, after)
    alter, words = CHANGES[change]
    alter(root)
    message = refusal(folder, space)
    assert all(word in message for word in words), message
    assert message.endswith(f"accepted: that data at data.root: {root}, or a new study")


def test_the_same_data_elsewhere_goes_on(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "studies" / "one"
    monkeypatch.chdir(tmp_path)
    interrupted(folder, space_of("data"), 4)
    (tmp_path / "elsewhere").mkdir()
    root.rename(tmp_path / "elsewhere" / "data")
    monkeypatch.chdir(tmp_path / "elsewhere")
    study_at(folder, space_of("data")).run()
    verdict = verify_study(folder)
    assert verdict["remarks"] == []
    # So short a training may leave both arms at the same scores; nothing else is wrong.
    assert all("identical" in problem or "the same" in problem for problem in verdict["problems"])


def test_a_relative_root_in_another_folder_is_other_data(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies" / "one"
    monkeypatch.chdir(tmp_path)
    interrupted(folder, space_of("data"), 4)
    make_data(tmp_path / "elsewhere" / "data", seed=5)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "other training images" in refusal(folder, space_of("data"))


def test_records_and_plan_tell_the_data_each_as_far_as_it_was_seen(tmp_path: Path, root: Path) -> None:
    space, folder = space_of(root), tmp_path / "studies" / "one"
    study_at(folder, space).run()
    data = load_dataset(space.data).identity
    assert set(data) == {"classes", "train", "val", "test"}
    assert read_plan(folder / "plan.json").data == data
    for record in study_at(folder, space).folder.records.read():
        assert record.data == {key: data[key] for key in data if key != "test" or record.stage == CONFIRM}
        assert record.environment["device_kind"] == "cpu"
        assert record.environment["precision"] == "fp32"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"data": 3}'])
def test_without_its_note_the_records_tell(tmp_path: Path, root: Path, content: str | None) -> None:
    space, folder = space_of(root), tmp_path / "studies" / "one"
    interrupted(folder, space, 1)
    (folder / "data.json").unlink()
    if content is not None:
        (folder / "data.json").write_text(content)
    exchange(root, "train")
    assert "images (12 before and now)" in refusal(folder, space)


def test_images_that_were_trained_on_are_kept_in_mind_for_the_report(tmp_path: Path, root: Path) -> None:
    space, folder = space_of(root), tmp_path / "studies" / "one"
    interrupted(folder, space, 1)
    assert data_remarks(folder) == []
    shutil.copy2(root / "train/cat/00.bmp", root / "test/cat/99.bmp")
    shutil.copy2(root / "train/dog/00.bmp", root / "test/cat/98.bmp")
    other = tmp_path / "studies" / "two"
    interrupted(other, space, 1)
    shared, twins = data_remarks(other)
    assert shared.startswith("2 test images are training images too; ")
    assert twins.startswith("1 image occurs in two classes; ")
    assert str(root) not in "".join(data_remarks(other))
    page = to_markdown(contents(load(other)))
    assert f"**Data:** {shared.partition(';')[0]}" in page


def test_a_study_without_a_run_knows_its_data(tmp_path: Path, root: Path) -> None:
    space, folder = space_of(root), tmp_path / "studies" / "one"
    interrupted(folder, space, 1)
    (folder / "records.jsonl").write_bytes(b"")
    exchange(root, "test")
    assert "other test images" in refusal(folder, space)


def test_data_that_was_mixed_all_the_same_is_invalid(tmp_path: Path, root: Path) -> None:
    """By hand: the note is gone, the plan sealed anew, as no door would let it pass."""
    space, folder = space_of(root), tmp_path / "studies" / "one"
    interrupted(folder, space, 4)
    exchange(root, "train")
    study = study_at(folder, space)
    (folder / "data.json").unlink()
    data = load_dataset(space.data).identity
    (folder / "plan.json").chmod(0o644)
    write_json(folder / "plan.json", seal(read_plan(folder / "plan.json").to_json() | {"data": data}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune_bn.study.study.require_same", lambda *_, **__: None)
        study.run()
    problems = " | ".join(verify_study(folder)["problems"])
    assert "search runs saw other data than the plan" in problems
    assert "confirm runs saw other data than the plan" in problems


def test_a_locked_plan_is_for_one_kind_of_device(tmp_path: Path, root: Path) -> None:
    space, folder = space_of(root), tmp_path / "studies" / "one"
    interrupted(folder, space, 4)
    on_gpus = space_of(root, resources={"gpu": 0.5})
    message = refusal(folder, on_gpus)
    assert message.startswith("resources.gpu: got 0.5, but ")
    assert "plan.json was locked for runs on a CPU" in message
    assert message.endswith("accepted: 0, or a new study")
    # More threads give sums in another order: that goes on, and the records tell it.
    study_at(folder, space_of(root, resources={"cpu": 2})).run()


def test_before_the_plan_the_device_may_change(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "studies" / "one"
    interrupted(folder, space_of(root), 1)
    study_at(folder, space_of(root, resources={"gpu": 1})).search()
    plan = study_at(folder, space_of(root, resources={"gpu": 1}))
    plan.select()
    assert plan.plan().device_kind == "gpu"
    message = refusal(folder, space_of(root))
    assert "was locked for runs on a GPU" in message
    assert message.endswith("accepted: more than 0, or a new study")


def test_the_other_run_of_a_pair_is_told_where_the_first_one_was(tmp_path: Path, root: Path) -> None:
    space, folder = space_of(root), tmp_path / "studies" / "one"
    study = study_at(folder, space, Follower(4))
    runner: Any = study.runner
    runner.options = replace(runner.options, environment={"accelerator_type": "H100"})
    with pytest.raises(Interrupted):
        study.run()
    assert study.folder.records.read()[-1].environment["accelerator_type"] == "H100"
    feed = study_at(folder, space)._confirm()
    places = [(task.arm, task.pair, task.beside) for task in iter(feed.next, None) if task is not None]
    assert places[:2] == [("candidate-1", "confirm-s1", "H100"), ("baseline", "confirm-s2", None)]


NETWORK = """
from torch import nn
from {helper} import width

def net(in_channels, num_classes):
    layers = nn.Conv2d(in_channels, width, 3), nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(width, num_classes))
"""


def test_a_helper_of_the_users_network_that_was_edited_is_noticed(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tune_bn.training.versions import library_versions

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_helper_c.py").write_text("width = 4\n")
    (tmp_path / "own_net_c.py").write_text(NETWORK.format(helper="own_helper_c"))
    space = space_of(root, model={"arch": "own_net_c:net"})
    folder = tmp_path / "studies" / "one"
    interrupted(folder, space, 4)
    (tmp_path / "own_helper_c.py").write_text("width = 5\n")
    library_versions.cache_clear()
    message = refusal(folder, space)
    library_versions.cache_clear()
    assert "plan.json: it was locked under network " in message
    assert json.loads((folder / "plan.json").read_text())["versions"]["network"] in message


def test_a_search_goes_on_after_such_an_edit_and_the_verdict_says_so(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tune_bn.training.versions import library_versions

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_helper_d.py").write_text("width = 4\n")
    (tmp_path / "own_net_d.py").write_text(NETWORK.format(helper="own_helper_d"))
    space = space_of(root, model={"arch": "own_net_d:net"})
    folder = tmp_path / "studies" / "one"
    interrupted(folder, space, 1)
    (tmp_path / "own_helper_d.py").write_text("width = 4  # mended\n")
    library_versions.cache_clear()
    study = study_at(folder, space)
    study.run()
    library_versions.cache_clear()
    (remark,) = verify_study(folder)["remarks"]
    assert "search or selection ran otherwise than the confirmation: network " in remark
    assert {record.stage for record in study.folder.records} >= {SEARCH, CONFIRM}
