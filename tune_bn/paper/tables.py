"""The paper's numbers: Tables 1.a, 2.a and 2.b of Davis & Frank, "Revisiting Batch Norm Initialization" (ECCV 2022).

Each cell is a test accuracy in percent, mean ± standard deviation over n = 15 runs with different seeds, with the
configuration that we take to be behind it. The numbers are those of the authors' poster. What the poster does not say
is read from their public code (osu-cvl/revisiting-bn-init), and where that is silent too, the reading is ours;
:data:`READINGS` says which is which.

The paper's own test cannot be recomputed from a table. It is paired over seeds, t = mean(d) / (std(d) / √n) with
d = cell − BASE seed by seed, and var(d) = s₁² + s₂² − 2·r·s₁·s₂ needs the correlation r between the two arms over the
seeds, which is not published. From mean, std and n alone there is Welch's test, which takes the arms as independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from tune_bn.analysis.unpaired import welch_from_summaries
from tune_bn.errors import ConfigError

TABLES = ("table1a", "table2a", "table2b")
SEEDS = tuple(range(1, 16))
"""The seeds of every cell."""
ALPHA = 0.05
C = 100.0
BASE, OURS = "BASE", "Ours"
NORMS = {BASE: "base", OURS: "scaled", "RBN": "rbn", "RBN*": "rbn_star", "IEBN": "iebn", "IEBN*": "iebn_star"}
"""The normalization layer of each method, as ``model.norm`` of a space file."""
NETWORKS = {"resnet18": "ResNet-18", "resnet50": "ResNet-50", "resnet101": "ResNet-101", "resnet152": "ResNet-152"}
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "cub200": "CUB-200", "cars": "ST-Cars"}


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    table: str
    network: str
    """As ``model.arch`` of a space file."""
    dataset: str
    """As ``data.source`` of a space file."""
    method: str
    """A key of :data:`NORMS`; rows that state a γ are ``Ours``."""
    gamma: float | None
    """The γ that the row states; None where it states none."""
    lr: float
    mean: float
    """Test accuracy in percent."""
    std: float
    """Standard deviation over the runs, in percentage points."""
    n: int = len(SEEDS)

    @property
    def column(self) -> tuple[str, str, str, float]:
        """What the cell shares with its baseline."""
        return self.table, self.network, self.dataset, self.lr

    @property
    def row(self) -> str:
        """The row's own label: ``0.10``, ``BASE``, ``RBN*``."""
        return self.method if self.gamma is None else f"{self.gamma:.2f}"


@dataclass(frozen=True)
class Table:
    """How a table is laid out."""

    title: str
    group: str | None
    """What divides the rows: ``network``, ``dataset``, or None."""
    by: str
    """What the rows are: ``gamma`` or ``method``."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that tell the cells apart."""
        return (*(() if self.group is None else (self.group,)), self.by, "lr")


LAYOUT: Mapping[str, Table] = {
    "table1a": Table("Table 1.a: initial γ, ResNet-18 on CIFAR-10", None, "gamma"),
    "table2a": Table("Table 2.a: deeper networks on CIFAR-10", "network", "gamma"),
    "table2b": Table("Table 2.b: other methods and data sets, ResNet-18", "dataset", "method"),
}

_INPUT_NORM = "The input normalization is not stated. We read it as the official code's default, bn, for every arm."
_C = "c = 100 in the rows with a γ; BASE is γ = 1, c = 1."
READINGS: Mapping[str, tuple[str, ...]] = {
    "table1a": (
        _C,
        "The poster does not name the network. We read it as ResNet-18, that of the official code's example.",
        _INPUT_NORM,
    ),
    "table2a": (
        _C,
        "The poster does not name the data set. We read it as CIFAR-10, the only one of the official code.",
        _INPUT_NORM,
    ),
    "table2b": (
        "The poster does not name the network. BASE and Ours on CIFAR-10 equal Table 1.a, so we take the same, "
        "ResNet-18.",
        "Ours is c = 100 with γ = 0.10 at α = 0.1 and γ = 0.05 at α = 0.01. For CIFAR-10 this is known from Table 1.a; "
        "for the other data sets it is our reading.",
        "The star of RBN* and IEBN* is not defined. We read it as no weight decay on BN parameters and biases.",
        "Epochs, batch size, image size and crops are known for CIFAR-10 alone; for the other data sets they are our "
        "choice.",
        _INPUT_NORM,
    ),
}
"""What is known of each table's configurations, and what is our reading."""


