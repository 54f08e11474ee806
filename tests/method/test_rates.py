"""γ learns at lr / c under every scheduler, or the first step at which it does not is refused."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import SWALR

import tune_bn
from tests.method.rated import LR, WRONG, C, network, optimizer_of, rates, step
from tune_bn.errors import MethodError
from tune_bn.method.groups import plain_groups
from tune_bn.method.rates import check_rates, keep_rates

STEPS = 12

Scheduler = Any
Make = Callable[[torch.optim.Optimizer], Scheduler]


def course(optimizer: torch.optim.Optimizer, scheduler: Scheduler) -> Iterator[dict[str, float]]:
    """The rates of every step, read after it."""
    for number in range(STEPS):
        step(optimizer)
        yield rates(optimizer)
        takes_metric = "metrics" in inspect.signature(scheduler.step).parameters
        # The metric gets worse from the start, so a plateau scheduler acts.
        scheduler.step(*([float(number)] if takes_metric else []))


def last_number(factory: Callable[..., Scheduler], **options: Any) -> Make:
    return lambda optimizer: factory(optimizer, **options)


def own_rates(optimizer: torch.optim.Optimizer, factor: float = 1.0) -> list[float]:
    return [factor * group["lr"] for group in optimizer.param_groups]


def warm_up_then_cosine(optimizer: torch.optim.Optimizer) -> Scheduler:
    first = schedulers.LinearLR(optimizer, 0.1, total_iters=4)
    return schedulers.SequentialLR(optimizer, [first, schedulers.CosineAnnealingLR(optimizer, 8)], [4])


def warm_up_then_floor(optimizer: torch.optim.Optimizer) -> Scheduler:
    first = schedulers.LinearLR(optimizer, 0.1, total_iters=4)
    return schedulers.SequentialLR(optimizer, [first, schedulers.CosineAnnealingLR(optimizer, 8, 1e-3)], [4])


def chained(optimizer: torch.optim.Optimizer) -> Scheduler:
    return schedulers.ChainedScheduler(
        [schedulers.ExponentialLR(optimizer, 0.9), schedulers.ConstantLR(optimizer, 0.5, 3)], optimizer=optimizer
    )


def chained_with_a_floor(optimizer: torch.optim.Optimizer) -> Scheduler:
    parts = [schedulers.ConstantLR(optimizer, 0.5, 3), schedulers.CosineAnnealingLR(optimizer, STEPS, 1e-3)]
    return schedulers.ChainedScheduler(parts, optimizer=optimizer)


class Timm:
    """As timm's schedulers begin: a warm-up from one number, for all groups alike."""

    def __init__(self, optimizer: torch.optim.Optimizer, warmup_lr_init: float) -> None:
        self.optimizer, self.start, self.passed = optimizer, warmup_lr_init, 0
        self.targets = own_rates(optimizer)
        self.write()

    def write(self) -> None:
        share = min(1.0, self.passed / 5)
        for group, target in zip(self.optimizer.param_groups, self.targets, strict=True):
            group["lr"] = self.start + share * (target - self.start)

    def step(self) -> None:
        self.passed += 1
        self.write()


