"""What other programs leave in a folder of images is no data, and what is data is never taken for it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import describe_data
from tune_bn.data.sources import leftovers
from tune_bn.data.sources.base import FileSet
from tune_bn.data.sources.folder import list_folder
from tune_bn.errors import DataError

RNG = np.random.default_rng(0)


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path, "PNG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of three training images and one test image each."""
    for split, count in (("train", 3), ("test", 1)):
        for name in ("ant", "cat"):
            for number in range(count):
                save(tmp_path / "data" / split / name / f"{number}.png")
    return tmp_path / "data"


def scan(root: Path) -> FileSet:
    found = list_folder(str(root))
    assert found.test is not None
    assert found.test.labels.tolist() == [0, 1]
    return found


def remarks(root: Path) -> str:
    return "\n".join(describe_data(DataConfig(source="folder", root=str(root))).remarks)


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "@EADIR", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", ".@__thumb", ".snapshot"),
        *(".dropbox.cache", ".sync", ".stversions", ".stfolder", ".tmp.driveupload", "~snapshot", ".zfs"),
        *("__MACOSX", ".Spotlight-V100", ".fseventsd", ".Trashes", ".TemporaryItems", ".AppleDouble", ":2eTrashes"),
        *("$RECYCLE.BIN", "System Volume Information", "found.000", "lost+found", ".Trash-1000", "Temporary Items"),
        *(".git", ".svn", ".ipynb_checkpoints", "__pycache__", ".thumbnails", ".picasaoriginals", "_vti_cnf", ".dvc"),
    ],
)
def test_folders_of_other_programs_hold_no_images(root: Path, name: str) -> None:
    """Beside the splits, beside the classes, in a class and below: wherever they lie, with images in them."""
    for place in (".", "train", "train/ant", "train/cat/deep", "test/cat"):
        save(root / place / name / "0.png" / "SYNOPHOTO_THUMB_S.jpg")
    save(root / "train/cat/deep/3.png")
    found = scan(root)
    assert found.classes == ("ant", "cat")
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert f"4 files in 4 folders ({name} 4)" in remarks(root)


