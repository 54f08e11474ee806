"""Listing of class folders that are made here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune_bn.data.decoding import Decoder
from tune_bn.data.sources.base import FileSet
from tune_bn.data.sources.folder import list_folder
from tune_bn.errors import DataError

RNG = np.random.default_rng(0)


def picture(height: int = 8, width: int = 9) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, two training images and one test image each."""
    for split, count in (("train", 2), ("test", 1)):
        for name in ("ant", "cat"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(picture()).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def scan(root: Path) -> FileSet:
    return list_folder(str(root))


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        scan(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_are_listed_by_class_in_a_fixed_order(root: Path) -> None:
    (root / "train/ant/0/deep").mkdir(parents=True)
    os.rename(root / "train/ant/0.png", root / "train/ant/0/deep/9.png")
    found = scan(root)
    assert found.classes == ("ant", "cat")
    assert [os.path.relpath(path, root) for path in found.train.paths] == [
        "train/ant/0/deep/9.png",
        "train/ant/1.png",
        "train/cat/0.png",
        "train/cat/1.png",
    ]
    assert found.train.labels.tolist() == [0, 0, 1, 1]


def test_hidden_and_system_files_are_passed_over(root: Path) -> None:
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (root / "train/ant" / name).write_bytes(b"not an image")
    (root / "train/.ipynb_checkpoints").mkdir()
    (root / "train/ant/.cache").mkdir()
    (root / "train/ant/.cache/2.png").write_bytes(b"not an image")
    (root / "train/labels.csv").write_text("a,b")
    assert len(scan(root).train.paths) == 4


@pytest.mark.parametrize("link", ["train/ant", "train/ant/more"])
def test_linked_folders_count(root: Path, link: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "ant"
    os.rename(root / "train/ant", elsewhere)
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(elsewhere)
    assert scan(root).train.labels.tolist() == [0, 0, 1, 1]


def test_an_image_without_an_extension_counts(root: Path) -> None:
    os.rename(root / "train/ant/0.png", root / "train/ant/zero")
    found = scan(root)
    assert str(root / "train/ant/zero") in found.train.paths
    Decoder(found.train.paths[0], None).check_headers(found.train.paths)


@pytest.mark.parametrize("name", ["a" * 300, "~nobody-of-this-name/x", "a\0b", "file/below"])
def test_a_name_that_leads_nowhere_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert "which is not a folder; accepted: " in refusal(Path(name))


def test_missing_folders_are_named_with_the_layout(tmp_path: Path) -> None:
    layout = "accepted: a folder with train/<class>/… and test/<class>/…"
    assert refusal(tmp_path / "no") == f"data.root: got '{tmp_path}/no', which is not a folder; {layout}"
    assert "which has no train/" in refusal(tmp_path)
    (tmp_path / "train").mkdir()
    assert "which has no test/" in refusal(tmp_path)


def test_classes_must_agree_and_hold_images(root: Path) -> None:
    (root / "train/dog").mkdir()
    assert refusal(root).startswith(f"{root}/test: lacks the class 'dog', which train has")
    (root / "test/dog").mkdir()
    (root / "test/elk").mkdir()
    assert refusal(root).startswith(f"{root}/train: lacks the class 'elk', which test has")
    (root / "test/elk").rmdir()
    assert refusal(root) == f"{root}/train/dog: an empty class; accepted: at least one image"


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "ant").mkdir(parents=True)
    assert refusal(tmp_path) == f"{tmp_path}/train: got 1 class folders; accepted: at least 2"


def test_a_text_among_the_images_is_named(root: Path) -> None:
    (root / "test/cat/README").write_text("hello")
    assert refusal(root).startswith(f"{root}/test/cat/README: not an image that Pillow can identify")


def test_an_image_beside_the_class_folders_is_named(root: Path) -> None:
    Image.fromarray(picture()).save(root / "train/lost.jpg")
    assert refusal(root).startswith(f"{root}/train/lost.jpg: an image outside the class folders")
