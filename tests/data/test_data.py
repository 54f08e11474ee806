"""Splits, sources and their errors. Images are made here; nothing is downloaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, DataSummary, Split, dataset_from_arrays, describe_data, load_dataset
from tune_bn.data.sources import digits
from tune_bn.data.sources.base import ArraySet
from tune_bn.errors import DataError

MakeFolder = Callable[..., Path]
NAMES = tuple("abcdefghij")


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write ``train/<class>/<i>.png`` and ``test/…`` with distinct 6×5 images; counts by class and split."""

    def make(train: dict[str, int], test: dict[str, int]) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / "data"
        for split, counts in (("train", train), ("test", test)):
            for name, count in counts.items():
                (root / split / name).mkdir(parents=True)
                for number in range(count):
                    pixels = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(root / split / name / f"{number}.png")
        return root

    return make


def arrays(per_class: int, classes: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random images, every one different, and balanced labels in no particular order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(classes, dtype=np.int64).repeat(per_class))
    return rng.integers(0, 256, (len(labels), 3, 4, 4), dtype=np.uint8), labels


def rows(split: Split) -> set[bytes]:
    return {image.tobytes() for image in split.images}


def test_the_same_split_in_another_process() -> None:
    program = (
        "from tune_bn.data.config import DataConfig; from tune_bn.data.dataset import load_dataset;"
        "print(load_dataset(DataConfig(train_size=100)).sha256)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert runs == {load_dataset(DataConfig(train_size=100)).sha256}


def test_digits_are_the_real_scans_on_256_levels() -> None:
    from sklearn.datasets import load_digits

    data = load_dataset(DataConfig())
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (300, 600, 897)
    assert data.stored_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    splits = (data.train, data.val, data.test)
    together = np.concatenate([split.images for split in splits])
    levels = np.round(together[:, 0].astype(float) * 16 / 255)
    bunch = load_digits()
    original = {image.tobytes(): label for image, label in zip(bunch.images, bunch.target, strict=True)}
    assert {image.tobytes() for image in levels} == set(original)
    assert [original[image.tobytes()] for image in levels] == np.concatenate([s.labels for s in splits]).tolist()
    assert set(np.unique(together)) == {round(level * 255 / 16) for level in range(17)}


def test_digits_are_the_same_where_scikit_learn_keeps_its_file_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    read = digits.DIGITS.read(DataConfig())
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    again = digits.DIGITS.read(DataConfig())
    assert read.classes == again.classes
    for one, other in zip(read.train, again.train, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("found", [True, False])
def test_digits_without_scikit_learn_are_refused(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    if found:
        # A package of that name, which has neither the file nor what would read it.
        monkeypatch.setattr(digits, "find_spec", lambda name: ModuleSpec(name, None, is_package=True))
    with pytest.raises(DataError, match=r"data\.source: got 'digits', which needs scikit-learn"):
        digits.DIGITS.read(DataConfig())


def test_digits_sizes_can_be_set() -> None:
    data = load_dataset(DataConfig(train_size=50, val_size=100, test_size=200))
    assert data.test is not None
    assert [len(data.train), len(data.val), len(data.test)] == [50, 100, 200]
    assert np.bincount(data.train.labels).tolist() == [5] * 10


def test_splits_share_no_image_and_smaller_sizes_move_nothing_to_another_split() -> None:
    train, test = arrays(50), arrays(10, seed=1)
    made = ArraySet("made", NAMES, train, test)
    full = dataset_from_arrays(made, DataConfig(source="cifar10"))
    small = dataset_from_arrays(made, DataConfig(source="cifar10", train_size=40, test_size=30))
    for data in (full, small):
        assert data.test is not None
        assert not rows(data.train) & rows(data.val)
        assert not (rows(data.train) | rows(data.val)) & rows(data.test)
    assert len(full.val) == 50
    assert len(full.train) == 450
    assert full.test is not None
    assert len(full.test) == 100
    assert rows(small.val) == rows(full.val)
    assert rows(small.train) < rows(full.train)
    assert np.bincount(small.train.labels).tolist() == [4] * 10


def test_images_keep_their_labels_and_become_contiguous() -> None:
    images, labels = arrays(20)
    by_image = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    # torchvision's CIFAR-10 arrays are channels-last views; any memory order has to end as (N, C, H, W).
    stored_channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    config = DataConfig(source="cifar10", train_size=60)
    data = dataset_from_arrays(ArraySet("made", NAMES, (stored_channels_last, labels), arrays(2)), config)
    assert data.train.images.flags.c_contiguous
    assert [by_image[image.tobytes()] for image in data.train.images] == data.train.labels.tolist()


def test_without_test_shares_everything_else() -> None:
    data = load_dataset(DataConfig())
    blind = data.without_test()
    assert blind.test is None
    assert blind.train is data.train
    assert blind.val is data.val
    assert blind.sha256 != data.sha256


def test_the_hash_sees_pixels_labels_and_class_names() -> None:
    data = load_dataset(DataConfig())
    pixel = data.train.images.copy()
    pixel[3, 0, 2, 2] ^= 1
    label = data.val.labels.copy()
    label[0] = (label[0] + 1) % 10
    versions = [
        data,
        Dataset(data.name, data.classes, Split(pixel, data.train.labels), data.val, data.test),
        Dataset(data.name, data.classes, data.train, Split(data.val.images, label), data.test),
        Dataset(data.name, ("zero", *data.classes[1:]), data.train, data.val, data.test),
    ]
    assert len({version.sha256 for version in versions}) == len(versions)
    assert Dataset("other name", data.classes, data.train, data.val, data.test).sha256 == data.sha256


def test_channel_statistics_equal_numpy_on_floats() -> None:
    data = dataset_from_arrays(ArraySet("made", NAMES, arrays(2000), arrays(2)), DataConfig(source="cifar10"))
    mean, std = data.channel_statistics()
    pixels = data.train.images / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-12)
    assert mean.dtype == std.dtype == np.float64


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 3, 4, 4), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 3, 4, 4), np.uint8).transpose(0, 1, 3, 2)[:, ::2], np.zeros(2, np.int64)),
        (np.zeros((2, 3, 4, 4), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2, np.int32)),
    ],
)
def test_a_split_refuses_other_arrays(images: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="accepted"):
        Split(images, labels)


