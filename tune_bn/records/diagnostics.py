"""``diagnostics/*.json``: what the BN layers of a network look like inside. No verdict depends on these files.

Only the standard library is needed to read them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tune_bn.errors import RecordError
from tune_bn.records.files import read_bytes
from tune_bn.records.reading import Refused, from_json

SCHEMA_VERSION = 1

Number = float | None
"""None where the value is not finite, or does not exist."""


@dataclass(frozen=True)
class Values:
    """γ or β of one layer, over its channels."""

    initial: Number
    """Mean of the initial values; None where they are not known."""
    mean: Number
    std: Number
    """Population standard deviation."""
    low: Number
    high: Number
    drift: Number
    """Mean distance from the initial value, mean |γ − γ₀|."""
    relative_drift: Number
    """``drift`` divided by mean |γ₀|; None where that is 0."""


@dataclass(frozen=True)
class Tails:
    """How far the values of a layer reach, over images, channels and pixels.

    The unit is the σ of the normalized values, on both sides of the affine.
    """

    beyond_3: Number
    """Share of |value| > 3, in [0, 1]."""
    beyond_6: Number
    """Share of |value| > 6, in [0, 1]."""
    largest: Number
    """Largest |value|."""


@dataclass(frozen=True)
class Gradient:
    """``‖∂L/∂x‖`` of a layer's input at the first step, from the same initial weights."""

    unit: Number
    """With γ = 1."""
    own: Number
    """With the γ that was asked for."""
    ratio: Number
    """``own / unit``."""


@dataclass(frozen=True)
class Layer:
    """One BN layer."""

    name: str
    kind: str
    """Name of the layer's class."""
    channels: int
    gamma: Values
    beta: Values | None
    normalized: Tails | None
    """x̂, before the affine; None for a layer that was not used."""
    output: Tails | None
    """y, after the affine, before the activation function."""
    gradient: Gradient | None


@dataclass(frozen=True)
class Diagnostics:
    """The BN layers of one network, in the order in which an image passes them."""

    seed: int
    run: str | None = None
    """Key of the run's record; None where nothing was recorded."""
    arm: str | None = None
    """The arm that this run stands for."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """As in :class:`tune_bn.records.record.Record`."""
    epoch: int | None = 0
    """Epochs that the weights were trained: γ, β and activations are those after the last; None: it is not known."""
    images: int = 0
    """Training images behind the activations, without augmentation."""
    gradient_images: int = 0
    """Training images behind the gradients."""
    layers: tuple[Layer, ...] = ()
    problem: str | None = None
    """Why there are no layers; None where there are."""
    schema_version: int = SCHEMA_VERSION


def finite(value: float) -> Number:
    """``value``, or None where JSON could not hold it."""
    return value if math.isfinite(value) else None


def to_json(diagnostics: Diagnostics) -> dict[str, Any]:
    """As plain values, as they stand in the file."""
    return asdict(diagnostics)


def read_diagnostics(path: Path) -> Diagnostics:
    """Read one file.

    Raises:
        RecordError: it is missing, or not what :func:`to_json` gave.
    """
    try:
        content = json.loads(read_bytes(path))
        version = content.get("schema_version") if type(content) is dict else None
        if type(version) is not int or version != SCHEMA_VERSION:
            raise Refused("schema_version", version, str(SCHEMA_VERSION))
        return from_json(Diagnostics, content)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); accepted: a file of diagnostics") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: no diagnostics ({error}); accepted: the file as it was written") from None
