"""SGD with the method's parameter groups, and its learning rates over the epochs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tune_bn.method.groups import freeze_gamma, group_rates, plain_groups
from tune_bn.method.norms import NORMS
from tune_bn.training.config import RunConfig, TrainConfig

COSINE_END = 1e-8


def make_optimizer(model: nn.Module, config: RunConfig, *, fused: bool = False) -> torch.optim.SGD:
    """SGD with the method's parameter groups: momentum without Nesterov.

    Every parameter decays with ``norm`` ``rbn`` and ``iebn``, as their authors train them. With ``freeze_gamma`` the
    model's γ's require no gradient from here on.

    Args:
        model: the network, on its device.
        config: the configuration.
        fused: one kernel updates all parameters of a group, and the learning rates are tensors on the device, float32
            of shape (), which :func:`set_rates` overwrites. On a CPU this rounds otherwise and is hardly faster.
    """
    train = config.train
    if train.freeze_gamma:
        freeze_gamma(model)
    groups = plain_groups(
        model,
        lr=train.lr,
        c=train.c,
        weight_decay=train.weight_decay,
        c_beta=train.c_beta,
        decay=NORMS[config.model.norm].decay,
    )
    for group in groups if fused else ():
        group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=group["params"][0].device)
    return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum, fused=fused or None)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """Learning rate per epoch: cosine from each group's own rate to 1e-8, or constant."""
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs, eta_min=COSINE_END)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)


def learning_rates(config: TrainConfig, names: Sequence[str]) -> list[list[float]]:
    """The learning rates of each epoch, by torch's own scheduler.

    Args:
        config: rates, divisors, schedule and epochs.
        names: the parameter groups, as in :func:`tune_bn.method.groups.parameter_groups`.

    Returns:
        A list per epoch with a rate for each name.
    """
    rates = group_rates(config.lr, config.c, config.c_beta)
    # The scheduler wants an optimizer; this one has nothing to update.
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": rates[name]} for name in names])
    schedule = make_schedule(optimizer, config)
    table = []
    for _ in range(config.epochs):
        table.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return table


def set_rates(optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> None:
    """Let each parameter group learn at its rate from here on, without waiting for the device."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def allocate_momenta(optimizer: torch.optim.SGD) -> list[Tensor]:
    """Give every parameter that learns a momentum buffer of zeros, in the order of the groups.

    SGD makes a copy of the first gradient instead, which is the same number; but a step that is captured needs the
    buffers where they will stay. Without momentum there are none.
    """
    momenta = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if group["momentum"] != 0 and parameter.requires_grad:
                optimizer.state[parameter]["momentum_buffer"] = buffer = torch.zeros_like(parameter)
                momenta.append(buffer)
    return momenta
