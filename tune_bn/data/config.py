"""The options of a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tune_bn.data.registry import FUNCTION, SOURCES, is_source, source_of
from tune_bn.errors import ConfigError
from tune_bn.options import Options, choice, option


@dataclass(frozen=True)
class DataConfig(Options):
    """Where the images come from, how they are split, and how they are augmented."""

    source: str = option(
        "digits",
        doc="scikit-learn's 8×8 scans; CIFAR through torchvision; CUB-200-2011 and Stanford Cars as their authors "
        "publish them; a folder of images; arrays in a file `.npz`; images in Parquet files, as Hugging Face lays them "
        "out; a row that an installed package adds; or a function of your own that returns arrays",
        accepted=" | ".join([*SOURCES, FUNCTION]),
        check=is_source,
    )
    root: str | None = option(
        None,
        doc="folder of the data: for `folder` it holds train/<class>/… and test/<class>/…, and val/<class>/… where "
        "validation images are not to be drawn from train/; for `cub200` the unpacked "
        "CUB_200_2011, for `cars` the devkit and the images, or class folders; for `npz` the file; for `parquet` the "
        "folder of the files; for CIFAR the download (default: the user's cache folder); a function is called with it, "
        "or with nothing where it is null",
        accepted="null or a path",
    )
    train_size: int | None = option(
        None,
        doc="training images, a stratified subset; null: all that validation leaves",
        accepted="null or an integer ≥ 2",
        check=lambda v: v is None or v >= 2,
    )
    val_size: int | None = option(
        None,
        doc="validation images, a stratified subset of val/ where there is one, else of the training split; null: all "
        "of val/, else 10 % of the training split (digits: 600)",
        accepted="null or an integer ≥ 1",
        check=lambda v: v is None or v >= 1,
    )
    test_size: int | None = option(
        None,
        doc="test images, a stratified subset of the test split, or of the training split where `val_folder` says so; "
        "null: the whole test split, else 10 % of the training split (digits has no test split of its own: 897 scans)",
        accepted="null or an integer ≥ 1",
        check=lambda v: v is None or v >= 1,
    )
    val_folder: str | None = option(
        None,
        doc="what val/ is in class folders without test/: the `validation` split, and test images are drawn from "
        "train/ (`test_size`; null: 10 %), or the `test` split, and validation images are. Beside test/ it is the "
        "validation split, unless the key says `test`, and test/ is not read, or `unused`. It may be called valid/, "
        "validation/ or dev/ too",
        accepted="null | validation | test | unused",
        check=lambda v: v in (None, "validation", "test", "unused"),
        added=True,
    )
    split: str = choice(
        "fixed",
        "fixed",
        "per_seed",
        doc="how validation images are drawn from the training split: `fixed`: the same for every run; `per_seed`: "
        "anew for each run, by its seed, in every stage, so that all arms share the split of a seed and a verdict "
        "covers splits; the test images stay the same. Needs a source without a validation split of its own",
        added=True,
    )
    image_size: int | None = option(
        None,
        doc="side in pixels to which image files are resized when they are decoded; null: 256 for `cub200` and "
        "`cars` (our choice, the paper's is not known), else as they are, all of one size",
        accepted="null or an integer from 4 to 1024",
        check=lambda v: v is None or 4 <= v <= 1024,
    )
    resize: str = choice(
        "stretch",
        "stretch",
        "crop",
        doc="how image files become squares of `image_size`, bilinear and antialiased: `stretch` both sides, or resize "
        "the shorter side and `crop` the centre (the paper's rule for `cub200` and `cars` is not known)",
    )
    exif: str = choice(
        "ignore",
        "ignore",
        "apply",
        doc="the orientation that image files state in their EXIF data: `ignore` it, as torchvision does, and take the "
        "pixels as they are stored, or `apply` it. TIFF files are always upright",
        added=True,
    )
    crop_size: int | None = option(
        None,
        doc="side of a random crop while training and of the centre crop in evaluation; null: 224 for `cub200` and "
        "`cars` where image_size is null too (our choice), else the whole image",
        accepted="null or an integer from 4 to 1024, at most the side of the images",
        check=lambda v: v is None or 4 <= v <= 1024,
    )
    flip: bool = option(False, doc="random horizontal flips", accepted="true or false")
    crop_padding: int = option(
        0,
        doc="random crops after zero padding by so many pixels on each side; evaluation pads nothing",
        accepted="an integer ≥ 0",
        check=lambda v: v >= 0,
    )
    crop_scale: list[float] | None = option(
        None,
        doc="random resized crops while training: each takes a share of the image's area between these two, at an "
        "aspect ratio between 3/4 and 4/3, resized to the crop's size (bilinear, not antialiased); evaluation is as "
        "without; null: none",
        accepted="null, or [least, most] with 0 < least ≤ most ≤ 1, such as [0.08, 1.0]; null with crop_padding",
        check=lambda v: v is None or (len(v) == 2 and 0 < v[0] <= v[1] <= 1),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop_scale is not None and self.crop_padding:
            raise ConfigError("crop_scale", self.crop_scale, f"null with crop_padding: {self.crop_padding}")

    def resolved(self) -> DataConfig:
        """The same configuration with what null stands for where that depends on the source."""
        meant = {key: value for key, value in source_of(self.source).null_means.items() if getattr(self, key) is None}
        if self.image_size is not None:
            meant.pop("crop_size", None)
        return replace(self, **meant)

    def seen_shape(self, stored: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) as the network sees them of images that are stored as (C, H, W)."""
        side = self.resolved().crop_size
        return stored if side is None else (stored[0], side, side)
