"""The normalization layers that a space may name. Loads no torch: a layer comes with the first network that has it."""

from __future__ import annotations

from dataclasses import dataclass

from tune_bn.host.extensions import Table

WEIGHTS, ALL = "weights", "all"


@dataclass(frozen=True)
class Norm:
    """One normalization layer: a row of :data:`NORMS`."""

    name: str
    doc: str
    """What it is, in a few words for the reference of the space file."""
    layer: str = ""
    """``package.module:Class`` of a :class:`tune_bn.method.gated.GatedBatchNorm2d`, which takes the place of every
    ``nn.BatchNorm2d``; empty: these stay."""
    followed: str = ""
    """The same for BN layers with submodules that follow them (timm's ``BatchNormAct2d``); empty: such are refused."""
    decay: str = WEIGHTS
    """Which parameters decay: ``weights`` (no BN parameters, no biases) or ``all``."""


_RBN, _IEBN = "tune_bn.method.rbn:RepresentativeBatchNorm2d", "tune_bn.method.iebn:InstanceEnhancementBatchNorm2d"
_FOLLOWED_RBN = "tune_bn.method.convert:FollowedRepresentativeBatchNorm2d"
_FOLLOWED_IEBN = "tune_bn.method.convert:FollowedInstanceEnhancementBatchNorm2d"

NORMS = Table(
    "tune_bn.norms",
    Norm,
    Norm("base", "plain batch norm (γ = 1, c = 1)"),
    Norm("scaled", "batch norm with `gamma` and `c`"),
    Norm(
        "rbn",
        "representative batch norm, every parameter decays, as its authors train it",
        _RBN,
        _FOLLOWED_RBN,
        decay=ALL,
    ),
    Norm(
        "rbn_star",
        "the same without decay of BN parameters and biases (our reading of the paper's star)",
        _RBN,
        _FOLLOWED_RBN,
    ),
    Norm(
        "iebn",
        "instance-enhancement batch norm, every parameter decays, as its authors train it",
        _IEBN,
        _FOLLOWED_IEBN,
        decay=ALL,
    ),
    Norm("iebn_star", "the same without decay of BN parameters and biases", _IEBN, _FOLLOWED_IEBN),
)
"""By name. Packages add rows by entry points of the group ``tune_bn.norms``."""
