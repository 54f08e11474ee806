"""The layout of CUB-200-2011, and every way in which its files can disagree."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_bn.data.sources.cub200 import list_cub200
from tune_bn.errors import DataError

MakeCub = Callable[..., Path]
ARCHIVE = "CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158"


def refusal(root: Path | None) -> str:
    with pytest.raises(DataError) as caught:
        list_cub200(None if root is None else str(root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def relative(paths: list[str], home: Path) -> list[str]:
    return [os.path.relpath(path, home / "images") for path in paths]


@pytest.mark.parametrize("inside", [False, True])
def test_the_root_is_the_folder_or_its_parent(make_cub: MakeCub, inside: bool) -> None:
    home = make_cub() / "CUB_200_2011"
    found = list_cub200(str(home if inside else home.parent))
    assert (found.name, found.classes) == ("cub200", ("001.Albatross", "002.Auklet", "003.Bunting"))
    assert found.train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert found.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert relative(found.train.paths, home)[3:6] == [
        "001.Albatross/Albatross_0003.png",
        "001.Albatross/Albatross_0004.jpg",
        "002.Auklet/Auklet_0000.jpg",
    ]
    assert relative(found.test.paths, home)[:2] == [
        "001.Albatross/Albatross_0005.jpg",
        "001.Albatross/Albatross_0006.jpg",
    ]


def test_numbers_decide_whatever_the_order_of_the_lines(make_cub: MakeCub) -> None:
    home = make_cub() / "CUB_200_2011"
    before = list_cub200(str(home))
    for file in home.glob("*.txt"):
        file.write_text("\n".join(reversed(file.read_text().splitlines())) + "\n\n")
    after = list_cub200(str(home))
    assert (after.classes, after.train.paths, after.test.paths) == (
        before.classes,
        before.train.paths,
        before.test.paths,
    )
    assert after.train.labels.tolist() == before.train.labels.tolist()


def test_a_root_that_is_none_says_where_the_archive_comes_from(tmp_path: Path) -> None:
    assert refusal(None) == f"data.root: got null; accepted: the folder in which {ARCHIVE} is unpacked"
    missing = refusal(tmp_path / "nowhere")
    assert missing.startswith(f"data.root: got '{tmp_path}/nowhere', which is not a folder; accepted: ")
    assert missing.endswith(f"{ARCHIVE} is unpacked")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "name", ["classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt", "images"]
)
def test_a_missing_file_is_named_with_its_archive_and_folder(make_cub: MakeCub, name: str, inside: bool) -> None:
    parent = make_cub()
    home = parent / "CUB_200_2011"
    shutil.rmtree(home / name) if name == "images" else (home / name).unlink()
    root = home if inside else parent
    assert refusal(root) == f"data.root: got '{root}', which has no {name}; accepted: {ARCHIVE}, unpacked in {parent}"


def test_an_empty_folder_says_what_to_unpack_in_it(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith(f"which has no classes.txt; accepted: {ARCHIVE}, unpacked in {tmp_path}")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("images.txt", "2 001", "two 001", "line 2: got 'two 001.*'; accepted: the number of an image and its file"),
        ("images.txt", "2 001.Albatross/Albatross_0001.jpg", "2", "line 2: got '2'; accepted: the number of an image"),
        ("images.txt", "2 001", "1 001", "line 2: got 1 again, as in line 1; accepted: each number once"),
        ("images.txt", "_0001.jpg", "_0000.jpg", "line 2: got '.*_0000.jpg' again, as in line 1; accepted: each file"),
        ("image_class_labels.txt", "2 1\n", "", "lacks image 2, which images.txt has; accepted: the same images"),
        ("image_class_labels.txt", "2 1\n", "99 1\n2 1\n", "line 2: got image 99; accepted: an image of images.txt"),
        ("image_class_labels.txt", "2 1\n", "2 4\n", "line 2: got class '4'; accepted: a class of classes.txt"),
        ("image_class_labels.txt", "2 1\n", "2 0\n", "line 2: got class '0'; accepted: a class of classes.txt"),
        ("image_class_labels.txt", "2 1\n", "2 1.5\n", "line 2: got class '1.5'; accepted: a class of classes.txt"),
        ("image_class_labels.txt", "2 1\n", "2 1\n2 2\n", "line 3: got 2 again, as in line 2"),
        ("train_test_split.txt", "2 1\n", "", "lacks image 2, which images.txt has"),
        ("train_test_split.txt", "2 1\n", "2 yes\n", r"line 2: got 'yes'; accepted: 1 \(training\) or 0 \(test\)"),
        (
            "train_test_split.txt",
            "6 0\n7 0\n",
            "6 1\n7 1\n",
            "no test image of class '001.Albatross'; accepted: at least",
        ),
        ("classes.txt", "3 003.Bunting", "3 003.Bunting\n4 004.Crow", "no training image of class '004.Crow'"),
        ("classes.txt", "2 002.Auklet", "1 002.Auklet", "line 2: got 1 again, as in line 1"),
    ],
)
def test_files_that_disagree_are_named_with_the_line(
    make_cub: MakeCub, name: str, old: str, new: str, message: str
) -> None:
    root = make_cub()
    path = root / "CUB_200_2011" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    place = path.with_name("train_test_split.txt") if message.startswith("no ") else path
    with pytest.raises(DataError, match=rf"^{place}(, |: ){message}"):
        list_cub200(str(root))


def test_a_listed_image_that_is_missing_is_named(make_cub: MakeCub) -> None:
    root = make_cub()
    path = root / "CUB_200_2011/images/002.Auklet/Auklet_0002.jpg"
    path.unlink()
    assert refusal(root) == f"{path}: missing, but images.txt, line 10, lists it; accepted: every listed image"


def test_a_text_file_that_is_none_is_named(make_cub: MakeCub) -> None:
    root = make_cub()
    (root / "CUB_200_2011/classes.txt").write_bytes(b"\xff\xfe\x00")
    assert refusal(root).startswith(f"{root}/CUB_200_2011/classes.txt: unreadable (")


def test_one_class_is_not_enough(make_cub: MakeCub) -> None:
    root = make_cub(["001.Albatross"])
    assert refusal(root).endswith("train_test_split.txt: got images of 1 classes; accepted: at least 2")


def test_what_other_programs_leave_is_no_matter(make_cub: MakeCub) -> None:
    root = make_cub()
    before = list_cub200(str(root))
    for place in ("@eaDir", "CUB_200_2011/@eaDir", "CUB_200_2011/images/001.Albatross/@eaDir/a.jpg", "__MACOSX"):
        (root / place).mkdir(parents=True)
    (root / "CUB_200_2011/images/Thumbs.db").touch()
    assert list_cub200(str(root)).train.paths == before.train.paths
