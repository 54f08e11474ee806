"""Would one grouped step that trains many seeds at once beat one seed after the other?

    python -m benchmarks.speed.fusion [--rounds 5] [--seeds 2 4 8] [--arch resnet8] [--side 8] [--batch-size 64]

*fused* stacks the weights of the seeds and maps the training step over them (``torch.func.vmap``), which turns every
convolution into a grouped one; *in turn* runs the same step of the same function once per seed. Batch norm uses batch
statistics in both. Before anything is timed, the losses of a few steps are compared seed by seed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, replace_all_batch_norm_modules_, stack_module_state, vmap

from benchmarks.measure import hardware, hardware_words, rates, ratios, rows, take_turns, this_device, wait
from benchmarks.results import markdown, save, speed_parser, stamp
from tune_bn.method.build import build_model
from tune_bn.method.config import ModelConfig
from tune_bn.training.engine import to_device
from tune_bn.training.seeds import make_generators

LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4
FUSED, IN_TURN = "fused", "in turn"


class Seeds:
    """Networks of so many seeds, each with its own images and labels (K, B, …) on the device."""

    def __init__(self, count: int, arch: str, side: int, batch_size: int, device: torch.device) -> None:
        config = ModelConfig(arch=arch, gamma=0.1)
        self.models: list[nn.Module] = []
        for seed in range(1, count + 1):
            generator = make_generators(seed, device).init
            model = build_model(config, in_channels=3, num_classes=10, generator=generator, channel_statistics=None)
            # Running statistics are updated in place, which cannot be mapped.
            self.models.append(to_device(replace_all_batch_norm_modules_(model).train(), device))
        generator = torch.Generator(device).manual_seed(0)
        shape = (count, batch_size, 3, side, side)
        self.images = torch.rand(shape, generator=generator, device=device)
        self.labels = torch.randint(0, 10, (count, batch_size), generator=generator, device=device)
        self.device = device

    def fused(self) -> Callable[[], Tensor]:
        """A step of all seeds at once; returns their losses (K,)."""
        stacked, _ = stack_module_state(self.models)
        parameters = {name: value.detach() for name, value in stacked.items()}
        momenta = {name: torch.zeros_like(value) for name, value in parameters.items()}
        skeleton = copy.deepcopy(self.models[0]).to("meta")

        def loss_of(weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(skeleton, weights, (images,)), labels)

        gradients_of = vmap(grad_and_value(loss_of))

        def step() -> Tensor:
            gradients, losses = gradients_of(parameters, self.images, self.labels)
            names = list(parameters)
            values, moving = [parameters[n] for n in names], [momenta[n] for n in names]
            change = torch._foreach_add([gradients[n] for n in names], values, alpha=WEIGHT_DECAY)
            torch._foreach_mul_(moving, MOMENTUM)
            torch._foreach_add_(moving, change)
            torch._foreach_add_(values, moving, alpha=-LR)
            found: Tensor = losses
            return found

        return step

    def in_turn(self) -> Callable[[], Tensor]:
        """A step of each seed, one after the other; returns their losses (K,)."""
        models = copy.deepcopy(self.models)
        optimizers = [
            torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY) for model in models
        ]
        inputs = [images.contiguous(memory_format=torch.channels_last) for images in self.images]

        def step() -> Tensor:
            losses = []
            for model, optimizer, images, labels in zip(models, optimizers, inputs, self.labels, strict=True):
                loss = F.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.detach())
            return torch.stack(losses)

        return step


def difference(seeds: Seeds, steps: int = 4) -> float:
    """The largest relative difference of a loss between the two, over a few steps and all seeds."""
    fused, in_turn = seeds.fused(), seeds.in_turn()
    found = [(fused(), in_turn()) for _ in range(steps)]
    return max(float(((a - b).abs() / b).max()) for a, b in found)


def main() -> None:
    """Run it all and write the results."""
    parser = speed_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--arch", default="resnet8")
    parser.add_argument("--side", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="in a turn")
    given = parser.parse_args()
    started = time.monotonic()
    device = this_device()
    if device.type == "cpu":
        # As a trial has it, with another beside it.
        torch.set_num_threads(1)
    found = []
    lines: list[Any] = [
        ("seeds", "in turn, images/s", "fused, images/s", "fused × in turn", "losses differ by at most")
    ]
    for count in given.seeds:
        seeds = Seeds(count, given.arch, given.side, given.batch_size, device)
        apart = difference(seeds)

        def repeated(step: Callable[[], Tensor], images: int = count * given.batch_size) -> Callable[[], float]:
            def turn() -> float:
                for _ in range(given.steps):
                    step()
                wait(device)
                return float(given.steps * images)

            return turn

        timings = take_turns({IN_TURN: repeated(seeds.in_turn()), FUSED: repeated(seeds.fused())}, given.rounds)
        found += rows(timings, seeds=count, loss_difference=float(f"{apart:.3g}"))
        words = rates(timings, IN_TURN).words(0), rates(timings, FUSED).words(0)
        lines.append((str(count), *words, ratios(timings, FUSED, IN_TURN).words(), f"{apart:.1g}"))
    made = stamp(started) | {"hardware": hardware()}
    title = (
        f"{hardware_words(made['hardware'])}, {made['hardware']['threads']} threads. {given.arch}, {given.side}×"
        f"{given.side}, batches of {given.batch_size}; median (smallest to largest) of {given.rounds} rounds of "
        f"{given.steps} steps"
    )
    save("fusion", found, made, {title: markdown(lines)}, given.results)


if __name__ == "__main__":
    main()
