"""What one training run needs to know. Plain dataclasses: this module loads neither torch nor pydantic."""

from __future__ import annotations

from dataclasses import dataclass, field

from tune_bn.data.config import DataConfig
from tune_bn.errors import ConfigError
from tune_bn.method.config import ModelConfig
from tune_bn.options import Options, choice, option


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
    c_beta: float = option(
        1.0, doc="divisor of β's learning rate; the paper keeps it at 1", accepted="a number > 0", check=lambda v: v > 0
    )
    freeze_gamma: bool = option(False, doc="γ keeps its initial value; `c` is not used then", accepted="true or false")
    momentum: float = option(0.9, doc="SGD momentum", accepted="a number in [0, 1)", check=lambda v: 0 <= v < 1)
    weight_decay: float = option(
        1e-4,
        doc="weight decay of convolution and linear weights; BN parameters and biases get none, except with norm `rbn` "
        "and `iebn`",
        accepted="a number ≥ 0",
        check=lambda v: v >= 0,
    )
    schedule: str = choice("cosine", "cosine", "constant", doc="learning-rate schedule per epoch; cosine ends at 1e-8")
    precision: str = choice(
        "fp32",
        "fp32",
        "tf32",
        "bf16",
        doc="arithmetic of convolutions and matrix products; weights stay fp32. `tf32` rounds their inputs on a GPU "
        "(on a CPU it is fp32), `bf16` is autocast",
    )
    compile: bool = option(
        False,
        doc="fuse the training step with torch.compile: half a minute or more before the first step",
        accepted="true or false",
    )


@dataclass(frozen=True)
class RunConfig:
    """Everything that one configuration fixes; with a seed it determines a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.model.norm == "base" and self.train.c != 1:
            raise ConfigError("c", self.train.c, "1 with norm: base; norm: scaled takes others")
        for key in ("c_beta", "freeze_gamma"):
            if self.model.norm == "base" and getattr(self.train, key) != TrainConfig.__dataclass_fields__[key].default:
                value = getattr(self.train, key)
                raise ConfigError(key, value, "its default with norm: base; norm: scaled takes others")
