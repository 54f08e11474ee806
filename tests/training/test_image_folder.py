"""Listing, checking and decoding of image files that are made here."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from tune_bn.errors import DataError
from tune_bn.training.image_folder import Decoder, scan

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


def decode(*paths: Path, image_size: int | None = None) -> np.ndarray:
    return Decoder(str(paths[0]), image_size).decode([str(path) for path in paths], lambda count: None)


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
    assert len(decode(*map(Path, found.train.paths))) == 4


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


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.bmp", {}), ("a.webp", {"lossless": True}), ("a.tif", {}), ("a.PNG", {})]
)
def test_lossless_formats_decode_to_the_same_pixels(tmp_path: Path, name: str, options: dict[str, bool]) -> None:
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / name, **options)
    decoded = decode(tmp_path / name)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded[0], pixels.transpose(2, 0, 1))


def test_jpeg_decodes_near_its_pixels(tmp_path: Path) -> None:
    pixels = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(decode(tmp_path / "a.jpg")[0].astype(int) - pixels.transpose(2, 0, 1)).max() <= 3


def test_a_misnamed_image_decodes(tmp_path: Path) -> None:
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(decode(tmp_path / "a.jpg")[0], pixels.transpose(2, 0, 1))


def test_grey_palette_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = picture()[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 7)])).save(tmp_path / "rgba.png")
    palette = Image.fromarray(grey).convert("P")
    palette.save(tmp_path / "palette.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = decode(tmp_path / "grey.png", tmp_path / "rgba.png", tmp_path / "palette.png")
    assert decoded.shape == (3, 3, 8, 9)
    for image in decoded:
        np.testing.assert_array_equal(image, np.stack([grey] * 3))


def test_the_first_frame_counts(tmp_path: Path) -> None:
    first, second = picture(), picture()
    frames = [Image.fromarray(first), Image.fromarray(second)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(decode(tmp_path / "a.webp")[0], first.transpose(2, 0, 1))


def test_many_files_keep_their_order(tmp_path: Path) -> None:
    pixels = [picture(4, 4) for _ in range(150)]
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    steps: list[int] = []
    paths = [str(tmp_path / f"{number}.png") for number in range(150)]
    decoded = Decoder(paths[0], None).decode(paths, steps.append)
    np.testing.assert_array_equal(decoded, np.stack(pixels).transpose(0, 3, 1, 2))
    assert sum(steps) == 150


def test_image_size_makes_squares_of_any_size(tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 20, 3), (10, 20, 30), np.uint8)).save(tmp_path / "wide.png")
    Image.fromarray(np.full((30, 7, 3), (40, 50, 60), np.uint8)).save(tmp_path / "tall.png")
    decoded = decode(tmp_path / "wide.png", tmp_path / "tall.png", image_size=8)
    assert decoded.shape == (2, 3, 8, 8)
    assert [decoded[i, :, 4, 4].tolist() for i in (0, 1)] == [[10, 20, 30], [40, 50, 60]]


def test_resizing_down_averages_rather_than_skips(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    assert np.abs(decode(tmp_path / "board.png", image_size=8).astype(int) - 127).max() < 40


def test_mixed_sizes_name_both_files_and_the_way_out(tmp_path: Path) -> None:
    Image.fromarray(picture(8, 9)).save(tmp_path / "a.png")
    Image.fromarray(picture(8, 10)).save(tmp_path / "b.png")
    message = rf"{tmp_path}/b.png: 10×8 pixels, but {tmp_path}/a.png has 9×8; .*data.image_size"
    with pytest.raises(DataError, match=message):
        decode(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(DataError, match=message):
        Decoder(str(tmp_path / "a.png"), None).check_headers([str(tmp_path / "b.png")])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp"])
def test_a_truncated_image_is_named_whatever_pillow_was_told(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = tmp_path / name
    Image.fromarray(picture(40, 40)).save(path)
    whole = path.read_bytes()
    Image.fromarray(picture(40, 40)).save(tmp_path / f"first-{name}")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"^{path}: .*accepted: "):
        decode(tmp_path / f"first-{name}", path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\x89PNG\r\n\x1a\n" + b"\x00" * 30])
def test_bytes_that_are_no_image_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"^{tmp_path}/a.png: "):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("limit", [71, 30])
def test_a_decompression_bomb_is_refused(tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow only warns up to twice its limit (71 < 72 pixels), and raises beyond it.
    Image.fromarray(picture(8, 9)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=f"a.png: too large; accepted: up to {limit} pixels"):
        decode(tmp_path / "a.png")


def test_more_than_eight_bits_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep.png: more than 8 bits per channel \(mode I;16\)"):
        decode(tmp_path / "deep.png")
