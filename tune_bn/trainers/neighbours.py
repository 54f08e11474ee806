"""Configurations that differ from a baseline in some keys, as a space allows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tune_bn.errors import ConfigError
from tune_bn.protocols.distributions import Cases
from tune_bn.space.space import Space


def with_other_values(space: Space, config: Mapping[str, Any], keys: Sequence[str] | frozenset[str]) -> dict[str, Any]:
    """The configuration with each of these keys moved away from its value, as far as the space says whereto."""
    moved = dict(config)
    for name, distribution in space.distributions.items():
        if name in keys:
            if isinstance(distribution, Cases):
                continue
            moved[name] = next((value for value in distribution.corners if value != config.get(name)), None)
            if moved[name] is None:
                del moved[name]
    for arm in space.claim.arms.values():
        moved |= {key: value for key, value in arm.items() if key in keys and value != config.get(key)}
    return moved


def with_other_value(space: Space, base: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """The baseline with another value of one key; of a key that needs others beside it, the arm that states it.

    None: the space has no other value that is accepted.
    """
    names = [key, *(name for name in space.distributions if name.partition(".")[0] == key)]
    arms = [space.arm_config(name) for name, arm in space.claim.arms.items() if key in arm]
    for config in (with_other_values(space, base, names), *arms):
        if config != base and is_accepted(space, config):
            return config
    return None


def is_accepted(space: Space, config: Mapping[str, Any]) -> bool:
    """Whether a run can have it."""
    try:
        space.run_config(config)
    except ConfigError:
        return False
    return True
