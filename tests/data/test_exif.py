"""EXIF orientation: what a camera says of how it was held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune_bn.data.cache import Entry
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import describe_data, load_dataset
from tune_bn.data.decoding import Decoder
from tune_bn.errors import DataError

UPRIGHT = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3) * 40
"""Two rows of three pixels, every one different."""

STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}
"""How a camera stores that image under each orientation (EXIF 2.32, tag 274); 6 is seen turned clockwise by 90°."""


def save(path: Path, pixels: np.ndarray, orientation: object, format: str = "PNG") -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"lossless": True} if format == "WEBP" else {}
    Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB").save(path, format, exif=exif, **options)


def decode(path: Path, exif: str, **options: object) -> np.ndarray:
    blocks: list[np.ndarray] = []
    decoder = Decoder(str(path), options.pop("image_size", None), exif=exif, **options)  # type: ignore[arg-type]
    decoder.decode([str(path)], blocks.append)
    return blocks[0][0, 0]


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_ignored_or_applied(tmp_path: Path, format: str, orientation: int) -> None:
    path = tmp_path / f"a.{format.lower()}"
    save(path, STORED[orientation], orientation, format)
    np.testing.assert_array_equal(decode(path, "ignore"), STORED[orientation])
    np.testing.assert_array_equal(decode(path, "apply"), UPRIGHT)
    assert Decoder(str(path), None, exif="apply").shape == (3, 2, 3)
    assert Decoder(str(path), None).shape == (3, *STORED[orientation].shape)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_of_a_camera_is_turned(tmp_path: Path, orientation: int) -> None:
    """Of flat halves, since the format is lossy; resized afterwards, so that a crop takes the middle as it is seen."""
    pixels = np.zeros((32, 64), np.uint8)
    pixels[:, 32:] = 200
    stored = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.T}
    stored |= {6: np.rot90(pixels, 1), 7: pixels[::-1, ::-1].T, 8: np.rot90(pixels, -1)}
    save(tmp_path / "a.jpg", stored[orientation], orientation, "JPEG")
    found = decode(tmp_path / "a.jpg", "apply", image_size=16)
    assert found[:, :7].max() < 20
    assert found[:, 9:].min() > 180


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_none(tmp_path: Path, orientation: int) -> None:
    save(tmp_path / "a.png", UPRIGHT, orientation)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", "apply"), UPRIGHT)


def test_damaged_metadata_is_no_reason_to_refuse_an_image(tmp_path: Path) -> None:
    Image.fromarray(UPRIGHT).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00no TIFF header")
    assert decode(tmp_path / "a.jpg", "apply").shape == (2, 3)


@pytest.mark.parametrize("exif", ["ignore", "apply"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_tiff_is_upright_in_any_case(tmp_path: Path, exif: str, orientation: int) -> None:
    """Pillow turns it itself; a second turn would be one too many."""
    save(tmp_path / "a.tif", STORED[orientation], orientation, "TIFF")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif", exif), UPRIGHT)


def test_sizes_are_compared_as_the_images_are_seen(tmp_path: Path) -> None:
    save(tmp_path / "a.png", UPRIGHT, 1)
    save(tmp_path / "b.png", STORED[6], 6)
    files = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert Decoder(files[0], None, exif="apply").check_headers(files) == 1
    with pytest.raises(DataError, match=r"b.png: 2×3 pixels, but .*a.png has 3×2"):
        Decoder(files[0], None).check_headers(files)


def test_the_cache_tells_the_two_apart(tmp_path: Path) -> None:
    save(tmp_path / "a.png", UPRIGHT, 3)
    paths = [str(tmp_path / "a.png")]
    keys = {Entry(tmp_path, paths, Decoder(paths[0], None, exif=exif)).key for exif in ("ignore", "apply")}
    assert len(keys) == 2


def test_turned_images_are_counted_at_the_door(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split in ("train", "test"):
        for name in ("ant", "cat"):
            for number in range(3):
                save(root / split / name / f"{number}.jpg", np.full((4, 4), 40 * number, np.uint8), 1 + number, "JPEG")
    config = DataConfig(source="folder", root=str(root))
    (remark,) = describe_data(config).remarks
    assert remark == (
        "8 of the 12 image files opened state an EXIF orientation other than upright; they are used as they are stored "
        "(data.exif: apply turns them)"
    )
    (remark,) = describe_data(DataConfig(source="folder", root=str(root), exif="apply")).remarks
    assert remark.endswith("; they are turned (data.exif)")


def test_both_ways_are_kept_side_by_side(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split in ("train", "test"):
        for name in ("ant", "cat"):
            for number in range(2):
                save(root / split / name / f"{number}.png", UPRIGHT + number, 3)
    for exif, pixels in (("ignore", UPRIGHT), ("apply", UPRIGHT[::-1, ::-1]), ("ignore", UPRIGHT)):
        data = load_dataset(DataConfig(source="folder", root=str(root), exif=exif))
        np.testing.assert_array_equal(data.train.images[0, 0] - data.train.images.min(), pixels)


def test_arrays_have_no_orientation() -> None:
    with pytest.raises(DataError, match=r"data.exif: got 'apply'; accepted: ignore for the source digits"):
        describe_data(DataConfig(exif="apply"))
