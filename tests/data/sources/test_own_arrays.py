"""Arrays of the user's: a function, and a file of numpy's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import describe_data, load_dataset, read_data
from tune_bn.errors import ConfigError, DataError


def split(count: int, seed: int, classes: int = 3, **change: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 2, 6, 5), dtype=np.uint8)
    return change.get("images", images), change.get("labels", np.arange(count) % classes)


def whole(**change: Any) -> dict[str, Any]:
    return {"train": split(30, 0), "test": split(9, 1), **change}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes ``mine:images`` return something; a module of its own for each test."""
    import sys

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_of_test", raising=False)
    (tmp_path / "mine_of_test.py").write_text(
        "GIVEN, CALLS = {}, []\n"
        "def images(*root):\n    CALLS.append(root)\n    return GIVEN['value']\n"
        "def broken():\n    raise OSError('no such disk\\nmore')\n"
        "number = 3\n"
    )

    def make(value: Any) -> str:
        import mine_of_test  # type: ignore[import-not-found]

        mine_of_test.GIVEN["value"] = value
        return "mine_of_test:images"

    return make


def test_a_function_gives_train_and_test_and_validation_is_drawn(source: Any) -> None:
    config = DataConfig(source=source(whole()))
    data = load_dataset(config)
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (27, 3, 9)
    assert data.classes == ("0", "1", "2")
    assert data.stored_shape == (2, 6, 5)
    np.testing.assert_array_equal(data.test.images, whole()["test"][0])
    summary = describe_data(config)
    assert (summary.train_size, summary.val_size, summary.test_size) == (27, 3, 9)
    assert summary.image_shape == (2, 6, 5)
    assert read_data(config)[0] == 39


def test_its_own_validation_images_and_names_are_taken(source: Any) -> None:
    given = whole(val=split(6, 2), classes=["ant", "bee", "cat"])
    data = load_dataset(DataConfig(source=source(given)))
    assert (len(data.train), len(data.val)) == (30, 6)
    np.testing.assert_array_equal(data.val.images, given["val"][0])
    assert data.classes == ("ant", "bee", "cat")
    smaller = load_dataset(DataConfig(source=source(given), val_size=3, train_size=12))
    assert (len(smaller.train), len(smaller.val)) == (12, 3)


def test_what_counts_is_the_content(source: Any) -> None:
    first = load_dataset(DataConfig(source=source(whole()))).identity
    assert load_dataset(DataConfig(source=source(whole()))).identity == first
    changed = whole()
    changed["train"][0][0, 0, 0, 0] ^= 1
    second = load_dataset(DataConfig(source=source(changed))).identity
    assert second["test"] == first["test"]
    assert (second["train"], second["val"]) != (first["train"], first["val"])


def test_the_root_is_handed_over(source: Any) -> None:
    import sys

    load_dataset(DataConfig(source=source(whole()), root="/some/where"))
    assert sys.modules["mine_of_test"].CALLS[-1] == ("/some/where",)
    load_dataset(DataConfig(source=source(whole())))
    assert sys.modules["mine_of_test"].CALLS[-1] == ()


def test_torch_tensors_and_other_integers_are_arrays(source: Any) -> None:
    import torch

    images, labels = split(30, 0)
    given = whole(train=(torch.from_numpy(images), torch.from_numpy(labels).to(torch.int16)))
    expected = load_dataset(DataConfig(source=source(whole()))).sha256
    assert load_dataset(DataConfig(source=source(given))).sha256 == expected


IMAGES, LABELS = split(30, 0)
BAD: list[tuple[Any, str]] = [
    ([1], "returned list; accepted: a dict"),
    ({"train": split(30, 0)}, "no test images"),
    ({"test": split(30, 0)}, "no train images"),
    (whole(tests=1), "returned tests in a dict"),
    (whole(train=IMAGES), "train as ndarray; accepted: (images, labels)"),
    (
        whole(train=(IMAGES[:, 0], LABELS)),
        "train images uint8 (30, 6, 5); accepted: uint8 (N, C, H, W), such as",
    ),
    (whole(train=(IMAGES / 255, LABELS)), "train images float64 (30, 2, 6, 5)"),
    (whole(train=(np.zeros((30, 6, 5, 3), np.uint8), LABELS)), "if these have their channels last"),
    (whole(train=(IMAGES[:0], LABELS[:0])), "train images uint8 (0, 2, 6, 5)"),
    (whole(test=(IMAGES[:9, :, :4], LABELS[:9])), "test images of (2, 4, 5); accepted: (2, 6, 5)"),
    (whole(train=(IMAGES, LABELS[:29])), "29 labels; accepted: a label for each image"),
    (whole(train=(IMAGES, LABELS[:, None])), "train labels int64 (30, 1); accepted: integers (N,), the index of each"),
    (whole(train=(IMAGES, LABELS.astype(float))), "train labels float64 (30,)"),
    (whole(train=(IMAGES, LABELS == 1)), "train labels bool (30,)"),
    (whole(train=(IMAGES, LABELS - 1)), "the label -1; accepted: 0 and more"),
    (whole(train=(IMAGES, 2 * LABELS)), "no train image of class '1'"),
    (whole(train=(IMAGES, 0 * LABELS)), "images of 1 classes; accepted: at least 2"),
    (whole(test=(IMAGES[:9], LABELS[:9] + 1)), "the label 3 in test; accepted: 0 to 2, for 3 classes of train"),
    (whole(test=(IMAGES[:9], LABELS[:9] % 2)), "no test image of class '2'"),
    (whole(classes=["a", "b"]), "the label 2 in train; accepted: 0 to 1, for 2 classes"),
    (whole(classes=["a", "b", "b"]), "accepted: a name of its own for each"),
    (whole(classes=["a", "b", "c", "d"]), "no train image of class 'd'"),
    (whole(train=([np.zeros(3), np.zeros(4)], LABELS)), "that are no array"),
]


