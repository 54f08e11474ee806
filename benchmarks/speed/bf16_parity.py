"""Is bf16 as accurate as fp32? Paired seeds, judged by a test of non-inferiority.

    python -m benchmarks.speed.bf16_parity [--seeds 30] [--margin 0.5] [--epochs 40] [--precision bf16]
        [--arms baseline ours]

The same seeds train in both precisions, from the same weights, on the same images in the same order. The one-sided
paired t-test asks whether the lower precision loses less than the margin, in percentage points of test accuracy; the
margin was chosen before any run: the size of the effect that the embedded study finds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.measure import hardware, hardware_words, this_device
from benchmarks.results import markdown, mean_words, save, speed_parser, stamp
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import load_dataset
from tune_bn.method.config import ModelConfig
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import train
from tune_bn.training.points import TEST_ACCURACY

DATA = DataConfig(source="digits", train_size=300)
ARMS = {"baseline": (1.0, 1.0), "ours": (0.1, 100.0)}
"""γ and c."""


def non_inferiority(lower: Sequence[float], reference: Sequence[float], margin: float) -> tuple[float, float, float]:
    """Mean difference of paired scores, its lower one-sided 95 % bound, and p of H₀: difference ≤ −margin."""
    differences = np.subtract(lower, reference)
    test = stats.ttest_1samp(differences, -margin, alternative="greater")
    return float(differences.mean()), float(test.confidence_interval(0.95).low), float(test.pvalue)


def main() -> None:
    """Run it all and write the results."""
    parser = speed_parser(__doc__, rounds=None)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--margin", type=float, default=0.5, help="percentage points")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "tf32"))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    given = parser.parse_args()
    started = time.monotonic()
    device = this_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    data = DeviceData(load_dataset(DATA), device)
    rows: list[dict[str, Any]] = []
    lines = [
        (
            "",
            "fp32, %",
            f"{given.precision}, %",
            "difference, pp",
            "95 % bound",
            f"p, loses {given.margin:g} pp or more",
        )
    ]
    for arm in given.arms:
        gamma, c = ARMS[arm]
        scores: dict[str, list[float]] = {"fp32": [], given.precision: []}
        for seed in range(1, given.seeds + 1):
            for precision, found in scores.items():
                config = RunConfig(
                    ModelConfig(arch="resnet8", gamma=gamma),
                    DATA,
                    TrainConfig(epochs=given.epochs, batch_size=64, c=c, precision=precision),
                )
                found.append(train(config, data, seed, test_metric=TEST_ACCURACY).scores[TEST_ACCURACY])
                rows.append({"arm": arm, "precision": precision, "seed": seed, TEST_ACCURACY: round(found[-1], 4)})
        mean, low, p = non_inferiority(scores[given.precision], scores["fp32"], given.margin)
        words = mean_words(scores["fp32"]), mean_words(scores[given.precision])
        lines.append((f"{arm}: γ = {gamma:g}, c = {c:g}", *words, f"{mean:+.2f}", f"{low:+.2f}", f"{p:.2g}"))
    made = stamp(started) | {"hardware": hardware(), "margin": given.margin}
    title = (
        f"{hardware_words(made['hardware'])}. ResNet-8 on 300 digits, {given.epochs} epochs; test accuracy, mean ± "
        f"standard deviation over {given.seeds} seeds"
    )
    save("bf16_parity", rows, made, {title: markdown(lines)}, given.results)


if __name__ == "__main__":
    main()
