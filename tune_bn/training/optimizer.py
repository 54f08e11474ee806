"""SGD and AdamW with the method's parameter groups, and their learning rates over the epochs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from tune_bn.method.groups import freeze_gamma, group_rates, plain_groups
from tune_bn.method.norms import NORMS
from tune_bn.training.config import RunConfig, TrainConfig

COSINE_END = 1e-8
ADAM_BETA_2 = 0.999
WARMUP_START = 0.01
"""Of the rate, in the first epoch of a warm-up; as torchvision's own recipes have it."""
ONE_CYCLE = 4
"""The fewest epochs of which a cycle can be made; a shorter run has the first of these."""


def make_optimizer(model: nn.Module, config: RunConfig, *, fused: bool = False) -> torch.optim.Optimizer:
    """SGD or AdamW with the method's parameter groups.

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
    if train.optimizer == "adamw":
        on_gpu = groups[0]["params"][0].device.type == "cuda"
        return _kind(torch.optim.AdamW, config)(
            groups,
            lr=train.lr,
            betas=(train.momentum, ADAM_BETA_2),
            # What counts the steps lies on the device, so that a captured step counts too.
            capturable=fused and on_gpu,
            fused=fused or None,
        )
    return _kind(torch.optim.SGD, config)(
        groups, lr=train.lr, momentum=train.momentum, nesterov=train.nesterov, fused=fused or None
    )


@cache
def _uncompiled(kind: Any) -> Any:
    """An optimizer of torch that does not load torch's compiler, a second of a core, to tell it to leave it alone.

    What its methods do is torch's own, taken out of the wrappers that speak to the compiler.
    """
    step = inspect.unwrap(kind.step)

    def plain_step(self: torch.optim.Optimizer, closure: Callable[[], float] | None = None) -> float | None:
        with torch.no_grad():
            loss: float | None = step(self, closure)
        return loss

    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    own = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**own, "step": plain_step})


def _kind(kind: Callable[..., torch.optim.Optimizer], config: RunConfig) -> Callable[..., torch.optim.Optimizer]:
    own: Callable[..., torch.optim.Optimizer] = kind if config.train.compile else _uncompiled(kind)
    return own


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """Learning rate per epoch after the warm-up, from each group's own rate on; see ``schedule`` of
    :class:`tune_bn.training.config.TrainConfig`."""
    epochs = config.epochs - config.warmup_epochs
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=COSINE_END)
    if config.schedule == "one_cycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        # A cycle needs a place to rise from, to rise to and to fall to.
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=rates, total_steps=max(epochs, ONE_CYCLE), cycle_momentum=False
        )
    if config.schedule == "step":
        parts = [-(-epochs * quarters // 4) for quarters in (2, 3)]
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=parts, gamma=0.1)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)


def learning_rates(config: TrainConfig, names: Sequence[str]) -> list[list[float]]:
    """The learning rates of each epoch: the warm-up's, then those of torch's own scheduler.

    Args:
        config: rates, divisors, schedule and epochs.
        names: the parameter groups, as in :func:`tune_bn.method.groups.parameter_groups`.

    Returns:
        A list per epoch with a rate for each name.
    """
    rates = group_rates(config.lr, config.c, config.c_beta)
    # The scheduler wants an optimizer; this one has nothing to update.
    optimizer: torch.optim.Optimizer = _uncompiled(torch.optim.SGD)(
        [{"params": [torch.zeros(1)], "lr": rates[name]} for name in names]
    )
    schedule = make_schedule(optimizer, config)
    table = []
    for epoch in range(config.warmup_epochs):
        part = WARMUP_START + (1 - WARMUP_START) * epoch / config.warmup_epochs
        table.append([rates[name] * part for name in names])
    for _ in range(config.epochs - config.warmup_epochs):
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


def allocate_state(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Give every parameter that learns its state as of before the first step, zeros, in the order of the groups.

    Of SGD that is a momentum buffer (without momentum there are none); it would make a copy of the first gradient
    instead, which is the same number. Of AdamW these are the number of steps and both moments. A step that is captured
    needs them where they will stay.
    """
    made: list[Tensor] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not parameter.requires_grad:
                continue
            state = optimizer.state[parameter]
            if isinstance(optimizer, torch.optim.AdamW):
                on_device = parameter.device if group["fused"] or group["capturable"] else None
                state["step"] = torch.zeros((), dtype=torch.float32, device=on_device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            elif group["momentum"] != 0:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            made += state.values()
    return made