@pytest.mark.parametrize(("given", "words"), BAD)
def test_what_it_returns_is_checked(given: Any, words: str, source: Any) -> None:
    for ask in (describe_data, load_dataset):
        with pytest.raises(DataError) as error:
            ask(DataConfig(source=source(given)))
        assert words in str(error.value)
        assert "data.source: got 'mine_of_test:images'" in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine_of_test:broken", "broken() raised OSError: no such disk; accepted: a dict"),
        ("mine_of_test:nothing", "has no function nothing"),
        ("mine_of_test:number", "has no function number"),
        ("no_such_module:images", "there is no module no_such_module"),
    ],
)
def test_a_function_that_is_not_there_or_raises(name: str, words: str, source: Any) -> None:
    source(whole())
    with pytest.raises(DataError) as error:
        describe_data(DataConfig(source=name))
    assert words in str(error.value)


def test_arguments_that_it_does_not_take(source: Any) -> None:
    source(whole())
    with pytest.raises(DataError, match=r"takes other arguments .*called as broken\('/x'\)"):
        describe_data(DataConfig(source="mine_of_test:broken", root="/x"))


@pytest.mark.parametrize("key", [{"image_size": 8}, {"exif": "apply"}, {"val_folder": "test"}])
def test_keys_of_image_files_are_refused(key: dict[str, Any], source: Any) -> None:
    with pytest.raises(DataError, match=f"data.{next(iter(key))}: got"):
        describe_data(DataConfig(source=source(whole()), **key))


@pytest.mark.parametrize("name", ["mine", "mine:", ":f", "mine:f()", "../mine:f", "1mine:f", ""])
def test_other_names_are_no_source(name: str) -> None:
    with pytest.raises(ConfigError, match=r"accepted: digits .* \| package.module:function"):
        DataConfig(source=name)


# --- a file of numpy's


def npz(path: Path, **arrays: Any) -> DataConfig:
    np.savez(path / "mine.npz", **arrays)
    return DataConfig(source="npz", root=str(path / "mine.npz"))


@pytest.mark.parametrize("names", ["{}_images {}_labels", "x_{} y_{}"])
def test_a_file_of_numpy_is_the_function_of_the_same_arrays(names: str, tmp_path: Path, source: Any) -> None:
    given = whole(val=split(6, 2), classes=["ant", "bee", "cat"])
    arrays = {
        name.format(part): array
        for part in ("train", "test", "val")
        for name, array in zip(names.split(), given[part], strict=True)
    }
    config = npz(tmp_path, **arrays, classes=np.array(given["classes"]))
    assert load_dataset(config).sha256 == load_dataset(DataConfig(source=source(given))).sha256
    assert describe_data(config).val_size == 6


OBJECTS = np.array([None, 1, 2])
TRAIN = {"train_images": IMAGES, "train_labels": LABELS}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": IMAGES}, "holds a; accepted: a file of numpy.savez with train_images"),
        ({"train_images": IMAGES}, "has train_images without train_labels"),
        (TRAIN, "has no test images"),
        (TRAIN | {"test_images": IMAGES, "test_labels": OBJECTS}, "holds Python objects, which are not loaded"),
        (TRAIN | {"test_images": IMAGES[:, 0], "test_labels": LABELS}, r"has test images uint8 \(30, 6, 5\)"),
    ],
)
def test_what_a_file_holds_is_checked(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        describe_data(npz(tmp_path, **arrays))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not really")
    for root, words in (
        (None, "data.root: got null"),
        (".", "a folder; accepted: a file of numpy.savez"),
        ("none.npz", "which is no file"),
        ("bad.npz", r"unreadable .*; accepted: a file of numpy.savez"),
    ):
        with pytest.raises(DataError, match=words):
            load_dataset(DataConfig(source="npz", root=None if root is None else str(tmp_path / root)))