def test_a_folder_is_split_like_any_source(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"cat": 30, "ant": 30}, {"cat": 5, "ant": 6})
    monkeypatch.chdir(root.parent)
    config = DataConfig(source="folder", root=root.name, train_size=20)
    seen: list[tuple[int, int]] = []
    describe_data(config)
    data = load_dataset(config, progress=lambda done, total: seen.append((done, total)))
    assert data.test is not None
    assert data.name == root.name
    assert data.classes == ("ant", "cat")
    assert data.stored_shape == (3, 5, 6)
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.val, data.test)] == [
        [10, 10],
        [3, 3],
        [6, 5],
    ]
    files = {np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes(): path for path in root.glob("*/*/*.png")}
    for name, split in (("train", data.train), ("train", data.val), ("test", data.test)):
        for image, label in zip(split.images, split.labels, strict=True):
            assert files[image.tobytes()].parts[-3:-1] == (name, data.classes[label])
    assert not rows(data.train) & rows(data.val)
    assert seen[-1] == (37, 37)


@pytest.mark.parametrize("image_size", [None, 16])
def test_a_description_equals_what_is_loaded(make_folder: MakeFolder, image_size: int | None) -> None:
    root = make_folder({"cat": 30, "ant": 20}, {"cat": 5, "ant": 6})
    folder = DataConfig(source="folder", root=str(root), train_size=20, image_size=image_size)
    for config in (folder, DataConfig(), DataConfig(val_size=100)):
        data = load_dataset(config)
        assert data.test is not None
        sizes = len(data.train), len(data.val), len(data.test)
        assert describe_data(config) == DataSummary(*sizes, data.stored_shape, data.num_classes)


