"""Whoever does what a message says gets further: no two messages send a user in a circle."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import describe_data
from tune_bn.data.splits import Parts, partition
from tune_bn.errors import DataError

SIZE = re.compile(
    r"data\.(\w+): got (\d+); accepted: an integer from (\d+) \(one of each class\) to (\d+) \(.*\), or null"
)
LACKING = re.compile(
    r"data\.root: got None, where class '(\w)' has (one|two|no) training images?"
    r"( \(and \d+ more class(?:es have| has) too few\))?; accepted: at least (two|three) of each class: one to train"
    r"(, one to validate)?(, one to test)?"
)
COUNTS = st.lists(st.integers(1, 6), min_size=2, max_size=5)
SIZES = st.none() | st.integers(2, 40)


def labels_of(counts: list[int]) -> np.ndarray:
    return np.arange(len(counts), dtype=np.int64).repeat(counts)


@settings(max_examples=400, deadline=None)
@given(
    counts=COUNTS,
    val=st.none() | st.integers(1, 4),
    test=st.none() | st.integers(1, 4),
    sizes=st.tuples(SIZES, SIZES, SIZES),
    choices=st.lists(st.floats(0, 1), min_size=8, max_size=8),
)
def test_sizes_that_a_message_accepts_are_accepted(
    counts: list[int],
    val: int | None,
    test: int | None,
    sizes: tuple[int | None, int | None, int | None],
    choices: list[float],
) -> None:
    classes = "abcdefgh"[: len(counts)]
    splits = {"train": labels_of(counts)}
    for name, per_class in (("val", val), ("test", test)):
        if per_class is not None:
            splits[name] = labels_of([per_class] * len(counts))
    config = DataConfig(source="folder", train_size=sizes[0], val_size=sizes[1], test_size=sizes[2])
    needed = 1 + (val is None) + (test is None)
    refused: list[str] = []
    for choice in choices:
        try:
            parts = partition(splits["train"], splits.get("test"), classes, config, splits.get("val"))
        except DataError as error:
            message = str(error)
        else:
            assert min(counts) >= needed
            check(parts, splits, config, len(counts))
            return
        if lacking := LACKING.fullmatch(message):
            # Whatever the sizes are: it is the first thing said and the last.
            assert not refused
            assert min(counts) < needed
            assert counts[classes.index(lacking[1])] == ("no", "one", "two").index(lacking[2])
            return
        found = SIZE.fullmatch(message)
        assert found, message
        key, least, most = found[1], int(found[3]), int(found[4])
        assert key not in refused, f"{key} was set to what a message accepted"
        assert least <= most
        refused.append(key)
        config = replace(config, **{key: least + round(choice * (most - least))})
    pytest.fail("no end")


def check(parts: Parts, splits: dict[str, np.ndarray], config: DataConfig, classes: int) -> None:
    own = {name: splits.get(name, splits["train"])[getattr(parts, name)] for name in ("train", "val", "test")}
    for name, labels in own.items():
        assert (np.bincount(labels, minlength=classes) >= 1).all()
        assert len(labels) == (getattr(config, f"{name}_size") or len(labels))
    drawn = [getattr(parts, name) for name in own if name == "train" or name not in splits]
    assert len(np.unique(np.concatenate(drawn))) == sum(map(len, drawn))


def test_every_size_from_the_least_to_the_most_is_accepted() -> None:
    labels = labels_of([2, 3, 9])
    for size in range(3, 12):
        parts = partition(labels, labels, "abc", DataConfig(source="folder", val_size=size))
        assert len(parts.val) == size
        assert (np.bincount(labels[parts.train], minlength=3) >= 1).all()
    for size in (2, 12):
        with pytest.raises(
            DataError, match=r"from 3 \(one of each class\) to 11 \(all but one of each class to train\)"
        ):
            partition(labels, labels, "abc", DataConfig(source="folder", val_size=size))


def test_splits_that_were_drawn_before_are_drawn_as_before() -> None:
    """Indices that earlier versions drew: where they drew any, nothing may have moved."""
    labels = np.random.default_rng(5).permutation(labels_of([40, 25, 7]))
    parts = partition(labels, labels[:20], "abc", DataConfig(source="folder", val_size=12, train_size=30, test_size=9))
    assert parts.val.tolist() == [2, 3, 11, 13, 15, 20, 21, 51, 53, 58, 59, 66]
    assert parts.train[:15].tolist() == [1, 4, 5, 16, 18, 22, 25, 26, 27, 28, 31, 32, 38, 39, 41]
    assert parts.train[15:].tolist() == [42, 46, 48, 49, 50, 52, 55, 57, 62, 64, 65, 67, 68, 70, 71]
    assert parts.test.tolist() == [1, 2, 3, 11, 13, 15, 17, 18, 19]


@pytest.mark.parametrize("side", [2, 3, 4, 9])
@pytest.mark.parametrize("image_size", [None, 4, 6])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("crop_size", [None, 4, 8, 1024])
def test_sizes_of_images_that_a_message_accepts_are_accepted(
    tmp_path: Path, side: int, image_size: int | None, resize: str, crop_size: int | None
) -> None:
    for split in ("train", "test"):
        for name in ("ant", "cat"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (side + 1, side), (number, 0, 0)).save(tmp_path / split / name / f"{number}.png")
    config = DataConfig("folder", str(tmp_path), image_size=image_size, resize=resize, crop_size=crop_size)
    refused: list[str] = []
    while True:
        try:
            describe_data(config)
            return
        except DataError as error:
            message = str(error)
        found = re.fullmatch(r"data\.(\w+): got \S+; accepted: (?:at most (\d+)|(null)|(stretch))\b.*", message)
        assert found, message
        assert found[1] not in refused
        refused.append(found[1])
        config = replace(config, **{found[1]: int(found[2]) if found[2] else None if found[3] else found[4]})
