"""How much of what the device can do the training engine gets: images per second as a share of a serial bound.

    python -m benchmarks.speed.roofline [--rounds 5] [--archs resnet18 resnet50 resnet101 resnet152] [--precision bf16]

The bound is 1 / (operations / rate + bytes / bandwidth): no computation overlaps a pass over memory, and no step
waits. Both rates are measured in the same run, by a large matrix product and by a large copy. Bytes are passes over
activations, counted layer by layer; ReLU and the additions of residual branches count as part of their neighbours'
passes, and weights are left out, since they are small beside the activations of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import (
    Spread,
    Timing,
    hardware,
    hardware_words,
    rates,
    rows,
    take_turns,
    this_device,
    wait,
)
from benchmarks.results import markdown, save, speed_parser, stamp
from benchmarks.speed.training_loop import Ours, Workload, config_of, noise
from tune_bn.method.networks import dry_run
from tune_bn.training.cost import BACKWARD, forward_flops
from tune_bn.training.device_data import DeviceData

CONVOLUTION_INPUT, CONVOLUTION_OUTPUT = 3, 3
"""Passes over a convolution's input (forward, its gradient written, the weight's gradient) and output (written, its
gradient read twice)."""
NORM = 8
"""Passes of batch norm over its input: statistics, normalization (read, write), sums of the gradient (two reads), its
input's gradient (two reads, a write)."""
WIDTHS = {"fp32": 4, "tf32": 4, "bf16": 2}
MATMUL, COPY = "matrix product", "copy"


def activation_passes(workload: Workload) -> int:
    """Elements of activations that one image's training step reads and writes."""
    total = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += CONVOLUTION_INPUT * inputs[0].numel() + CONVOLUTION_OUTPUT * output.numel()
        elif isinstance(module, nn.BatchNorm2d):
            total += NORM * inputs[0].numel()

    def count(network: nn.Module) -> int:
        for module in network.modules():
            module.register_forward_hook(note)
        device = next(network.parameters()).device
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, workload.side, workload.side, device=device))
        return total

    return dry_run(config_of(workload).model, 3, 10, count)


def training_flops(workload: Workload) -> int:
    """Operations of one image's training step; a multiply-add counts two."""
    return (1 + BACKWARD) * forward_flops(config_of(workload).model, (3, workload.side, workload.side), 10)


def serial_bound(workload: Workload, precision: str, rate: float, bandwidth: float) -> float:
    """Images per second.

    Args:
        workload: network and images.
        precision: of activations.
        rate: operations per second.
        bandwidth: bytes per second.
    """
    compute = training_flops(workload) / rate
    return 1 / (compute + activation_passes(workload) * WIDTHS[precision] / bandwidth)


def machine(device: torch.device, precision: str) -> dict[str, Callable[[], float]]:
    """What measures the matrix rate (operations) and the bandwidth (bytes read and written)."""
    on_gpu = device.type == "cuda"
    size, length = (8192, 2**28) if on_gpu else (2048, 2**26)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(length, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    times = 20 if on_gpu else 4

    def multiply() -> float:
        tf32 = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        for _ in range(times):
            left @ right
        wait(device)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        return times * 2.0 * size**3

    def copy() -> float:
        for _ in range(times):
            target.copy_(source)
        wait(device)
        return times * 2.0 * 4 * length

    return {MATMUL: multiply, COPY: copy}


def main() -> None:
    """Run it all and write the results."""
    device = this_device()
    on_gpu = device.type == "cuda"
    archs = ["resnet18", "resnet50", "resnet101", "resnet152"] if on_gpu else ["resnet18"]
    parser = speed_parser(__doc__)
    parser.add_argument("--archs", nargs="+", default=archs)
    parser.add_argument("--precision", choices=list(WIDTHS), default="bf16" if on_gpu else "fp32")
    parser.add_argument("--train", type=int, default=12_800 if on_gpu else 128, help="images of an epoch")
    given = parser.parse_args()
    started = time.monotonic()
    timings = []
    lines: list[Any] = [("", "images/s", "serial bound, images/s", "share")]
    for arch in given.archs:
        workload = Workload(arch, 32, given.train, None)
        ours = Ours(DeviceData(noise(workload, given.train), device), config_of(workload, precision=given.precision))

        def train(run: Ours = ours) -> float:
            run.steps()
            wait(device)
            return float(given.train)

        mine = take_turns({arch: train} | machine(device, given.precision), given.rounds)
        bounds, shares = [], []
        for number in range(given.rounds):
            rate: dict[str, Timing] = {timing.contender: timing for timing in mine if timing.round == number}
            bounds.append(serial_bound(workload, given.precision, rate[MATMUL].rate, rate[COPY].rate))
            shares.append(100 * rate[arch].rate / bounds[-1])
        raw = rows(mine, workload=workload.words, precision=given.precision)
        timings += [row | {"share": round(shares[row["round"]], 3) if row["contender"] == arch else ""} for row in raw]
        words = rates(mine, arch).words(0), Spread.of(bounds).words(0), Spread.of(shares).words(1) + " %"
        lines.append((workload.words, *words))
        peak, bandwidth = rates(mine, MATMUL).median / 1e12, rates(mine, COPY).median / 1e9
        measured = f"{peak:.2f} T operations/s, {bandwidth:.1f} GB/s measured"
    made = stamp(started) | {"hardware": hardware()}
    title = (
        f"{hardware_words(made['hardware'])}; {given.precision}: {measured}. Batches of 128; median (smallest "
        f"to largest) of {given.rounds} rounds"
    )
    save("roofline", timings, made, {title: markdown(lines)}, given.results)


if __name__ == "__main__":
    main()
