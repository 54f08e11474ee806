"""The layouts of Stanford Cars, and every way in which its files can disagree."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields
from PIL import Image
from scipy.io import loadmat, savemat

from tune_bn.data.sources.cars import list_cars
from tune_bn.errors import DataError

MakeCars = Callable[..., Path]
CLASSES = ("Acura TL Sedan 2012", "Ram C/V Cargo Van Minivan 2012", "smart fortwo")
TRAIN, TEST = "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"


def refusal(root: Path | None) -> str:
    with pytest.raises(DataError) as caught:
        list_cars(None if root is None else str(root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("test_file", [TEST, f"devkit/{TEST}"])
def test_the_devkit_says_what_each_image_shows(make_cars: MakeCars, inside: bool, test_file: str) -> None:
    home = make_cars()
    os.rename(home / TEST, home / test_file)
    found = list_cars(str(home if inside else home.parent))
    assert (found.name, found.classes) == ("cars", CLASSES)
    assert found.train.labels.tolist() == [0, 1, 2] * 5
    assert found.test.labels.tolist() == [0, 1, 2] * 2
    assert found.train.paths == [str(home / "cars_train" / f"{number:05d}.jpg") for number in range(1, 16)]
    assert found.test.paths == [str(home / "cars_test" / f"{number:05d}.jpg") for number in range(1, 7)]


def test_it_reads_what_torchvision_reads(make_cars: MakeCars) -> None:
    from torchvision.datasets import StanfordCars

    home = make_cars()
    found = list_cars(str(home))
    for split, files in (("train", found.train), ("test", found.test)):
        theirs = StanfordCars(str(home.parent), split)
        assert [str(path) for path, _ in theirs._samples] == files.paths
        assert [label for _, label in theirs._samples] == files.labels.tolist()
        assert tuple(theirs.classes) == found.classes


def test_class_folders_do_as_well(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("bmw", "audi"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "1.jpg")
    found = list_cars(str(tmp_path))
    assert (found.name, found.classes, found.train.labels.tolist()) == ("cars", ("audi", "bmw"), [0, 1])
    shutil.rmtree(tmp_path / "test")
    assert "which has no test/; accepted: a folder with train/<class>" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("devkit/cars_meta.mat", " (of car_devkit.tgz)"),
        (TRAIN, " (of car_devkit.tgz)"),
        (TEST, ""),
        ("cars_train", " (of cars_train.tgz)"),
        ("cars_test", " (of cars_test.tgz)"),
    ],
)
def test_a_missing_file_is_named_with_its_archive_and_folder(make_cars: MakeCars, name: str, origin: str) -> None:
    home = make_cars()
    shutil.rmtree(home / name) if name.startswith("cars_t") and not name.endswith(".mat") else (home / name).unlink()
    message = refusal(home)
    assert message.startswith(f"data.root: got '{home}', which has no {name}{origin}; accepted: car_devkit.tgz, ")
    assert f"cars_train.tgz and cars_test.tgz unpacked in {home} with {TEST} beside them" in message
    assert "the authors' server no longer serves them" in message


def test_a_root_that_is_none_says_what_is_needed(tmp_path: Path) -> None:
    assert refusal(None).startswith("data.root: got null; accepted: car_devkit.tgz, cars_train.tgz and cars_test.tgz")
    assert "which is not a folder; accepted: car_devkit.tgz" in refusal(tmp_path / "nowhere")
    assert "has no devkit/cars_meta.mat (of car_devkit.tgz); accepted: car_devkit.tgz" in refusal(tmp_path)


def rewrite(path: Path, change: Callable[[np.ndarray], Any]) -> None:
    """Save the annotations of a file again after ``change``."""
    annotations = loadmat(path)["annotations"]
    changed = change(annotations)
    savemat(path, {"annotations": annotations if changed is None else changed})


def set_field(field: str, value: object) -> Callable[[np.ndarray], None]:
    def change(annotations: np.ndarray) -> None:
        annotations[0, 3][field] = value

    return change


def keep_fields(*fields: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda annotations: repack_fields(annotations[list(fields)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_field("class", 4), "annotation 4: class: got 4; accepted: an integer from 1 to 3"),
        (set_field("class", 0), "annotation 4: class: got 0; accepted: an integer from 1 to 3"),
        (set_field("class", 1.5), "annotation 4: class: got 1.5; accepted: an integer from 1 to 3"),
        (set_field("class", np.empty((0, 0))), r"annotation 4: class: got array\(\[\].*; accepted: an integer"),
        (set_field("fname", "00001.jpg"), "annotation 4: fname: got '00001.jpg' again, as in annotation 1; accepted: "),
        (set_field("fname", 7), "annotation 4: fname: got 7; accepted: a file of cars_train"),
        (keep_fields("fname", "bbox_x1"), "annotations has no field 'class'; accepted: fname and class"),
        (keep_fields("class", "bbox_x1"), "annotations has no field 'fname'; accepted: fname and class"),
        (lambda found: np.arange(3), "annotations has no field 'fname'"),
        (lambda found: found[:, 1::3], "no training image of class 'Acura TL Sedan 2012'; accepted: at least one"),
    ],
)
def test_annotations_that_cannot_be_are_named(
    make_cars: MakeCars, change: Callable[[np.ndarray], Any], message: str
) -> None:
    home = make_cars()
    rewrite(home / TRAIN, change)
    with pytest.raises(DataError, match=rf"^{home / TRAIN}(, |: ){message}"):
        list_cars(str(home))


def test_annotations_without_labels_are_named(make_cars: MakeCars) -> None:
    """The devkit's own file of the test images, under the name of the one with labels."""
    home = make_cars()
    rewrite(home / TEST, keep_fields("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "fname"))
    assert refusal(home).startswith(f"{home / TEST}: annotations has no field 'class'")


def test_a_listed_image_that_is_missing_is_named(make_cars: MakeCars) -> None:
    home = make_cars()
    path = home / "cars_test/00002.jpg"
    path.unlink()
    assert refusal(home) == f"{path}: missing, but {home / TEST}, annotation 2, lists it; accepted: every listed image"


@pytest.mark.parametrize("content", [b"", b"no MATLAB", b"MATLAB 5.0 MAT-file" + b"\x00" * 200])
def test_a_damaged_file_is_named(make_cars: MakeCars, content: bytes) -> None:
    home = make_cars()
    (home / TRAIN).write_bytes(content)
    message = refusal(home)
    assert message.startswith(f"{home / TRAIN}: ")
    assert "accepted: " in message


def test_a_file_of_another_variable_is_named(make_cars: MakeCars) -> None:
    home = make_cars()
    shutil.copy(home / TRAIN, home / "devkit/cars_meta.mat")
    assert refusal(home).startswith(f"{home}/devkit/cars_meta.mat: no variable 'class_names'; accepted: ")


def test_what_other_programs_leave_is_no_matter(make_cars: MakeCars) -> None:
    home = make_cars()
    before = list_cars(str(home))
    for place in (
        "@eaDir",
        "devkit/@eaDir",
        "cars_train/@eaDir/00001.jpg",
        "cars_test/.DS_Store",
        "devkit/._cars_meta.mat",
    ):
        (home / place).mkdir(parents=True)
    (home / "cars_train/Thumbs.db").touch()
    assert list_cars(str(home)).train.paths == before.train.paths
    with pytest.raises(DataError, match=r"data.val_folder: got 'test'; accepted: null for the devkit of cars"):
        list_cars(str(home), "test")
