"""A small network under the method's parameter groups, and the error of a lost c."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tune_bn.method.groups import parameter_groups

LR, C = 0.1, 100.0
WRONG = (
    r"lr of γ: got .* beside an lr of .*; accepted: .* lr / c with c = 100 as parameter_groups was asked.*keep_rates"
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def optimizer_of(model: nn.Module | None = None, *, c: float = C, lr: Any = LR, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(parameter_groups(model or network(), lr=lr, c=c), momentum=0.9, **options)


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    return {group["name"]: float(group["lr"]) for group in optimizer.param_groups}


def step(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