@pytest.mark.parametrize(
    "name",
    [
        *(".DS_Store", "._0.png", "Icon\r", "Icon\uf00d", ":2eDS_Store", ".localized", ".apdisk"),
        *("Thumbs.db", "THUMBS.DB", "Thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
        *("0.png:Zone.Identifier", "0.png.lnk", "thumbcache_256.db", ".nomedia", ".picasa.ini", "Picasa.ini"),
        *("ZbThumbnail.info", "pspbrwse.jbf", "descript.ion", "0.xmp", "0.AAE", "0.THM", ".directory", ".gitkeep"),
        *(
            "3.png.crdownload",
            "3.png.part",
            "3.png.tmp",
            "3.png~",
            "~$3.png",
            "3.png.!sync",
            "3.png.bak",
            "3.png.swp",
            ".3.png.swp",
            "3.png@SynoEAStream",
            "3.png@SynoResource",
        ),
        *("0 (conflicted copy 2021-03-04 1122).png", "0 (Ann's conflicted copy 2019-01-02).png"),
        *("0.sync-conflict-20200101-120000-ABCDEFG.png", "0_conflict-20190102-112233.png", "._sync_1.db"),
        *("labels.txt", "0.xml", "0.json", "boxes.CSV", "README.md", "index.html", "licence.pdf"),
    ],
)
def test_files_of_other_programs_are_no_images(root: Path, name: str) -> None:
    """Whatever is in them: half an image, a second copy of one, or a text."""
    for place, content in (
        ("train/ant", (root / "train/ant/0.png").read_bytes()),
        ("test/cat", b"text"),
        ("train", b""),
    ):
        (root / place / name).write_bytes(content)
    assert len(scan(root).train.paths) == 6
    assert "3 files (" in remarks(root)


@pytest.mark.parametrize(
    "name",
    ["tmp", "temp", "thumbs", "thumbnails", "cache", "recycle", "recycled", "CVS", "trash", "dev", "val", "@home"],
)
def test_classes_may_be_called_anything_else(root: Path, name: str) -> None:
    for split in ("train", "test"):
        os.rename(root / split / "ant", root / split / name)
    found = list_folder(str(root))
    assert set(found.classes) == {name, "cat"}
    assert len(found.train.paths) == 6
    assert not found.passed


@pytest.mark.parametrize(
    "name", ["~1.png", "a~b.png", "#1.png", "@1.png", "1.part.png", "conflict.png", "copy of 1.png"]
)
def test_images_may_be_called_anything_else(root: Path, name: str) -> None:
    save(root / "train/ant" / name)
    assert str(root / "train/ant" / name) in scan(root).train.paths


@pytest.mark.parametrize("name", ["1.cr2", "1.nef", "film.mp4", "array.npy", "images.zip", "notes", "1.svg"])
def test_data_that_is_no_image_is_not_left_out_in_silence(root: Path, name: str) -> None:
    (root / "train/ant" / name).write_bytes(b"II*\x00 no image")
    (root / "test/cat" / name).write_bytes(b"II*\x00 no image")
    with pytest.raises(DataError, match=rf"^{root}/train/ant/{name}: .*; and 1 more: {root}/test/cat/{name}: "):
        scan(root)


def test_an_image_that_icloud_holds_back_is_named(root: Path) -> None:
    os.rename(root / "train/ant/0.png", root / "train/ant/.0.png.icloud")
    with pytest.raises(DataError, match=rf"^{root}/train/ant/.0.png.icloud: stands for an image that iCloud"):
        scan(root)


def test_a_pointer_of_git_lfs_and_an_empty_file_say_what_they_are(root: Path) -> None:
    (root / "train/ant/0.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")
    (root / "train/cat/1.png").write_bytes(b"")
    config = DataConfig(source="folder", root=str(root))
    with pytest.raises(
        DataError, match=r"ant/0.png: a pointer of Git LFS, .*; and 1 more: .*cat/1.png: an empty file$"
    ):
        describe_data(config)


def test_all_of_it_is_counted_in_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        save(root / f"train/ant/@eaDir/{number}.png/SYNOPHOTO_THUMB_M.jpg")
    save(root / "train/.cat/0.png")
    for number in range(9):
        (root / f"train/cat/.hidden{number}").touch()
    (root / "test/ant/Thumbs.db").touch()
    (root / "train/ant/0.txt").touch()
    (root / "train/ant/1.txt").touch()
    line = scan(root).passed.words()
    assert line.startswith("4 files in 2 folders (.cat 1, @eaDir 1) and 12 files (*.txt 2, .hidden0 1, .hidden1 1, ")
    assert line.endswith(" and 5 more names)")
    monkeypatch.setattr(leftovers, "_MOST_COUNTED", 2)
    assert scan(root).passed.words().startswith("more than ")


def test_what_an_unlisted_program_leaves_is_seen(root: Path) -> None:
    """A folder below a class that no list knows counts, and is said; so do images without an image's name."""
    save(root / "train/ant/previews/0.png")
    save(root / "train/ant/0.png.old")
    save(root / "holdout/ant/0.png")
    text = remarks(root)
    assert "1 of the images lie in folders below those of their classes: previews/ 1" in text
    assert "1 images are known by their content, not by their names: 0.png.old" in text
    assert "not read, since no split is called so: holdout/" in text


def test_a_class_of_leftovers_alone_is_no_empty_one(root: Path) -> None:
    for number in range(3):
        os.rename(root / f"train/ant/{number}.png", root / f"train/ant/{number}.png.part")
    with pytest.raises(DataError, match=rf"^{root}/train/ant: a class without an image \(3 other files\); accepted"):
        scan(root)


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_a_class_may_be_written_in_either_form_of_unicode(root: Path) -> None:
    """macOS unpacks an archive into other names than Linux."""
    os.rename(root / "train/cat", root / "train" / NFC)
    os.rename(root / "test/cat", root / "test" / NFD)
    found = scan(root)
    assert found.classes == ("ant", NFC)
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    save(root / "train" / NFD / "0.png")
    with pytest.raises(DataError, match=r"is called like 'caf.*' in another form of Unicode"):
        scan(root)


@pytest.mark.parametrize("name", ["Cat", "cat ", "CAT", " cat"])
def test_a_class_whose_name_is_nearly_right_is_pointed_at(root: Path, name: str) -> None:
    os.rename(root / "test/cat", root / "test" / name)
    with pytest.raises(DataError, match=rf"lacks the class 'cat' \(but '{name}'\), which train has"):
        list_folder(str(root))


@pytest.mark.parametrize(("link", "target"), [("loop", "."), ("up", ".."), ("top", "../..")])
def test_links_in_a_circle_end(root: Path, link: str, target: str) -> None:
    (root / "train/ant" / link).symlink_to(target)
    with pytest.raises(DataError, match=r"train/ant/.*: a link in a circle, back to .*; accepted"):
        scan(root)


def test_links_that_lead_to_each_other_end(root: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        (root / "elsewhere" / one).mkdir(parents=True)
        (root / "elsewhere" / one / "next").symlink_to(root / "elsewhere" / other)
    (root / "train/ant/more").symlink_to(root / "elsewhere/a")
    with pytest.raises(DataError, match="a link in a circle"):
        scan(root)


def test_what_is_neither_a_file_nor_a_folder_is_named(root: Path) -> None:
    (root / "train/ant/gone.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"ant/gone.png: a link that leads nowhere"):
        scan(root)
    (root / "train/ant/gone.png").unlink()
    (root / "train/ant/self.png").symlink_to("self.png")
    with pytest.raises(DataError, match=r"ant/self.png: "):
        scan(root)
    (root / "train/ant/self.png").unlink()
    # To open it would wait for ever.
    os.mkfifo(root / "train/ant/pipe.png")
    with pytest.raises(DataError, match=r"ant/pipe.png: neither a file nor a folder"):
        scan(root)


def test_two_splits_are_not_one_folder(root: Path) -> None:
    os.rename(root / "test", root / "kept")
    (root / "test").symlink_to("train")
    with pytest.raises(DataError, match=rf"^{root}/test: is the same folder as {root}/train; accepted"):
        list_folder(str(root))


@given(name=st.from_regex(leftovers._PLAIN, fullmatch=True))
def test_the_short_way_agrees_with_the_patterns(name: str) -> None:
    assert not leftovers._FILES.match(name)
