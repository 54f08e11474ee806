"""Decoding of image files that are made here."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from tune_bn.data import decoding
from tune_bn.data.decoding import Decoder
from tune_bn.errors import DataError

RNG = np.random.default_rng(0)


def picture(height: int = 8, width: int = 9) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def decode(*paths: Path, image_size: int | None = None, resize: str = "stretch") -> np.ndarray:
    blocks: list[np.ndarray] = []
    Decoder(str(paths[0]), image_size, resize).decode([str(path) for path in paths], blocks.append)
    return np.concatenate(blocks)


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
    decoded = decode(*(tmp_path / f"{number}.png" for number in range(150)))
    np.testing.assert_array_equal(decoded, np.stack(pixels).transpose(0, 3, 1, 2))


def test_what_is_decoded_ahead_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images there are: a taker that is slower than the decoders must not fill the memory."""
    Image.fromarray(picture(4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "_threads", lambda: 2)
    monkeypatch.setattr(decoding, "_BLOCK_IMAGES", 1)
    begun, taken, ahead = itertools.count(1), 0, []
    decode_block = Decoder._decode_block
    last = 0

    def counting(self: Decoder, paths: Sequence[str]) -> np.ndarray:
        nonlocal last
        last = next(begun)
        return decode_block(self, paths)

    def take(block: np.ndarray) -> None:
        nonlocal taken
        taken += len(block)
        ahead.append(last - taken)

    monkeypatch.setattr(Decoder, "_decode_block", counting)
    Decoder(str(tmp_path / "a.png"), None).decode([str(tmp_path / "a.png")] * 50, take)
    assert taken == 50
    assert max(ahead) <= 4


def test_image_size_makes_squares_of_any_size(tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 20, 3), (10, 20, 30), np.uint8)).save(tmp_path / "wide.png")
    Image.fromarray(np.full((30, 7, 3), (40, 50, 60), np.uint8)).save(tmp_path / "tall.png")
    decoded = decode(tmp_path / "wide.png", tmp_path / "tall.png", image_size=8)
    assert decoded.shape == (2, 3, 8, 8)
    assert [decoded[i, :, 4, 4].tolist() for i in (0, 1)] == [[10, 20, 30], [40, 50, 60]]


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (20, 20)])
def test_crop_keeps_the_proportions_of_the_middle(tmp_path: Path, width: int, height: int) -> None:
    """A square of 20 in the middle, with a border of another colour beyond it."""
    pixels = np.full((height, width, 3), (250, 0, 0), np.uint8)
    top, left = (height - 20) // 2, (width - 20) // 2
    pixels[top : top + 20, left : left + 20] = np.indices((20, 20)).sum(0)[..., None] * 5
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cropped = decode(tmp_path / "a.png", image_size=20, resize="crop")[0]
    np.testing.assert_array_equal(cropped, pixels[top : top + 20, left : left + 20].transpose(2, 0, 1))
    stretched = decode(tmp_path / "a.png", image_size=20)[0]
    assert (stretched[0] > 200).any() == (width != height)


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
