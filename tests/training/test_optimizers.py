"""The optimizers of the built-in loop are torch's, without the compiler that torch's load."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.small_runs import run_config
from tune_bn.training.optimizer import make_optimizer

SETTINGS = [
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"optimizer": "sgd", "momentum": 0.0},
    {"optimizer": "adamw", "weight_decay": 0.01},
]


def model() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 3)
    )


def trained(net: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[torch.Tensor]:
    for step in range(steps):
        optimizer.zero_grad()
        images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        torch.nn.functional.cross_entropy(net(images), torch.arange(5) % 3).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_their_steps_are_torchs_to_the_last_bit(settings: dict[str, Any]) -> None:
    ours, theirs = model(), model()
    own = make_optimizer(ours, run_config(**settings))
    kind = type(own).__mro__[1]
    assert kind in (torch.optim.SGD, torch.optim.AdamW)
    groups = make_optimizer(theirs, run_config(**settings)).param_groups
    plain = kind([{key: value for key, value in group.items() if key != "name"} for group in groups])
    for mine, other in zip(trained(ours, own, 3), trained(theirs, plain, 3), strict=True):
        assert torch.equal(mine, other)
    # And what they remember goes from one to the other.
    own.load_state_dict(deepcopy(plain.state_dict()) | {"param_groups": own.state_dict()["param_groups"]})
    for mine, other in zip(trained(ours, own, 2), trained(theirs, plain, 2), strict=True):
        assert torch.equal(mine, other)


def test_a_step_takes_a_closure_calls_hooks_and_leaves_the_gradient_mode_as_it_was() -> None:
    net = model()
    optimizer = make_optimizer(net, run_config())
    calls: list[bool] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(torch.is_grad_enabled()))

    def closure() -> float:
        assert torch.is_grad_enabled()
        return 3.0

    assert optimizer.step(closure) == 3.0
    assert torch.is_grad_enabled()
    assert len(calls) == 1


def test_a_compiled_run_has_torchs_own() -> None:
    assert type(make_optimizer(model(), run_config(compile=True))) is torch.optim.SGD


def test_a_run_loads_no_compiler() -> None:
    """It takes a second of a core in the driver and in each worker before their first step."""
    code = """
import sys
from tests.training.small_runs import device_data, run_config
from tune_bn.training.loop import train
print(train(run_config(epochs=1), device_data(), 1).epochs)
print(sorted({"sympy", "torch._dynamo", "torch._inductor"} & set(sys.modules)))
"""
    top = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=top)
    assert done.stdout.splitlines() == ["1", "[]"]