def cells(table: str) -> tuple[Cell, ...]:
    """The cells of a table, row by row. Raises :class:`ConfigError` on another name."""
    if table not in _CELLS:
        raise ConfigError("TABLE", table, ", ".join(TABLES))
    return _CELLS[table]


def find(table: str, **keys: Any) -> Cell:
    """The one cell of a table with these values of its fields, such as ``find("table1a", gamma=0.1, lr=0.1)``.

    Raises:
        LookupError: no cell has them, or several have.
    """
    found = [cell for cell in cells(table) if all(getattr(cell, key) == value for key, value in keys.items())]
    if len(found) != 1:
        raise LookupError(f"{table} has {len(found)} cells with {keys}; accepted: keys of one cell")
    return found[0]


def group_words(cell: Cell) -> str:
    """The cell's group of rows, such as ``ResNet-50``; empty where its table has none."""
    group = LAYOUT[cell.table].group
    return "" if group is None else NETWORKS[cell.network] if group == "network" else DATASETS[cell.dataset]


def base_of(cell: Cell) -> Cell:
    """The BASE cell of the same table, network, data set and learning rate; of BASE itself, BASE."""
    return find(cell.table, network=cell.network, dataset=cell.dataset, lr=cell.lr, method=BASE)


def welch(cell: Cell, base: Cell) -> float:
    """p-value of Welch's one-sided t-test that ``cell`` has a higher mean than ``base``, from mean, std and n of each.

    :func:`tune_bn.analysis.unpaired.welch_from_summaries`. The arms count as independent: the paper's test is paired,
    and its p-value may be smaller or larger.
    """
    return welch_from_summaries(cell.mean, cell.std, cell.n, base.mean, base.std, base.n).p_value


def above_base(cell: Cell) -> bool:
    """Whether Welch's test puts the cell above BASE of its column with p ≤ 0.05, not adjusted for the other cells."""
    return cell.method != BASE and welch(cell, base_of(cell)) <= ALPHA