@pytest.mark.parametrize(
    ("source", "options", "stored", "seen"),
    [
        ("cub200", {}, 256, 224),
        ("cub200", {"image_size": 16}, 16, 16),
        ("cub200", {"image_size": 16, "resize": "crop", "crop_size": 12}, 16, 12),
        ("cub200", {"crop_size": 128}, 256, 128),
        ("cars", {}, 256, 224),
        ("cars", {"image_size": 18, "crop_size": 18}, 18, 18),
    ],
)
def test_photographs_are_stored_and_seen_at_their_own_sizes(
    request: pytest.FixtureRequest, source: str, options: dict[str, Any], stored: int, seen: int
) -> None:
    root = request.getfixturevalue({"cub200": "make_cub", "cars": "make_cars"}[source])()
    config = DataConfig(source=source, root=str(root), val_size=6, **options)
    data = load_dataset(config)
    assert (data.name, data.num_classes, data.stored_shape) == (source, 3, (3, stored, stored))
    assert config.seen_shape(data.stored_shape) == (3, seen, seen)
    assert describe_data(config) == DataSummary(9, 6, 6, (3, seen, seen), 3)
    assert data.test is not None
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.val, data.test)] == [
        [3, 3, 3],
        [2, 2, 2],
        [2, 2, 2],
    ]


def test_a_crop_larger_than_the_images_is_refused_at_the_door(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 8, "ant": 8}, {"cat": 2, "ant": 2})
    for use in (describe_data, load_dataset):
        use(DataConfig(source="folder", root=str(root), crop_size=5))
        # The images are 6 wide and 5 high.
        with pytest.raises(DataError, match=r"data.crop_size: got 6; accepted: at most 5, the side of the images"):
            use(DataConfig(source="folder", root=str(root), crop_size=6))
        with pytest.raises(DataError, match=r"data.crop_size: got 9; accepted: at most 8"):
            use(DataConfig(source="folder", root=str(root), image_size=8, crop_size=9))


def test_only_the_images_that_are_kept_are_decoded(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 30, "ant": 30}, {"cat": 5, "ant": 5})
    config = DataConfig(source="folder", root=str(root), train_size=20, val_size=6)
    before = load_dataset(config)
    kept = rows(before.train) | rows(before.val)
    damaged = 0
    for path in sorted(root.glob("train/*/*.png"))[1:]:
        if np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes() not in kept:
            path.write_bytes(path.read_bytes()[:40])
            damaged += 1
    assert damaged >= 33
    assert load_dataset(config).sha256 == before.sha256


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train_size": 19}, "data.train_size: got 19; accepted: an integer from 2 .* to 18"),
        ({"val_size": 21}, "data.val_size: got 21; accepted: an integer from 2 .* to 18 .all but one of each class to"),
        ({"val_size": 19}, "data.val_size: got 19; accepted: an integer from 2 .* to 18"),
        ({"test_size": 9}, "data.test_size: got 9; accepted: an integer from 2 .* to 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_at_the_door(
    make_folder: MakeFolder, sizes: dict[str, int], message: str
) -> None:
    root = make_folder({"ant": 10, "cat": 10}, {"ant": 4, "cat": 4})
    config = DataConfig(source="folder", root=str(root), **sizes)
    for use in (describe_data, load_dataset):
        with pytest.raises(DataError, match=message):
            use(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(train_size=301), "data.train_size: got 301; accepted: an integer from 10 .* to 300"),
        (
            DataConfig(test_size=1790),
            "data.test_size: got 1790; .* to 1777 .all but one .* to train and one to validate",
        ),
        (DataConfig(test_size=1777), "data.val_size: got 600; .* from 10 .* to 10 "),
        (DataConfig(source="cifar10", train_size=45_001), "data.train_size: got 45001; .* to 45000"),
        (DataConfig(source="cifar10", test_size=10_001), "data.test_size: got 10001; .* to 10000"),
        (DataConfig(source="folder"), "data.root: got null; accepted: a folder with train/<class>"),
        (DataConfig(root="x"), "data.root: got 'x'; accepted: null for the source digits"),
        (DataConfig(image_size=8), "data.image_size: got 8; accepted: null for the source digits"),
        (DataConfig(source="cifar100", image_size=8), "data.image_size: got 8; accepted: null for the source cifar100"),
        (DataConfig(resize="crop"), "data.resize: got 'crop'; accepted: stretch where data.image_size is null"),
        (DataConfig(crop_size=9), "data.crop_size: got 9; accepted: at most 8, the side of the images"),
        (DataConfig(source="cifar100", crop_size=33), "data.crop_size: got 33; accepted: at most 32"),
    ],
)
def test_configurations_that_cannot_work_are_refused_at_the_door(config: DataConfig, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        describe_data(config)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"data.root: got '{tmp_path}/nowhere'.*train/<class>"):
        describe_data(DataConfig(source="folder", root="nowhere"))
