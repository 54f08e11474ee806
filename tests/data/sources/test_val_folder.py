"""Which split each folder is, where there are others than train/ and test/."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, describe_data, load_dataset
from tune_bn.errors import DataError

COUNTS = {"train": 20, "val": 5, "test": 4}
LEVEL = {"train": 10, "val": 20, "test": 30}
"""The grey level of every image of a split."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def write(root: Path, **folders: str) -> None:
    """Folders by their names, each with the images of a split."""
    for folder, split in folders.items():
        for name in ("ant", "cat"):
            (root / folder / name).mkdir(parents=True)
            for number in range(COUNTS[split]):
                pixels = np.full((4, 4, 3), LEVEL[split], np.uint8)
                pixels[0, 0] = number
                Image.fromarray(pixels).save(root / folder / name / f"{number}.png")


def config(root: Path, **keys: object) -> DataConfig:
    return DataConfig(source="folder", root=str(root), **keys)  # type: ignore[arg-type]


def origins(data: Dataset) -> list[tuple[str, int]]:
    """Of each split where its images come from, and how many they are."""
    assert data.test is not None
    names = {level: split for split, level in LEVEL.items()}
    found = []
    for split in (data.train, data.val, data.test):
        (level,) = np.unique(split.images[:, 0, 1:, 1:])
        found.append((names[int(level)], len(split)))
    pixels = np.concatenate([split.images.reshape(len(split), -1) for split in (data.train, data.val, data.test)])
    labels = np.concatenate([split.labels for split in (data.train, data.val, data.test)])
    assert len(np.unique(np.column_stack([pixels, labels]), axis=0)) == len(pixels)
    return found


def refusal(root: Path, **keys: object) -> str:
    messages = []
    for use in (describe_data, load_dataset):
        with pytest.raises(DataError) as caught:
            use(config(root, **keys))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    return messages[0]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Val"])
def test_a_val_folder_beside_train_and_test_is_the_validation_split(root: Path, name: str) -> None:
    write(root, train="train", test="test", **{name: "val"})
    for keys in ({}, {"val_folder": "validation"}):
        assert origins(load_dataset(config(root, **keys))) == [("train", 40), ("val", 10), ("test", 8)]
    found = describe_data(config(root))
    assert (found.train_size, found.val_size, found.test_size, found.remarks) == (40, 10, 8, ())


def test_val_size_keeps_a_stratified_part_of_it(root: Path) -> None:
    write(root, train="train", test="test", val="val")
    data = load_dataset(config(root, val_size=4, train_size=12))
    assert origins(data) == [("train", 12), ("val", 4), ("test", 8)]
    assert np.bincount(data.val.labels).tolist() == [2, 2]
    assert refusal(root, val_size=11).startswith("data.val_size: got 11; accepted: an integer from 2 ")


def test_a_val_folder_can_be_left_out(root: Path) -> None:
    write(root, train="train", test="test", val="val")
    unused = config(root, val_folder="unused")
    assert origins(load_dataset(unused)) == [("train", 36), ("train", 4), ("test", 8)]
    assert describe_data(unused).remarks == ("not read, as data.val_folder says: val/",)


def test_a_test_folder_without_labels_can_be_left_out(root: Path) -> None:
    """The test images of a competition: the message about them says which key takes val/ instead."""
    write(root, train="train", test="test", val="val")
    on_val = config(root, val_folder="test")
    assert origins(load_dataset(on_val)) == [("train", 36), ("train", 4), ("val", 10)]
    assert describe_data(on_val).remarks == ("not read, since data.val_folder says that val/ is the test split: test/",)
    for path in sorted((root / "test").glob("*/*.png")):
        path.rename(root / "test" / f"{path.parent.name}{path.name}")
    for name in ("ant", "cat"):
        (root / "test" / name).rmdir()
    way_out = "accepted: test/<class>/…, or data.val_folder: test, which takes val/ for it"
    assert refusal(root).endswith(f": an image outside the class folders; {way_out}")
    for path in (root / "test").iterdir():
        path.unlink()
    assert refusal(root) == f"{root}/test: got no class folders; {way_out}"
    assert origins(load_dataset(on_val)) == [("train", 36), ("train", 4), ("val", 10)]


