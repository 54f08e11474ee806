"""Image files that cannot be used are all named, before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import describe_data, load_dataset, read_data
from tune_bn.data.decoding import BadImages, Decoder, check_readable
from tune_bn.errors import DataError

RNG = np.random.default_rng(0)


def picture(height: int = 16, width: int = 16) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of forty training images and ten test images each."""
    for split, count in (("train", 40), ("test", 10)):
        for name in ("ant", "cat"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                picture().save(tmp_path / "data" / split / name / f"{number:02}.png")
    return tmp_path / "data"


def config(root: Path, **keys: object) -> DataConfig:
    return DataConfig(source="folder", root=str(root), **keys)  # type: ignore[arg-type]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def deep(path: Path) -> None:
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(path)


def flipped(content: bytes) -> bytes:
    return content[:400] + bytes([content[400] ^ 1]) + content[401:]


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (truncated, "unreadable"),
    (lambda path: path.write_bytes(b""), "an empty file"),
    (lambda path: path.write_text("<html>404 not found</html>"), "not an image that Pillow can identify"),
    (lambda path: picture(17, 16).save(path), "16×17 pixels, but"),
    (deep, "more than 8 bits per channel"),
    (lambda path: path.write_bytes(path.read_bytes()[:60] + b"\x00" * 500), "unreadable"),
    (lambda path: path.write_bytes(flipped(path.read_bytes())), "unreadable"),
]


@pytest.mark.parametrize(("damage", "problem"), DAMAGES)
def test_a_later_file_is_named_in_one_line(root: Path, damage: Callable[[Path], object], problem: str) -> None:
    path = root / "train/cat/33.png"
    damage(path)
    with pytest.raises(DataError, match=rf"^{path}: {problem}.*; accepted: [^;]*$") as caught:
        read_data(config(root))
    assert "\n" not in str(caught.value)


def test_images_that_are_unusual_but_whole_are_read(root: Path) -> None:
    """Wrong endings, CMYK, palettes, transparency, grey, two colours, several frames."""
    odd = [picture() for _ in range(8)]
    odd[0].save(root / "train/cat/01.png", "JPEG")
    odd[1].convert("CMYK").save(root / "train/cat/02.png", "JPEG")
    odd[2].convert("P").save(root / "train/cat/03.png", "GIF")
    odd[3].save(root / "train/cat/04.png", "GIF", save_all=True, append_images=odd[4:])
    odd[4].convert("RGBA").save(root / "train/cat/05.png")
    odd[5].convert("LA").save(root / "train/cat/06.png")
    odd[6].convert("1").save(root / "train/cat/07.png")
    odd[7].convert("PA").convert("P").save(root / "train/cat/08.png", transparency=3)
    assert read_data(config(root))[0] == 100


def test_every_bad_file_of_every_split_is_counted(root: Path) -> None:
    bad = [
        root / "train/ant/05.png",
        *(root / f"train/cat/{number}.png" for number in range(20, 26)),
        root / "test/cat/09.png",
    ]
    for path in bad:
        truncated(path)
    with pytest.raises(BadImages) as caught:
        load_dataset(config(root, val_size=20))
    assert sorted(problem.partition(": ")[0] for problem in caught.value.problems) == sorted(map(str, bad))
    first, _, rest = str(caught.value).partition("; and ")
    assert first.endswith("; accepted: a whole image file")
    assert rest.startswith("7 more: ")
    assert rest.count("unreadable") == 4
    assert rest.endswith("; and 3 others")


def test_the_first_file_is_one_of_them(root: Path) -> None:
    """It sets the size of all others, which it cannot where it is damaged."""
    truncated(root / "train/cat/30.png")
    (root / "train/ant/00.png").write_bytes(b"")
    with pytest.raises(BadImages, match="and 1 more") as caught:
        load_dataset(config(root))
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        str(root / "train/ant/00.png"),
        str(root / "train/cat/30.png"),
    ]


def test_where_hardly_any_is_good_reading_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_bn.data.decoding._BLOCK_IMAGES", 1)
    monkeypatch.setattr("tune_bn.data.decoding._threads", lambda: 2)
    for number in range(400):
        picture(4, 4 + (number > 0)).save(tmp_path / f"{number:03}.png")
    files = sorted(map(str, tmp_path.iterdir()))
    with pytest.raises(BadImages, match=r"and 100 more so far, at which reading ended: ") as caught:
        Decoder(files[0], None).decode(files, lambda _: None)
    assert not caught.value.whole


def test_headers_and_names_are_all_looked_at(root: Path, tmp_path: Path) -> None:
    for number in (7, 9):
        picture(9, 9).save(root / f"test/ant/0{number}.png")
    with pytest.raises(BadImages, match=r"07.png: 9×9 pixels, but .*; and 1 more: .*09.png: 9×9 pixels$"):
        describe_data(config(root))
    texts = [tmp_path / name for name in "abc"]
    for path in texts:
        path.write_text("text")
    with pytest.raises(BadImages, match=rf"^{texts[0]}: not an image .*; and 2 more: {texts[1]}: .*; {texts[2]}: "):
        check_readable(list(map(str, texts)))


def test_reading_is_not_wasted(root: Path) -> None:
    """What it has decoded is what the search will ask for."""
    seen: list[tuple[int, int]] = []
    read_data(config(root), progress=lambda *numbers: seen.append(numbers))
    assert seen[-1] == (100, 100)
    seen.clear()
    load_dataset(config(root), progress=lambda *numbers: seen.append(numbers))
    assert not seen


def test_images_that_occur_twice_are_said(root: Path) -> None:
    assert read_data(config(root)) == (100, [])
    (root / "train/cat/07.png").write_bytes((root / "test/cat/03.png").read_bytes())
    # Stored otherwise, and in another class.
    Image.open(root / "test/cat/04.png").save(root / "train/ant/08.png", "BMP")
    for number in range(10, 14):
        (root / f"train/ant/{number}.png").write_bytes((root / f"train/ant/{number + 20}.png").read_bytes())
    _, lines = read_data(config(root, val_size=40))
    text = "\n".join(lines)
    (both,) = [line for line in lines if "in two classes" in line]
    assert both == f"1 image occurs in two classes: {root}/test/cat/04.png ('cat') is {root}/train/ant/08.png ('ant')"
    assert f"{root}/test/cat/03.png is {root}/train/cat/07.png" in text
    assert any("validation" in line.partition(":")[0] and "training" in line.partition(":")[0] for line in lines)


def test_arrays_are_compared_too() -> None:
    count, lines = read_data(DataConfig(train_size=100, val_size=100, test_size=100))
    assert (count, lines) == (300, [])
