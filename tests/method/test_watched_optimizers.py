"""Whoever steps, and whatever rewrites the rates: γ learns at lr / c, or the step is refused."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

import tune_bn
from tests.method.rated import LR, WRONG, C, network, optimizer_of, rates, step
from tune_bn.errors import MethodError
from tune_bn.method.groups import parameter_groups
from tune_bn.method.rates import check_rates, keep_rates


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: torch.optim.SGD(groups),
        lambda groups: torch.optim.SGD(groups, nesterov=True, momentum=0.9, foreach=True),
        lambda groups: torch.optim.SGD(groups, fused=True),
        lambda groups: torch.optim.Adam(groups),
        lambda groups: torch.optim.Adam(groups, foreach=True),
        lambda groups: torch.optim.AdamW(groups, weight_decay=0.05),
        lambda groups: torch.optim.AdamW(groups, fused=True),
        lambda groups: torch.optim.AdamW(groups, amsgrad=True),
        lambda groups: torch.optim.RMSprop(groups),
        lambda groups: torch.optim.Adagrad(groups),
        lambda groups: torch.optim.NAdam(groups),
        lambda groups: torch.optim.RAdam(groups),
        lambda groups: torch.optim.Adadelta(groups),
        lambda groups: torch.optim.Adamax(groups),
        lambda groups: torch.optim.ASGD(groups),
        lambda groups: torch.optim.Rprop(groups),
    ],
)
def test_with_every_optimizer(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    def groups() -> list[dict[str, Any]]:
        given = parameter_groups(network(), lr=LR, c=C)
        for group in given:
            del group["weight_decay"]  # Rprop has none
        return given

    optimizer = make(groups())
    step(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    with pytest.raises(MethodError, match=WRONG):
        step(optimizer)
    step(keep_rates(optimizer))
    assert rates(optimizer) == {"weights": 0.01, "shifts": 0.01, "gamma": 0.01 / C}


@pytest.mark.parametrize("kept", [False, True])
def test_gamma_has_no_decay_under_adamw_and_moves_by_a_cth(kept: bool) -> None:
    model = network()
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=LR, c=C), weight_decay=0.5)
    if kept:
        keep_rates(optimizer)
    step(optimizer)
    # Adam's first step is lr in size; decay of 0.5 would add 0.0005 to γ's.
    assert model[1].weight.tolist() == pytest.approx([1 - LR / C] * 4, abs=1e-7)
    assert model[1].bias.tolist() == pytest.approx([-LR] * 4, abs=1e-6)


def test_rates_that_are_tensors() -> None:
    lr = torch.tensor(LR)
    groups = parameter_groups(network(), lr=lr, c=C)
    assert len({id(group["lr"]) for group in groups}) == 3
    optimizer = torch.optim.Adam(groups, lr=lr, capturable=False, foreach=False)
    scheduler = schedulers.ExponentialLR(optimizer, 0.5)
    step(optimizer)
    scheduler.step()
    step(optimizer)
    assert rates(optimizer)["gamma"] == pytest.approx(LR / C / 2)
    for group in optimizer.param_groups:
        group["lr"].fill_(0.01)
    with pytest.raises(MethodError, match=WRONG):
        step(optimizer)
    places = [id(group["lr"]) for group in optimizer.param_groups]
    step(keep_rates(optimizer))
    assert rates(optimizer)["gamma"] == pytest.approx(0.01 / C)
    # A captured graph reads the tensors where they are.
    assert places == [id(group["lr"]) for group in optimizer.param_groups]
    shared = torch.tensor(0.02)
    for group in optimizer.param_groups:
        group["lr"] = shared
    step(optimizer)
    assert rates(optimizer) == pytest.approx({"weights": 0.02, "shifts": 0.02, "gamma": 0.02 / C})
    assert shared == torch.tensor(0.02)


def test_a_state_of_another_c_is_refused_after_it_was_loaded() -> None:
    resumed = optimizer_of(c=C)
    resumed.load_state_dict(copy.deepcopy(optimizer_of(c=10).state_dict()))
    with pytest.raises(MethodError, match=r"got 0.01 beside an lr of 0.1; accepted: 0.001, .* c = 100"):
        step(resumed)
    step(keep_rates(resumed))
    assert rates(resumed)["gamma"] == LR / C


def test_a_state_of_its_own_and_one_without_marks_are_loaded_as_they_are() -> None:
    first = optimizer_of()
    scheduler = schedulers.ExponentialLR(first, 0.5)
    step(first)
    scheduler.step()
    state = pickle.loads(pickle.dumps(first.state_dict()))
    second = optimizer_of()
    second.load_state_dict(state)
    step(second)
    assert rates(second) == rates(first)
    for group in state["param_groups"]:
        del group["lr_divisor"], group["name"]
    third = optimizer_of()
    third.load_state_dict(state)
    step(third)
    third.param_groups[-1]["lr"] = LR
    with pytest.raises(MethodError, match=WRONG):
        step(third)
    assert copy.deepcopy(first).state_dict()["param_groups"] == first.state_dict()["param_groups"]


def test_each_c_of_a_model_that_is_grouped_twice() -> None:
    model = network()
    ten, hundred = optimizer_of(model, c=10), optimizer_of(model, c=100)
    parameter_groups(model, c=3)
    step(ten)
    step(hundred)
    hundred.param_groups[-1]["lr"] = LR / 10
    with pytest.raises(MethodError, match=WRONG):
        step(hundred)


def test_two_networks_in_one_optimizer_have_rates_of_their_own() -> None:
    groups = [*parameter_groups(network(), lr=0.1, c=10), *parameter_groups(network(), lr=0.01, c=100)]
    optimizer = torch.optim.SGD(groups)
    step(optimizer)
    optimizer.param_groups[5]["lr"] = 0.1 / 100
    with pytest.raises(MethodError, match="c = 100"):
        step(optimizer)
    step(keep_rates(optimizer))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 0.01, 0.01, 0.01, 0.0001]


def test_a_group_of_a_backbone_and_one_of_a_head() -> None:
    model = network()
    weights, shifts, gamma = parameter_groups(model, lr=LR, c=C)
    head = {"params": list(model[2].parameters()), "lr": 10 * LR, "name": "head", "weight_decay": 0.0}
    for group in (weights, shifts):
        group["params"] = [p for p in group["params"] if all(p is not q for q in head["params"])]
    optimizer = torch.optim.SGD([weights, shifts, gamma], momentum=0.9)
    optimizer.add_param_group(head)
    step(optimizer)
    optimizer.param_groups[2]["lr"] = LR
    with pytest.raises(MethodError, match=WRONG):
        step(optimizer)


def test_a_script_that_writes_into_the_first_group_alone() -> None:
    optimizer = optimizer_of()
    optimizer.param_groups[0]["lr"] = LR / 10
    with pytest.raises(MethodError, match=r"got 0.001 beside an lr of 0.01; accepted: 0.0001"):
        step(optimizer)
    step(keep_rates(optimizer))
    assert rates(optimizer) == {"weights": LR / 10, "shifts": LR, "gamma": LR / 10 / C}
    bare = torch.optim.SGD(parameter_groups(nn.BatchNorm1d(4), lr=LR, c=C))
    step(bare)
    bare.param_groups[0]["lr"] = LR / 10
    with pytest.raises(MethodError, match=WRONG):
        step(bare)


def test_beta_with_a_divisor_of_its_own() -> None:
    optimizer = torch.optim.SGD(parameter_groups(network(), lr=LR, c=C, c_beta=5))
    optimizer.param_groups[2]["lr"] = LR
    with pytest.raises(MethodError, match=r"lr of β: got 0.1 beside .* lr / c_beta with c_beta = 5"):
        step(optimizer)
    step(keep_rates(optimizer))
    assert rates(optimizer) == {"weights": LR, "shifts": LR, "beta": LR / 5, "gamma": LR / C}


def test_before_a_wrapper_and_after_one() -> None:
    model = network()
    groups = parameter_groups(nn.DataParallel(torch.compile(model)), lr=LR, c=C)  # type: ignore[arg-type]
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in model.parameters()}
    optimizer = torch.optim.SGD(groups)
    model.double().to("cpu")
    tune_bn.scale_batchnorm(model, 0.1)
    schedulers.OneCycleLR(optimizer, max_lr=0.1, total_steps=5, cycle_momentum=False)
    with pytest.raises(MethodError, match=WRONG):
        step(optimizer)


def test_a_scaler_and_a_closure_pass_through() -> None:
    optimizer = optimizer_of()
    scaler = torch.amp.GradScaler("cpu")
    model = network()
    optimizer = optimizer_of(model)
    for expected in (None, MethodError):
        scaler.scale(model(torch.rand(4, 3)).sum()).backward()
        if expected is None:
            scaler.step(optimizer)
            scaler.update()
            for group in optimizer.param_groups:
                group["lr"] = LR
        else:
            with pytest.raises(expected, match=WRONG):
                scaler.step(optimizer)
    with pytest.raises(MethodError, match=WRONG):
        optimizer.step(lambda: 0.0)


def test_a_step_that_is_compiled_is_watched_and_kept() -> None:
    optimizer = optimizer_of()
    step(optimizer)
    compiled = torch.compile(lambda: optimizer.step(), backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled()
        for group in optimizer.param_groups:
            group["lr"] = 0.05
        with pytest.raises(MethodError, match=WRONG):
            compiled()
        keep_rates(optimizer)
        for group in optimizer.param_groups:
            group["lr"] = 0.04
        compiled()
    assert rates(optimizer)["gamma"] == 0.04 / C


def test_optimizers_of_others_and_what_cannot_be_compared_are_left_alone() -> None:
    model = network()
    groups = parameter_groups(model, lr=LR, c=C)
    step(torch.optim.SGD(network().parameters(), lr=0.3))
    # Plain SGD on the same model, on purpose.
    step(torch.optim.SGD(model.parameters(), lr=0.3))
    alone = torch.optim.SGD(groups[2:])
    alone.param_groups[0]["lr"] = 0.3
    step(alone)
    check_rates(alone)


@pytest.mark.parametrize("use", [check_rates, keep_rates])
def test_an_optimizer_that_has_nothing_to_keep_is_refused(use: Callable[[Any], Any]) -> None:
    model = network()
    with pytest.raises(MethodError, match="without a γ that parameter_groups has seen; accepted: an optimizer of the"):
        use(torch.optim.SGD(network().parameters(), lr=0.3))
    parameter_groups(model)
    with pytest.raises(MethodError, match="got γ in one group with parameters that learn at lr; accepted: the groups"):
        use(torch.optim.SGD(model.parameters(), lr=0.3))


def test_a_rate_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(MethodError, match="holds γ without the other groups; accepted"):
        keep_rates(torch.optim.SGD(parameter_groups(network())[2:]))
    with pytest.raises(MethodError, match=r"optimizer: got list; accepted: a torch.optim.Optimizer"):
        keep_rates([])  # type: ignore[type-var]
