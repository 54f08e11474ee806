"""What one training run needs to know. Plain dataclasses: this module loads neither torch nor pydantic."""

from __future__ import annotations

from dataclasses import dataclass, field

from tune_bn.config import Options, choice, option
from tune_bn.method.config import ModelConfig


@dataclass(frozen=True)
class DataConfig(Options):
    """Where the images come from, how they are split, and how they are augmented."""

    source: str = choice(
        "digits",
        "digits",
        "cifar10",
        "folder",
        doc="scikit-learn's 8×8 scans, CIFAR-10 through torchvision, or a folder",
    )
    root: str | None = option(
        None,
        doc="folder of the data: for `folder` it holds train/<class>/… and test/<class>/…; for `cifar10` the download "
        "(default: the user's cache folder)",
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
        doc="validation images, a stratified part of the training split; null: 10 % of it (digits: 600)",
        accepted="null or an integer ≥ 1",
        check=lambda v: v is None or v >= 1,
    )
    test_size: int | None = option(
        None,
        doc="test images, a stratified subset; null: the whole test split (digits has none of its own: 897 scans)",
        accepted="null or an integer ≥ 1",
        check=lambda v: v is None or v >= 1,
    )
    image_size: int | None = option(
        None,
        doc="side in pixels to which `folder` images are resized; null: as they are, all of one size",
        accepted="null or an integer from 4 to 1024",
        check=lambda v: v is None or 4 <= v <= 1024,
    )
    flip: bool = option(False, doc="random horizontal flips", accepted="true or false")
    crop_padding: int = option(
        0, doc="random crops after zero padding by so many pixels", accepted="an integer ≥ 0", check=lambda v: v >= 0
    )


@dataclass(frozen=True)
class TrainConfig(Options):
    """One run of SGD."""

    epochs: int = option(180, doc="passes over the training images", accepted="an integer ≥ 1", check=lambda v: v >= 1)
    batch_size: int = option(
        128, doc="images per step; a short last batch is kept", accepted="an integer ≥ 2", check=lambda v: v >= 2
    )
    lr: float = option(0.1, doc="learning rate α of weights and β", accepted="a number > 0", check=lambda v: v > 0)
    c: float = option(
        1.0, doc="divisor of γ's learning rate: γ learns at lr / c", accepted="a number > 0", check=lambda v: v > 0
    )
    momentum: float = option(0.9, doc="SGD momentum", accepted="a number in [0, 1)", check=lambda v: 0 <= v < 1)
    weight_decay: float = option(
        1e-4,
        doc="weight decay of convolution and linear weights; BN parameters and biases get none",
        accepted="a number ≥ 0",
        check=lambda v: v >= 0,
    )
    schedule: str = choice("cosine", "cosine", "constant", doc="learning-rate schedule per epoch; cosine ends at 1e-8")
    precision: str = choice("fp32", "fp32", "bf16", doc="`bf16` is autocast; weights stay fp32")


@dataclass(frozen=True)
class RunConfig:
    """Everything that one configuration fixes; with a seed it determines a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
