"""CIFAR-10 and CIFAR-100 from files as torchvision stores them, made small; nothing is downloaded."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import DataSummary, describe_data, load_dataset
from tune_bn.errors import DataError

KINDS = [("cifar10", "labels", "label_names", 10), ("cifar100", "fine_labels", "fine_label_names", 100)]


def write_cifar(
    root: Path, source: str, labels_key: str, names_key: str, classes: int, patch: pytest.MonkeyPatch
) -> None:
    """Four training images and one test image of each class, with the checksums that torchvision shall find."""
    kind = getattr(torchvision.datasets, source.upper())
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def store(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name: str, per_class: int) -> list[str]:
        labels = list(range(classes)) * per_class
        data = rng.integers(0, 256, (len(labels), 3 * 32 * 32), dtype=np.uint8)
        data[:, 0] = labels
        return store(name, {"data": data, labels_key: labels})

    patch.setattr(kind, "train_list", [batch("one", 2), batch("two", 2)])
    patch.setattr(kind, "test_list", [batch("test", 1)])
    name, md5 = store("names", {names_key: [f"class {label}" for label in range(classes)]})
    patch.setattr(kind, "meta", {"filename": name, "key": names_key, "md5": md5})


@pytest.mark.parametrize(("source", "labels_key", "names_key", "classes"), KINDS)
def test_images_and_fine_labels_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, labels_key: str, names_key: str, classes: int
) -> None:
    write_cifar(tmp_path, source, labels_key, names_key, classes, monkeypatch)
    data = load_dataset(DataConfig(source=source, root=str(tmp_path)))
    assert data.test is not None
    assert (data.name, data.num_classes, data.classes[3], data.stored_shape) == (
        source,
        classes,
        "class 3",
        (3, 32, 32),
    )
    assert [len(split) for split in (data.train, data.val, data.test)] == [3 * classes, classes, classes]
    for split in (data.train, data.val, data.test):
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], split.labels)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("cifar10", DataSummary(45_000, 5_000, 10_000, (3, 32, 32), 10)),
        ("cifar100", DataSummary(45_000, 5_000, 10_000, (3, 32, 32), 100)),
    ],
)
def test_it_is_described_without_its_files(tmp_path: Path, source: str, expected: DataSummary) -> None:
    found = describe_data(DataConfig(source=source, root=str(tmp_path / "absent")))
    assert replace(found, remarks=()) == expected
    (remark,) = found.remarks
    assert remark.startswith(
        f"{source} is not in {tmp_path / 'absent'} yet; a search downloads it first, from https://"
    )
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(("source", "archive"), [("cifar10", "cifar-10-python"), ("cifar100", "cifar-100-python")])
def test_a_failed_download_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, archive: str
) -> None:
    url = f"http://127.0.0.1:9/{archive}.tar.gz"
    monkeypatch.setattr(getattr(torchvision.datasets, source.upper()), "url", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    describe_data(DataConfig(source=source))
    with pytest.raises(DataError) as caught:
        load_dataset(DataConfig(source=source))
    assert str(caught.value).endswith(f"{archive}.tar.gz from {url} placed in {tmp_path / 'tune_bn'}")
    assert "\n" not in str(caught.value)


def test_a_file_in_place_of_the_download_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match="a file; accepted: a folder for the download of CIFAR-100"):
        describe_data(DataConfig(source="cifar100", root=str(tmp_path / "data")))
