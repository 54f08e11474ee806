"""The options of the built-in trainer, as keys of a space file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tune_bn.data.config import DataConfig
from tune_bn.errors import ConfigError
from tune_bn.method.config import Gamma, ModelConfig, is_gamma
from tune_bn.options import Options
from tune_bn.space.sections import LARGEST_COUNT
from tune_bn.training.config import TrainConfig

OPTIONS: dict[type[Options], dict[str, Any]] = {
    owner: {item.name: item for item in fields(owner)} for owner in (ModelConfig, DataConfig, TrainConfig)
}
_TYPES = {owner: get_type_hints(owner) for owner in OPTIONS}
MODEL_KEYS = frozenset(OPTIONS[ModelConfig])
TRAIN_KEYS = frozenset(OPTIONS[TrainConfig])
RUN_KEYS = sorted(MODEL_KEYS | TRAIN_KEYS)
LAYER_KEYS = frozenset(("norm", "unit_gate", "plain_shortcuts", "freeze_gamma"))


def as_declared(owner: type[Options], key: str, value: Any) -> Any:
    """The value of an option in its declared type; 1 is a number with a point where one is declared.

    Raises:
        ConfigError: it is of another type.
    """
    accepted = OPTIONS[owner][key].metadata["accepted"]
    kind = _TYPES[owner][key]
    if kind == Gamma and isinstance(value, Mapping):
        # Of a γ by stage or depth each part is a number of its own.
        if not is_gamma(value):
            raise ConfigError(key, value, accepted)
        return {name: [float(part) for part in parts] for name, parts in value.items()}
    try:
        found = _strict(kind).validate_python(value)
    except ValidationError:
        raise ConfigError(key, value, accepted) from None
    if type(found) is int and abs(found) > LARGEST_COUNT:
        raise ConfigError(key, value, accepted)
    return found


@cache
def _strict(kind: Any) -> TypeAdapter[Any]:
    """Takes no word, true or false for a number, as what reads the sections does."""
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