class ByHand(Timm):
    """``for group in optimizer.param_groups: group["lr"] = …``, as scripts of people have it."""

    def write(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.start * 0.9**self.passed


KEEPING: dict[str, Make] = {
    "LambdaLR": last_number(schedulers.LambdaLR, lr_lambda=lambda number: 1 / (1 + number)),
    "LambdaLR from 0": last_number(schedulers.LambdaLR, lr_lambda=lambda number: min(1.0, number / 5)),
    "MultiplicativeLR": last_number(schedulers.MultiplicativeLR, lr_lambda=lambda number: 0.9),
    "StepLR": last_number(schedulers.StepLR, step_size=3),
    "MultiStepLR": last_number(schedulers.MultiStepLR, milestones=[2, 5]),
    "ConstantLR": last_number(schedulers.ConstantLR),
    "LinearLR": last_number(schedulers.LinearLR, start_factor=1e-3),
    "ExponentialLR": last_number(schedulers.ExponentialLR, gamma=0.5),
    "PolynomialLR": last_number(schedulers.PolynomialLR, total_iters=9, power=2),
    "CosineAnnealingLR": last_number(schedulers.CosineAnnealingLR, T_max=STEPS),
    "CosineAnnealingLR to the paper's 1e-8": last_number(schedulers.CosineAnnealingLR, T_max=STEPS, eta_min=1e-8),
    "CosineAnnealingWarmRestarts": last_number(schedulers.CosineAnnealingWarmRestarts, T_0=4),
    "ReduceLROnPlateau": last_number(schedulers.ReduceLROnPlateau, patience=1),
    "ReduceLROnPlateau, list": lambda o: schedulers.ReduceLROnPlateau(o, patience=1, min_lr=own_rates(o, 0.01)),
    "CyclicLR, lists": lambda o: schedulers.CyclicLR(o, own_rates(o, 0.1), own_rates(o), step_size_up=3),
    "OneCycleLR, list": lambda o: schedulers.OneCycleLR(o, own_rates(o), total_steps=STEPS + 1),
    "SequentialLR": warm_up_then_cosine,
    "ChainedScheduler": chained,
    "SWALR, list": lambda o: SWALR(o, own_rates(o, 0.5), anneal_epochs=4),
    "by hand, from 0": last_number(ByHand, warmup_lr_init=0.0),
    "warm-up from 0": last_number(Timm, warmup_lr_init=0.0),
}
"""They multiply, or they were given a list."""

LOSING: dict[str, Make] = {
    "OneCycleLR": last_number(schedulers.OneCycleLR, max_lr=0.1, total_steps=STEPS + 1),
    "CyclicLR": last_number(schedulers.CyclicLR, base_lr=0.01, max_lr=0.1, step_size_up=3),
    "CosineAnnealingLR": last_number(schedulers.CosineAnnealingLR, T_max=STEPS, eta_min=1e-3),
    "CosineAnnealingLR to 1e-6": last_number(schedulers.CosineAnnealingLR, T_max=STEPS, eta_min=1e-6),
    "CosineAnnealingWarmRestarts": last_number(schedulers.CosineAnnealingWarmRestarts, T_0=4, eta_min=1e-4),
    "ReduceLROnPlateau": last_number(schedulers.ReduceLROnPlateau, patience=1, min_lr=5e-4),
    "SequentialLR": warm_up_then_floor,
    "ChainedScheduler": chained_with_a_floor,
    "LambdaLR, one function each": lambda o: schedulers.LambdaLR(o, [lambda _: 0.5, lambda _: 0.5, lambda _: 1.0]),
    "SWALR": last_number(SWALR, swa_lr=0.05, anneal_epochs=4),
    "by hand": last_number(ByHand, warmup_lr_init=0.1),
    "warm-up from 1e-6": last_number(Timm, warmup_lr_init=1e-6),
    "warm-up from 1e-2": last_number(Timm, warmup_lr_init=1e-2),
}
"""They write one number into all groups, sooner or later."""


def test_every_scheduler_of_torch_is_in_the_table() -> None:
    known = {name.partition(",")[0].partition(" ")[0] for name in (*KEEPING, *LOSING)}
    assert set(schedulers.__all__) - {"LRScheduler"} <= known


@pytest.mark.parametrize("name", KEEPING)
def test_under_a_scheduler_that_keeps_c_nothing_is_touched(name: str) -> None:
    watched, kept = optimizer_of(), keep_rates(optimizer_of())
    plain = torch.optim.SGD(plain_groups(network(), LR, C, 1e-4), momentum=0.9)
    courses = [list(course(optimizer, KEEPING[name](optimizer))) for optimizer in (watched, plain, kept)]
    assert courses[0] == courses[1]
    if "1e-8" not in name:
        assert courses[1] == courses[2]
    assert all(math.isclose(point["gamma"] * C, point["weights"], rel_tol=1e-2, abs_tol=1e-6) for point in courses[0])


@pytest.mark.parametrize("name", LOSING)
def test_a_scheduler_that_loses_c_is_refused_at_the_first_wrong_step(name: str) -> None:
    optimizer, plain = optimizer_of(), torch.optim.SGD(plain_groups(network(), LR, C, 1e-4), momentum=0.9)
    wrong = [abs(point["gamma"] - point["weights"] / C) > 1e-4 * LR / C for point in course(plain, LOSING[name](plain))]
    with pytest.raises(MethodError, match=WRONG):
        list(course(optimizer, LOSING[name](optimizer)))
    with pytest.raises(MethodError, match=WRONG):
        check_rates(optimizer)
    weights = [parameter.clone() for parameter in optimizer.param_groups[0]["params"]]
    with pytest.raises(MethodError, match=WRONG):
        step(optimizer)
    assert all(map(torch.equal, weights, optimizer.param_groups[0]["params"]))
    # Up to the step before, all was right.
    optimizer = optimizer_of()
    following = course(optimizer, LOSING[name](optimizer))
    for _ in range(wrong.index(True)):
        next(following)
    with pytest.raises(MethodError, match=WRONG):
        next(following)


@pytest.mark.parametrize("name", LOSING)
@pytest.mark.parametrize("before", [True, False])
def test_a_kept_rate_is_right_under_every_scheduler(name: str, before: bool) -> None:
    optimizer, plain = optimizer_of(), torch.optim.SGD(plain_groups(network(), LR, C, 1e-4), momentum=0.9)
    if before:
        assert keep_rates(optimizer) is optimizer
    scheduler = LOSING[name](optimizer)
    if not before:
        keep_rates(optimizer)
        check_rates(optimizer)
    found = list(course(optimizer, scheduler))
    assert [point["gamma"] for point in found] == pytest.approx([point["weights"] / C for point in found], rel=1e-8)
    # The weights learn as they do without the helper.
    assert [point["weights"] for point in found] == [p["weights"] for p in course(plain, LOSING[name](plain))]


def test_a_gamma_that_was_put_among_the_others_is_said_once_and_no_error() -> None:
    model = tune_bn.scale_batchnorm(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), 0.1)
    flat = [p for group in tune_bn.parameter_groups(model, lr=0.1, c=100) for p in group["params"]]
    optimizer = torch.optim.SGD(flat, lr=0.1)
    model(torch.randn(8, 4)).sum().backward()
    with pytest.warns(UserWarning, match="got γ in one group .* so c has no effect here"):
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        # With c = 1 there is nothing to lose.
        plain = torch.optim.SGD([p for g in tune_bn.parameter_groups(model, lr=0.1, c=1) for p in g["params"]], lr=0.1)
        plain.step()
