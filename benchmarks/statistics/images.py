"""Does the interval over seeds × test images cover? Simulated studies with known truth, around measured components.

    python -m benchmarks.statistics.images [--studies 4000] [--measure]

``--measure`` trains the embedded study's two arms on 15 seeds and prints the variance components of their differences,
around which :data:`POPULATIONS` lie. A simulated study draws n seeds and M images anew. Image i is right under arm k
and seed s where

    m_k + u_i + v_ki + w_ks + x_si + y_ksi > 0,    all normal and independent,

so that the population's accuracy of arm k is Φ(m_k/√(1 + σ²_v + σ²_w + …)) exactly. u is how hard the image is, v what
an arm makes of it, w what a seed does to an arm, and the rest what no two runs share. Beside the interval stands the
one over seeds alone, judged against the same truth.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from benchmarks.results import markdown, save, stamp
from tune_bn.analysis.images import two_way_interval, two_way_variance

LEVEL = 0.05


@dataclass(frozen=True)
class Population:
    """Standard deviations of the latent parts, and the mean of each arm."""

    name: str
    seeds: int
    images: int
    baseline: float
    """Accuracy of the baseline, 0 to 1."""
    candidate: float
    image: float
    """Of u: how hard an image is."""
    arm_image: float
    """Of v."""
    arm_seed: float
    """Of w."""
    rest: float
    """Of x and y together, for each arm."""

    @property
    def effect(self) -> float:
        """The truth, 0 to 1."""
        return self.candidate - self.baseline

    def means(self) -> tuple[float, float]:
        """Latent means of the arms."""
        total = math.sqrt(self.image**2 + self.arm_image**2 + self.arm_seed**2 + self.rest**2)
        return float(special.ndtri(self.baseline)) * total, float(special.ndtri(self.candidate)) * total


# `--measure` gave: 897 images, 95.65 and 96.07 %, σ_a .58, σ_b 3.61, σ_e 16.85 points. The latent parts are chosen such
# that the first population has about these.
POPULATIONS = (
    Population("digits, as measured", 15, 897, 0.9565, 0.9607, 3.5, 0.31, 0.17, 1.1),
    Population("digits, no effect", 15, 897, 0.9586, 0.9586, 3.5, 0.31, 0.17, 1.1),
    Population("digits, images alike for both arms", 15, 897, 0.9565, 0.9607, 3.5, 0.0, 0.17, 1.1),
    Population("digits, images three times as unlike", 15, 897, 0.9565, 0.9607, 3.5, 0.93, 0.17, 1.1),
    Population("digits, 5 seeds", 5, 897, 0.9565, 0.9607, 3.5, 0.31, 0.17, 1.1),
    Population("digits, 200 images", 15, 200, 0.9565, 0.9607, 3.5, 0.31, 0.17, 1.1),
    Population("digits, 10,000 images", 15, 10_000, 0.9565, 0.9607, 3.5, 0.31, 0.17, 1.1),
    Population("hard, 60 %, 2,000 images", 15, 2_000, 0.60, 0.61, 1.5, 0.40, 0.05, 0.8),
)


def differences(population: Population, rng: np.random.Generator, studies: int) -> np.ndarray:
    """Candidate − baseline by study, seed and image, int8 (studies, n, M)."""
    n, m = population.seeds, population.images

    def normal(std: float, *shape: int) -> np.ndarray:
        return np.float32(std) * rng.standard_normal(shape, dtype=np.float32)

    image = normal(population.image, studies, 1, m)
    right = []
    for mean in population.means():
        latent = normal(population.rest, studies, n, m)
        latent += np.float32(mean) + image + normal(population.arm_image, studies, 1, m)
        latent += normal(population.arm_seed, studies, n, 1)
        right.append((latent > 0).view(np.int8))
    return right[1] - right[0]


def intervals(d: np.ndarray, level: float) -> dict[str, np.ndarray]:
    """Of each study the mean and both half-widths, by the formulas of ``two_way_interval`` over many at once."""
    _, n, m = d.shape
    by_seed, by_image = d.mean(axis=2, dtype=np.float64), d.mean(axis=1, dtype=np.float64)
    mean = by_seed.mean(axis=1)
    squares = np.count_nonzero(d, axis=(1, 2))
    ss_seed = m * np.sum((by_seed - mean[:, None]) ** 2, axis=1)
    ss_image = n * np.sum((by_image - mean[:, None]) ** 2, axis=1)
    ss_rest = np.maximum(0.0, squares - n * m * mean**2 - ss_seed - ss_image)
    mean_squares = (ss_seed / (n - 1), ss_image / (m - 1), ss_rest / ((n - 1) * (m - 1)))
    seeds, images, rest = (value / (n * m) for value in mean_squares)
    variance, df, share = two_way_variance(seeds, images, rest, n, m)
    return {
        "mean": mean,
        "both": -special.stdtrit(df, level) * np.sqrt(variance),
        "seeds": -special.stdtrit(n - 1, level) * np.sqrt(seeds),
        "share": share,
        "sd_seeds": np.maximum(0.0, mean_squares[0] - mean_squares[2]) / m,
        "sd_images": np.maximum(0.0, mean_squares[1] - mean_squares[2]) / n,
        "sd_rest": mean_squares[2],
    }


def measured(population: Population, studies: int, seed: int) -> dict[str, Any]:
    """One row: how often either interval holds the truth."""
    rng = np.random.default_rng([seed, POPULATIONS.index(population)])
    size = max(1, 20_000_000 // (population.seeds * population.images))
    parts, left = [], studies
    while left:
        take = min(size, left)
        parts.append(intervals(differences(population, rng, take), LEVEL))
        left -= take
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    off = np.abs(found["mean"] - population.effect)
    row: dict[str, Any] = {
        "population": population.name,
        "seeds": population.seeds,
        "images": population.images,
        "effect_pp": round(100 * population.effect, 3),
        "studies": studies,
    }
    for name in ("both", "seeds"):
        rate = float(np.mean(off <= found[name]))
        row[f"coverage_{name}"] = round(rate, 4)
        row[f"se_{name}"] = round(math.sqrt(rate * (1 - rate) / studies), 4)
        row[f"false_gain_{name}"] = round(float(np.mean(found["mean"] - found[name] > population.effect)), 4)
    row |= {
        "share_images": round(float(np.mean(found["share"])), 3),
        **{key: round(100 * math.sqrt(float(np.mean(found[key]))), 3) for key in ("sd_seeds", "sd_images", "sd_rest")},
    }
    return row


def embedded() -> dict[str, Any]:
    """Train the embedded study's arms on seeds 1 to 15: the components of their differences on its test images."""
    import torch

    from tune_bn.data.dataset import load_dataset
    from tune_bn.space.loading import load_space
    from tune_bn.training.device_data import DeviceData
    from tune_bn.training.loop import train

    space = load_space(Path("search_spaces/digits.yaml"))
    data = DeviceData(load_dataset(space.data), torch.device("cpu"))
    data_bits = {}
    for name, overrides in {"baseline": space.baseline, "candidate": {"gamma": 0.16, "c": 43.0}}.items():
        config, rows = space.run_config(overrides), []
        for seed in range(1, 16):
            result = train(config, data, seed, test_metric="test_accuracy")
            count = result.test["images"]
            rows.append(np.unpackbits(np.frombuffer(result.right, np.uint8), bitorder="little", count=count))
        data_bits[name] = np.stack(rows).astype(np.int8)
    found = two_way_interval(data_bits["candidate"], data_bits["baseline"], level=LEVEL)
    accuracies = {name: round(100 * float(bits.mean()), 3) for name, bits in data_bits.items()}
    return accuracies | ({} if found is None else vars(found))


def main() -> None:
    """Simulate, print, and write ``benchmarks/results/images.*``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=4000, help="simulated studies of each population")
    parser.add_argument("--measure", action="store_true", help="train the embedded study's arms, and print no more")
    arguments = parser.parse_args()
    if arguments.measure:
        print(embedded())
        return
    started = time.monotonic()
    rows = [measured(population, arguments.studies, 1) for population in POPULATIONS]
    title = "Coverage of nominal 90 % intervals against the population of seeds and images"
    tables = {title: markdown([list(rows[0]), *([str(value) for value in row.values()] for row in rows)])}
    print(tables[title])
    save("images", rows, stamp(started), tables)


if __name__ == "__main__":
    main()
