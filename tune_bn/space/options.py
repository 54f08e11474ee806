"""The options of the built-in trainer, as keys of a space file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tune_bn.data.config import DataConfig
from tune_bn.errors import ConfigError
from tune_bn.method.config import ModelConfig, is_gamma
from tune_bn.options import Options
from tune_bn.space.sections import LARGEST_COUNT
from tune_bn.training.config import TrainConfig

OPTIONS: dict[type[Options], dict[str, Any]] = {
    owner: {item.name: item for item in fields(owner)} for owner in (ModelConfig, DataConfig, TrainConfig)
}
MODEL_KEYS = frozenset(OPTIONS[ModelConfig])
TRAIN_KEYS = frozenset(OPTIONS[TrainConfig])
RUN_KEYS = sorted(MODEL_KEYS | TRAIN_KEYS)
LAYER_KEYS = frozenset(("norm", "unit_gate", "plain_shortcuts", "freeze_gamma"))


def as_declared(owner: type[Options], key: str, value: Any) -> Any:
    """The value of an option in its declared type; 1 is a number with a point where one is declared.

    Raises:
        ConfigError: it is of another type.
    """
    item = OPTIONS[owner][key]
    kind, _, optional = str(item.type).partition(" | ")
    if value is None and optional:
        return None
    if kind == "Gamma" and isinstance(value, Mapping):
        if not is_gamma(value):
            raise ConfigError(key, value, item.metadata["accepted"])
        return {name: [float(part) for part in parts] for name, parts in value.items()}
    if kind in ("float", "Gamma") and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if kind == "list[float]" and isinstance(value, list) and all(type(part) in (int, float) for part in value):
        return [float(part) for part in value]
    if kind == "int" and type(value) is int and abs(value) <= LARGEST_COUNT:
        return value
    if kind in ("str", "bool") and type(value).__name__ == kind:
        return value
    raise ConfigError(key, value, item.metadata["accepted"])
