"""The stages of a network: which BN layers share a γ where γ is given per stage."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

_NUMBERED = re.compile(r"(.*?)(\d+)[a-z]?")
_POOLING = _MaxPoolNd | _AvgPoolNd | _AdaptiveMaxPoolNd | _AdaptiveAvgPoolNd


def batchnorm_stages(model: nn.Module, names: Iterable[str]) -> dict[str, list[str]]:
    """The stages of a network with their BN layers, told by the names of its modules.

    A stage is one of a series of numbered groups of layers, the outermost such series: ``layer1`` … ``layer4`` of
    torchvision's ResNets, ``stages.0`` … ``stages.2``, ``features.denseblock1`` …, ``trunk_output.block1`` …;
    ``inception3a`` and ``inception3b`` together are one. In a network that is a list of blocks, each of them is a stage
    (``features.0`` …). Of several series, that with most BN layers counts; a series that holds fewer than another
    module beside it gives way to what that module holds. A plain list of layers (VGG) is cut at its pooling layers.

    A BN before the first stage belongs to it; one behind a stage belongs to that stage. Order is that of
    ``named_modules``.

    Args:
        model: any network.
        names: its BN layers, as in ``named_modules`` and in that order.

    Returns:
        Name of each stage → names of its BN layers, in order; empty for a network without stages.
    """
    names = list(names)
    owners = _owners(model, "", names)
    stages: dict[str, list[str]] = {stage: [] for stage in dict.fromkeys(owners.values())}
    if len(stages) < 2:
        return {}
    current = next(iter(stages))
    for name in names:
        current = next((owners[part] for part in _prefixes(name) if part in owners), current)
        stages[current].append(name)
    return stages


def _prefixes(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _owners(module: nn.Module, prefix: str, names: list[str]) -> dict[str, str]:
    """Path of each member of the stages at or below ``module`` → name of its stage, in the order of the stages."""
    below: dict[str, int] = {}
    series: dict[str, dict[int, list[str]]] = {}
    for child, layer in module.named_children():
        below[child] = sum(name.startswith(f"{prefix}{child}.") for name in names)
        numbered = _NUMBERED.fullmatch(child)
        if numbered and below[child] and not isinstance(layer, _BatchNorm):
            series.setdefault(numbered[1], {}).setdefault(int(numbered[2]), []).append(child)
    held = {
        word: sum(below[child] for group in groups.values() for child in group)
        for word, groups in series.items()
        if len(groups) > 1
    }
    flat = sum(isinstance(child, _BatchNorm) for child in module.children()) if isinstance(module, nn.Sequential) else 0
    word = max(held, key=held.__getitem__, default="")
    fullest = max(below, key=below.__getitem__, default="")
    if held and held[word] >= max(flat, below[fullest]):
        return {prefix + child: f"{prefix}{word}{n}" for n, group in sorted(series[word].items()) for child in group}
    if flat and flat >= below[fullest]:
        return _between_poolings(module, prefix)
    if not below.get(fullest):
        return {}
    return _owners(module.get_submodule(fullest), f"{prefix}{fullest}.", names)


def _between_poolings(module: nn.Module, prefix: str) -> dict[str, str]:
    groups: list[list[str]] = [[]]
    for child, layer in module.named_children():
        if isinstance(layer, _POOLING):
            groups.append([])
        elif isinstance(layer, _BatchNorm):
            groups[-1].append(child)
    return {
        prefix + child: f"{prefix}{group[0]}" if len(group) == 1 else f"{prefix}{group[0]}-{group[-1]}"
        for group in groups
        for child in group
    }