def test_without_a_test_folder_the_user_is_asked_what_val_is(root: Path) -> None:
    """ImageNet's layout."""
    write(root, train="train", val="val")
    for keys in ({}, {"val_folder": "unused"}):
        message = refusal(root, **keys)
        assert message.startswith(
            f"data.val_folder: got {'null' if not keys else repr('unused')}; accepted: test (val/ "
        )
        assert "or validation (the other way round), since" in message
    as_test, as_validation = config(root, val_folder="test"), config(root, val_folder="validation")
    assert origins(load_dataset(as_test)) == [("train", 36), ("train", 4), ("val", 10)]
    assert describe_data(as_test).remarks == ("test images are those of val/; validation images are drawn from train/",)
    assert origins(load_dataset(as_validation)) == [("train", 36), ("val", 10), ("train", 4)]
    assert origins(load_dataset(config(root, val_folder="validation", test_size=9)))[2] == ("train", 9)


def test_the_key_needs_a_folder_that_it_is_about(root: Path) -> None:
    write(root, train="train", test="test")
    assert refusal(root, val_folder="validation").startswith(
        f"data.val_folder: got 'validation'; accepted: null, since {root} has none of val/, valid/, validation/, dev/"
    )
    with pytest.raises(DataError, match=r"data.val_folder: got 'test'; accepted: null for the source digits"):
        describe_data(DataConfig(val_folder="test"))


def test_capitals_and_long_names_are_the_same_splits(root: Path) -> None:
    write(root, Training="train", Testing="test")
    assert origins(load_dataset(config(root))) == [("train", 36), ("train", 4), ("test", 8)]


def test_two_folders_of_one_split_are_refused(root: Path) -> None:
    write(root, train="train", test="test", val="val", valid="val")
    assert refusal(root).startswith(f"data.root: got '{root}' with both val/ and valid/; accepted: one folder of val")


def test_the_classes_of_val_must_agree(root: Path) -> None:
    write(root, train="train", test="test", val="val")
    (root / "val/ant").rename(root / "val/Ant")
    assert refusal(root).startswith(f"{root}/val: lacks the class 'ant' (but 'Ant'), which train has; accepted")


def test_an_unsorted_val_is_named(root: Path) -> None:
    """ILSVRC2012_val_00000001.JPEG, as it is unpacked."""
    write(root, train="train", val="val")
    for path in sorted((root / "val").glob("*/*.png")):
        path.rename(root / "val" / f"{path.parent.name}{path.name}")
    assert "an image outside the class folders; accepted: val/<class>/…" in refusal(root, val_folder="test")


def test_a_name_that_is_nearly_that_of_a_split_is_shown(root: Path) -> None:
    write(root, train="train", tset="test")
    assert ", which has no test/ beside train/, tset/; accepted: " in refusal(root)


def test_class_folders_without_splits_are_told_apart(root: Path) -> None:
    write(root / "train", cats="train", dogs="train")
    flat = root / "train" / "cats"
    assert refusal(flat).startswith(
        f"data.root: got '{flat}', which has no train/ but images in ant/, cat/; accepted: a folder with "
        "train/<class>/… and test/<class>/…: move a part of each class to train/<class>/"
    )
    below = root / "below"
    write(below / "set", train="train", test="test")
    assert refusal(below).endswith(f"such as {below}/set")


def test_cars_in_class_folders_take_a_val_folder(root: Path) -> None:
    write(root, train="train", test="test", val="val")
    cars = DataConfig(source="cars", root=str(root), image_size=4)
    assert origins(load_dataset(cars)) == [("train", 40), ("val", 10), ("test", 8)]


def test_a_split_of_each_seed_s_own_needs_data_without_validation_images(root: Path) -> None:
    write(root, train="train", test="test")
    drawn = load_dataset(config(root, split="per_seed", val_size=4))
    assert drawn.redraw is not None
    assert (len(drawn.train), len(drawn.val), drawn.redraw.val_size, drawn.redraw.train_size) == (40, 0, 4, 36)
    assert drawn.train.labels[drawn.redraw.parts(drawn.train.labels, 7)[1]].tolist() == [0, 0, 1, 1]
    told = describe_data(config(root, split="per_seed", val_size=4))
    assert (told.train_size, told.val_size, told.test_size) == (36, 4, 8)
    assert refusal(root, split="per_seed", val_size=41).startswith("data.val_size: got 41; accepted: ")
    write(root, val="val")
    # Unless those are left out, or are the test split.
    accepted = r"accepted: fixed, since the data has validation images of its own"
    assert accepted in refusal(root, split="per_seed")
    for use in ("unused", "test"):
        assert load_dataset(config(root, split="per_seed", val_folder=use)).redraw is not None
