"""A table of real learning curves over γ, c, the learning rate and the length of the course: ground truth for searches.

    python -m benchmarks.statistics.curve_table train --table cifar10 --data data/cifar10 [--minutes 60] [--part 1/2]
    python -m benchmarks.statistics.curve_table pack --table cifar10

`train` trains the runs of the table that are not there yet, the most telling first, one after the other on one thread,
and keeps each as a file of its own below `build/curve_table`; it may be stopped and begun again at any time, and
several may work side by side, each on a part. `pack` adds what is there to the Parquet file of the results. A run that
this file has is not trained again, so that a table grows over many sittings and machines.

A row is a run to its end, without early stopping: every epoch's training loss, validation accuracy and loss, and the
test accuracy and loss with the weights of the best validation epoch and with the last, with one bit for each test
image. The test columns judge what a search found; none may read them to choose.

* `cifar10`: ResNet-8, 5,000 training, 2,000 validation and all 10,000 test images of CIFAR-10, flips, batches of 128.
* `digits`: the embedded study's network and data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import hardware
from benchmarks.results import RESULTS, stamp
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, load_dataset
from tune_bn.data.device import DeviceSplit
from tune_bn.method.config import ModelConfig
from tune_bn.records.files import canonical_json, write_json, write_text
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.engine import pass_size, to_input
from tune_bn.training.loop import TrainingRun
from tune_bn.training.points import TEST_ACCURACY

RUNS = Path("build/curve_table")
GAMMAS = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
CS = (1.0, 10.0, 100.0, 1000.0)
TELLING = ((1.0, 1.0), (0.1, 100.0), (0.1, 10.0), (0.2, 10.0), (0.5, 100.0), (0.5, 10.0), (0.05, 100.0), (0.1, 1.0))
"""γ and c of the cells that are also trained for other lengths: BASE, the paper's, and those between them."""
CURVES = ("train_loss", "val_accuracy", "val_loss")
RUN = ["epochs", "lr", "gamma", "c", "seed"]
"""The columns that say which run a row is."""


@dataclass(frozen=True)
class Cell:
    """What a run of the table is, but for its seed."""

    lr: float
    gamma: float
    c: float
    epochs: int


def cifar10_runs() -> Iterator[tuple[Cell, int]]:
    """The runs of the table of CIFAR-10, the most telling first."""

    def grid(lr: float, seed: int) -> Iterator[tuple[Cell, int]]:
        yield from ((Cell(lr, gamma, c, 30), seed) for c, gamma in product((100.0, 10.0, 1.0, 1000.0), GAMMAS))

    def lengths(epochs: int, *seeds: int) -> Iterator[tuple[Cell, int]]:
        yield from ((Cell(lr, *cell, epochs), seed) for seed in seeds for lr in (0.1, 0.01) for cell in TELLING)

    for seed in (1, 2, 3):
        yield from ((Cell(0.1, *cell, 30), seed) for cell in TELLING[:3])
    yield from ((Cell(0.1, *cell, epochs), 1) for epochs in (100, 10) for cell in TELLING[:3])
    yield from grid(0.1, 1)
    yield from grid(0.01, 1)
    yield from lengths(10, 1)
    yield from lengths(100, 1)
    for seed in (2, 3):
        yield from grid(0.1, seed)
        yield from lengths(10, seed)
        yield from lengths(100, seed)
        yield from grid(0.01, seed)
    for seed in range(4, 16):
        yield from ((Cell(lr, *cell, 30), seed) for lr in (0.1, 0.01) for cell in TELLING[:4])


def digits_runs() -> Iterator[tuple[Cell, int]]:
    """The runs of the table of the digits."""
    gammas = (0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.35, 0.5, 0.75, 1.0)

    def grid(epochs: int, seed: int) -> Iterator[tuple[Cell, int]]:
        yield from (
            (Cell(lr, gamma, c, epochs), seed)
            for lr, gamma, c in product((0.1, 0.01), gammas, (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0))
        )

    yield from grid(40, 1)
    yield from grid(40, 2)
    for epochs, seed in product((10, 20, 80, 160), (1, 2, 3)):
        yield from ((Cell(lr, *cell, epochs), seed) for lr in (0.1, 0.01) for cell in TELLING)
    for seed, epochs in product(range(1, 16), (80, 40)):
        yield from ((Cell(0.1, *cell, epochs), seed) for cell in ((1.0, 1.0), (0.1, 100.0), (0.05, 100.0)))
    for epochs, seed in product((40, 20, 10, 80, 160), range(1, 6)):
        yield from grid(epochs, seed)


@dataclass(frozen=True)
class Table:
    """Data, batches and runs of a table."""

    data: DataConfig
    batch_size: int
    runs: Any

    def config(self, cell: Cell) -> RunConfig:
        """The configuration of a run, by the recipe of the paper."""
        model = ModelConfig(arch="resnet8", norm="scaled", gamma=cell.gamma, input_norm="dataset")
        if self.data.source == "digits":
            model = ModelConfig(arch="resnet8", norm="scaled", gamma=cell.gamma, input_norm="none")
        return RunConfig(
            model, self.data, TrainConfig(epochs=cell.epochs, batch_size=self.batch_size, lr=cell.lr, c=cell.c)
        )


def table_of(name: str, root: str | None) -> Table:
    """The table of that name."""
    if name == "digits":
        return Table(DataConfig(source="digits", train_size=300), 64, digits_runs)
    data = DataConfig(source="folder", root=root, train_size=5000, val_size=2000, flip=True)
    return Table(data, 128, cifar10_runs)


def name_of(cell: Cell, seed: int) -> str:
    """File name of a run."""
    return f"e{cell.epochs}-lr{cell.lr:g}-g{cell.gamma:g}-c{cell.c:g}-s{seed}.json"