def t_interval(mean: float, std: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided confidence interval of a mean, mean ± t(n − 1)·std/√n; ``n`` ≥ 2 values with standard deviation ``std``
    (ddof = 1).
    """
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n)
    return mean - half, mean + half


def initial_gamma(cell: Cell) -> float:
    """The γ at the start of the cell's runs; for ``Ours`` of Table 2.b see :data:`READINGS`."""
    if cell.gamma is not None:
        return cell.gamma
    return {0.1: 0.1, 0.01: 0.05}[cell.lr] if cell.method == OURS else 1.0


def arm(cell: Cell) -> dict[str, Any]:
    """What sets the cell apart within its column, as keys of ``model`` and ``train`` of a space file."""
    return {"norm": NORMS[cell.method], "gamma": initial_gamma(cell), "c": C if cell.method == OURS else 1.0}


def column(cell: Cell) -> dict[str, dict[str, Any]]:
    """What the cells of a column share, as sections of a space file; the rest of the recipe is the same in all tables.

    The official code changes the stem for images of 32×32 alone. 5,000 CIFAR images validate; of the other data sets
    the same tenth of the training images does.
    """
    small = cell.dataset in ("cifar10", "cifar100")
    return {
        "model": {"arch": cell.network, "stem": "small" if small else "imagenet", "input_norm": "bn"},
        "data": {"source": cell.dataset, "val_size": 5000 if small else None},
        "train": {"lr": cell.lr},
    }


def configuration(cell: Cell) -> dict[str, dict[str, Any]]:
    """The configuration behind a cell, as sections of a space file: :func:`column` and :func:`arm` together."""
    sections, own = column(cell), arm(cell)
    sections["model"] |= {"norm": own["norm"], "gamma": own["gamma"]}
    sections["train"] |= {"c": own["c"]}
    return sections


_Numbers = Sequence[tuple[float, float]]

_LR_1A = (0.1, 0.01, 0.001)
_1A: Mapping[float | str, _Numbers] = {
    0.01: [(85.50, 0.39), (87.11, 0.23), (80.37, 0.58)],
    0.05: [(90.19, 0.32), (88.84, 0.32), (76.98, 0.71)],
    0.10: [(90.80, 0.20), (87.31, 0.37), (74.48, 0.55)],
    0.25: [(90.32, 0.24), (85.33, 0.43), (73.83, 0.64)],
    0.50: [(90.17, 0.19), (84.60, 0.35), (72.80, 0.68)],
    0.75: [(90.19, 0.18), (84.43, 0.30), (72.01, 0.58)],
    1.00: [(89.81, 0.46), (84.48, 0.33), (71.15, 0.56)],
    BASE: [(89.44, 0.45), (84.64, 0.25), (71.32, 0.60)],
}

_LR_2 = (0.1, 0.01)
_2A: Mapping[str, Mapping[float | str, _Numbers]] = {
    "resnet50": {
        0.05: [(91.23, 0.20), (89.60, 0.19)],
        0.10: [(91.28, 0.26), (87.67, 0.20)],
        0.50: [(89.49, 0.27), (84.74, 0.37)],
        BASE: [(86.94, 1.23), (85.04, 0.32)],
    },
    "resnet101": {
        0.05: [(91.58, 0.22), (90.02, 0.22)],
        0.10: [(91.26, 0.18), (88.35, 0.28)],
        0.50: [(89.89, 0.74), (85.23, 0.50)],
        BASE: [(88.28, 1.39), (84.74, 0.56)],
    },
    "resnet152": {
        0.05: [(91.20, 0.16), (90.00, 0.17)],
        0.10: [(90.89, 0.41), (88.31, 0.33)],
        0.50: [(90.17, 0.23), (85.23, 0.62)],
        BASE: [(88.73, 0.62), (84.15, 0.79)],
    },
}
_2B: Mapping[str, Mapping[float | str, _Numbers]] = {
    "cifar10": {
        "RBN": [(90.17, 0.22), (84.72, 0.29)],
        "RBN*": [(90.11, 0.24), (84.50, 0.36)],
        "IEBN": [(90.18, 0.26), (85.34, 0.39)],
        "IEBN*": [(90.15, 0.24), (85.29, 0.35)],
        OURS: [(90.80, 0.20), (88.84, 0.32)],
        BASE: [(89.44, 0.45), (84.64, 0.25)],
    },
    "cifar100": {
        "RBN": [(66.95, 0.57), (58.95, 0.42)],
        "RBN*": [(66.82, 0.55), (58.90, 0.61)],
        "IEBN": [(66.94, 0.39), (60.61, 0.40)],
        "IEBN*": [(66.95, 0.32), (60.89, 0.41)],
        OURS: [(68.80, 0.49), (64.01, 0.54)],
        BASE: [(66.01, 0.95), (58.48, 0.53)],
    },
    "cub200": {
        "RBN": [(48.68, 1.56), (44.68, 0.59)],
        "RBN*": [(47.14, 2.72), (43.02, 1.22)],
        "IEBN": [(54.12, 0.60), (44.92, 0.74)],
        "IEBN*": [(53.81, 0.76), (44.09, 0.65)],
        OURS: [(58.52, 0.69), (45.31, 0.59)],
        BASE: [(46.26, 1.59), (41.61, 1.03)],
    },
    "cars": {
        "RBN": [(68.17, 1.84), (51.87, 1.34)],
        "RBN*": [(67.84, 2.96), (52.30, 1.73)],
        "IEBN": [(73.60, 0.92), (51.06, 0.87)],
        "IEBN*": [(74.04, 1.55), (51.08, 0.78)],
        OURS: [(78.29, 0.44), (51.18, 2.16)],
        BASE: [(64.73, 2.87), (51.86, 1.80)],
    },
}


def _rows(
    table: str, network: str, dataset: str, rates: Sequence[float], rows: Mapping[float | str, _Numbers]
) -> list[Cell]:
    return [
        Cell(
            table,
            network,
            dataset,
            method=label if isinstance(label, str) else OURS,
            gamma=None if isinstance(label, str) else label,
            lr=lr,
            mean=mean,
            std=std,
        )
        for label, numbers in rows.items()
        for lr, (mean, std) in zip(rates, numbers, strict=True)
    ]


_CELLS: Mapping[str, tuple[Cell, ...]] = {
    "table1a": tuple(_rows("table1a", "resnet18", "cifar10", _LR_1A, _1A)),
    "table2a": tuple(cell for net, rows in _2A.items() for cell in _rows("table2a", net, "cifar10", _LR_2, rows)),
    "table2b": tuple(cell for data, rows in _2B.items() for cell in _rows("table2b", "resnet18", data, _LR_2, rows)),
}
