"""What one training run needs to know. Plain dataclasses: this module loads neither torch nor pydantic."""

from __future__ import annotations

from dataclasses import dataclass, field

from tune_bn.data.config import DataConfig
from tune_bn.errors import ConfigError
from tune_bn.method.config import ModelConfig
from tune_bn.options import Options, choice, option


@dataclass(frozen=True)
class TrainConfig(Options):
    """One run: optimizer, schedule and what belongs to them."""

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
    optimizer: str = choice(
        "sgd",
        "sgd",
        "adamw",
        doc="`sgd`, or `adamw`: Adam with decoupled weight decay, β₁ = `momentum`, β₂ = 0.999, ε = 1e-8; it wants "
        "another `lr` and `weight_decay`. γ learns at lr / c, without decay, with both",
        added=True,
    )
    momentum: float = option(
        0.9, doc="SGD momentum; β₁ of `adamw`", accepted="a number in [0, 1)", check=lambda v: 0 <= v < 1
    )
    nesterov: bool = option(False, doc="Nesterov's momentum, with `sgd`", accepted="true or false", added=True)
    weight_decay: float = option(
        1e-4,
        doc="weight decay of convolution and linear weights; BN parameters and biases get none, except with norm `rbn` "
        "and `iebn`",
        accepted="a number ≥ 0",
        check=lambda v: v >= 0,
    )
    schedule: str = choice(
        "cosine",
        "cosine",
        "constant",
        "one_cycle",
        "step",
        doc="learning-rate schedule per epoch; `cosine` ends at 1e-8; `one_cycle` rises from lr / 25 to lr over the "
        "first 30 % of the epochs and falls to lr / 250,000 (Smith & Topin, 2018, as torch has it; momentum stays); "
        "`step` takes a tenth after half of the epochs and again after three quarters",
    )
    warmup_epochs: int = option(
        0,
        doc="epochs before the schedule, which takes the others, over which the learning rate rises in a line from a "
        "hundredth",
        accepted="an integer ≥ 0, fewer than `epochs`; 0 with `one_cycle`, which has a warm-up of its own",
        check=lambda v: v >= 0,
        added=True,
    )
    label_smoothing: float = option(
        0.0,
        doc="share of each label that is spread over all classes, in the training loss alone",
        accepted="a number in [0, 1)",
        check=lambda v: 0 <= v < 1,
        added=True,
    )
    ema: float | None = option(
        None,
        doc="decay of an exponential moving average of weights and running statistics, taken after every step; it is "
        "what is validated and tested. null: the weights themselves are",
        accepted="null or a number in (0, 1), such as 0.99",
        check=lambda v: v is None or 0 < v < 1,
        added=True,
    )
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_epochs and (self.schedule == "one_cycle" or self.warmup_epochs >= self.epochs):
            accepted = f"an integer from 0 to {self.epochs - 1}, fewer than epochs"
            if self.schedule == "one_cycle":
                accepted = "0 with schedule: one_cycle, which has a warm-up of its own"
            raise ConfigError("warmup_epochs", self.warmup_epochs, accepted)
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ConfigError("nesterov", self.nesterov, "false, or optimizer: sgd with a momentum above 0")


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