def correct_on(run: TrainingRun, split: DeviceSplit) -> tuple[Tensor, float]:
    """Which images the run's present weights get right, bool (N,), and the mean cross-entropy."""
    model, right, loss = run.model.eval(), [], 0.0
    with torch.inference_mode():
        size = pass_size((split.images.shape[1], split.images.shape[2], split.images.shape[3]))
        for first in range(0, len(split), size):
            labels = split.labels[first : first + size]
            logits = model(to_input(split.images[first : first + size]))
            right.append(logits.argmax(dim=1) == labels)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    return torch.cat(right), loss / len(split)


def train_run(table: Table, data: DeviceData, cell: Cell, seed: int) -> dict[str, Any]:
    """One run to its end, as a row."""
    if data.test is None:
        raise ValueError("the data has no test images")
    config, started = table.config(cell), time.monotonic()
    run = TrainingRun(config, data, seed, TEST_ACCURACY)
    while not run.done:
        run.train_epoch()
    row: dict[str, Any] = {"seed": seed, **asdict(cell), "diverged": run.diverged, "best_epoch": run.best_epoch}
    row |= {name: [round(point[name], 5) for point in run.curve] for name in CURVES}
    weights = {"final": None} if run.diverged else {"final": None, "best": run.best_weights}
    for name, state in weights.items():
        if state is not None:
            run.model.load_state_dict(state)
        right, loss = correct_on(run, data.test)
        row[f"test_accuracy_{name}"] = round(100 * float(right.double().mean()), 4)
        row[f"test_loss_{name}"] = loss if np.isfinite(loss) else None
        row[f"test_correct_{name}"] = np.packbits(right.numpy()).tobytes().hex()
    return row | {"seconds": round(time.monotonic() - started, 1)}


def labels_sha256(dataset: Dataset) -> str:
    """Hash of the test labels in the order of the bits."""
    return "" if dataset.test is None else hashlib.sha256(dataset.test.labels.tobytes()).hexdigest()


def packed(name: str, results: Path) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The runs of a table that were packed before, and what made them; both empty before the first."""
    path = results / "curve_table" / f"{name}.parquet"
    if not path.exists():
        return pd.DataFrame(), []
    return pd.read_parquet(path), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["made"]


def train(name: str, root: str | None, minutes: float, part: str, results: Path) -> None:
    """Train what is missing of a part of the table, until the minutes are over."""
    torch.set_num_threads(1)
    started = time.monotonic()
    table, folder = table_of(name, root), RUNS / name
    folder.mkdir(parents=True, exist_ok=True)
    number, parts = map(int, part.split("/"))
    dataset = load_dataset(table.data)
    data = DeviceData(dataset, torch.device("cpu"))
    made = {key: value for key, value in stamp(started).items() if key != "seconds"}
    made |= {"hardware": hardware(), "data_sha256": dataset.sha256, "test_labels_sha256": labels_sha256(dataset)}
    before, makers = packed(name, results)
    if makers and makers[0]["data_sha256"] != dataset.sha256:
        raise SystemExit(f"{root or name}: other data than that of {results / 'curve_table' / name}.parquet")
    rows = before.reindex(columns=RUN).to_numpy()
    there = {name_of(Cell(lr, gamma, c, int(epochs)), int(seed)) for epochs, lr, gamma, c, seed in rows}
    for place, (cell, seed) in enumerate(dict.fromkeys(table.runs())):
        path = folder / name_of(cell, seed)
        if place % parts != number - 1 or path.name in there or path.exists():
            continue
        if time.monotonic() - started > 60 * minutes:
            break
        row = train_run(table, data, cell, seed)
        write_text(path, canonical_json({"row": row, "made": made}))
        print(f"{path.stem}: val {max(row['val_accuracy']):.2f}, test {row['test_accuracy_final']:.2f} %", flush=True)


def pack(name: str, results: Path) -> None:
    """Add the runs that were trained to ``results/curve_table/NAME.parquet``, and what made them to ``NAME.json``.

    A run of another sitting replaces none that is there.
    """
    before, makers = packed(name, results)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((RUNS / name).glob("*.json"))]
    data = {made["data_sha256"] for made in [*makers, *(run["made"] for run in found)]}
    if len(data) != 1:
        raise SystemExit(f"{RUNS / name}: runs on {len(data)} different data sets; accepted: runs on one")
    rows = []
    for run in found:
        if run["made"] not in makers:
            makers.append(run["made"])
        row = run["row"] | {"made": makers.index(run["made"])}
        rows.append({key: bytes.fromhex(v) if key.startswith("test_correct") else v for key, v in row.items()})
    folder = results / "curve_table"
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.concat([before, pd.DataFrame(rows)], ignore_index=True).drop_duplicates(RUN)
    frame.sort_values(RUN, ignore_index=True).to_parquet(folder / f"{name}.parquet", compression="zstd", index=False)
    write_json(folder / f"{name}.json", {"runs": len(frame), "made": makers})
    print(f"{len(frame)} runs in {folder / name}.parquet, {(folder / f'{name}.parquet').stat().st_size:,} bytes")


def main() -> None:
    """Train, or pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("train", "pack"))
    parser.add_argument("--table", choices=("cifar10", "digits"), required=True)
    parser.add_argument("--data", default="data/cifar10", help="folder of CIFAR-10's images, train/ and test/")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many minutes")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="train every N-th run from the I-th on")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    if given.verb == "train":
        train(given.table, given.data, given.minutes, given.part, given.results)
    else:
        pack(given.table, given.results)


if __name__ == "__main__":
    main()
