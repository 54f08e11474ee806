"""The same study as one would write it from the documentation of Ray Tune, Optuna and MLflow.

    python -m benchmarks.speed.plain_tune --folder DIR [--trials 24] [--pairs 15] [--epochs 40] [--grace 10]
        [--reuse-actors]

Search with OptunaSearch and ASHA, then the best configuration and the baseline on the same fresh seeds, then SciPy's
paired t-test; MLflow follows. Network, images, sizes and recipe are those of ``search_spaces/digits.yaml``. Of this
project it takes nothing but the arrays of the images and the constructor of the network. Prints one line of JSON:
seconds by stage, runs and epochs, the best configuration, scores by seed with mean and standard deviation of both arms,
and the one-sided p-value.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import torch.nn.functional as F
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Split, load_dataset
from tune_bn.method.build import build_model
from tune_bn.method.config import ModelConfig

METRIC = "val_accuracy"
SEARCH_SEED = 101
BASELINE = {"gamma": 1.0, "c": 1.0}


def loader(split: Split, *, shuffle: bool = False) -> DataLoader[Any]:
    """Batches of 64 images in [0, 1] with their labels."""
    # A copy: views of Ray's object store are read-only.
    images = torch.tensor(split.images).float() / 255
    return DataLoader(TensorDataset(images, torch.tensor(split.labels)), batch_size=64, shuffle=shuffle)


def make_optimizer(model: nn.Module, c: float) -> torch.optim.SGD:
    """γ learns at 0.1 / c; convolution and linear weights alone decay."""
    gammas, shifts, weights = [], [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                shifts.append(parameter)
            elif isinstance(module, nn.BatchNorm2d):
                gammas.append(parameter)
            else:
                weights.append(parameter)
    groups = [
        {"params": weights, "weight_decay": 1e-4},
        {"params": shifts, "weight_decay": 0.0},
        {"params": gammas, "weight_decay": 0.0, "lr": 0.1 / c},
    ]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


@torch.no_grad()
def accuracy(model: nn.Module, batches: DataLoader[Any]) -> float:
    """In percent."""
    model.eval()
    correct = total = 0
    for images, labels in batches:
        correct += (model(images).argmax(dim=1) == labels).sum().item()
        total += len(labels)
    return 100 * correct / total


def train(config: dict[str, Any], splits: dict[str, Split], epochs: int) -> None:
    """The function trainable: one run; with test images it ends with the test accuracy of the best epoch's weights."""
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    gamma, c = config["arm"]["gamma"], config["arm"]["c"]
    generator = torch.Generator().manual_seed(config["seed"])
    network = ModelConfig(arch="resnet8", norm="scaled", input_norm="none", gamma=gamma)
    model = build_model(network, in_channels=1, num_classes=10, generator=generator)
    optimizer = make_optimizer(model, c)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=1e-8)
    batches, val = loader(splits["train"], shuffle=True), loader(splits["val"])
    best, best_weights = -1.0, model.state_dict()
    for epoch in range(1, epochs + 1):
        model.train()
        running_loss, correct, seen = 0.0, 0, 0
        for images, labels in batches:
            optimizer.zero_grad()
            outputs = model(images)
            loss = F.cross_entropy(outputs, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            running_loss += loss.item() * len(labels)
            correct += (outputs.argmax(dim=1) == labels).sum().item()
            seen += len(labels)
        schedule.step()
        report = {
            "train_loss": running_loss / seen,
            "train_accuracy": 100 * correct / seen,
            METRIC: accuracy(model, val),
        }
        if "test" in splits:
            if report[METRIC] > best:
                best = report[METRIC]
                best_weights = {name: value.clone() for name, value in model.state_dict().items()}
            if epoch == epochs:
                model.load_state_dict(best_weights)
                report["test_accuracy"] = accuracy(model, loader(splits["test"]))
        tune.report(report)


def study(folder: Path, *, trials: int, pairs: int, epochs: int, grace: int, reuse_actors: bool) -> dict[str, Any]:
    """Search, confirm, test.

    Args:
        folder: where Tune's files and MLflow's data base go.
        trials: configurations of the search.
        pairs: seeds of the confirmation.
        epochs: of a full run.
        grace: epochs before a trial may be stopped.
        reuse_actors: Tune's option; it is off unless asked for.

    Returns:
        What :func:`main` prints.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    data = load_dataset(DataConfig(source="digits", train_size=300, val_size=600, test_size=897))
    assert data.test is not None
    splits = {"train": data.train, "val": data.val}
    # Without an address Ray would join whatever cluster this machine last knew.
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    started = time.monotonic()

    def run_config(name: str) -> tune.RunConfig:
        follow = MLflowLoggerCallback(
            tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name=f"digits-{name}"
        )
        return tune.RunConfig(name=name, storage_path=str(folder / "ray"), callbacks=[follow], verbose=0)

    def trainable(splits: dict[str, Split]) -> Any:
        return tune.with_resources(tune.with_parameters(train, splits=splits, epochs=epochs), {"cpu": 1})

    search = tune.Tuner(
        trainable(splits),
        param_space={
            "arm": {"gamma": tune.loguniform(0.01, 1.0), "c": tune.loguniform(1.0, 1000.0)},
            "seed": SEARCH_SEED,
        },
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=METRIC, mode="max", seed=0),
            scheduler=ASHAScheduler(metric=METRIC, mode="max", max_t=epochs, grace_period=grace, reduction_factor=3),
            num_samples=trials,
            reuse_actors=reuse_actors,
        ),
        run_config=run_config("search"),
    )
    found = search.fit()
    best = found.get_best_result(metric=METRIC, mode="max").config["arm"]
    searched = time.monotonic()

    confirmation = tune.Tuner(
        trainable(splits | {"test": data.test}),
        param_space={
            "arm": tune.grid_search([BASELINE, best]),
            "seed": tune.grid_search(list(range(1, pairs + 1))),
        },
        tune_config=tune.TuneConfig(reuse_actors=reuse_actors),
        run_config=run_config("confirm"),
    )
    confirmed = confirmation.fit()
    ended = time.monotonic()
    ray.shutdown()
    baseline, candidate = (
        {
            run.config["seed"]: run.metrics["test_accuracy"]
            for run in sorted(confirmed, key=lambda run: run.config["seed"])
            if run.config["arm"] == arm
        }
        for arm in (BASELINE, best)
    )
    test = stats.ttest_rel(list(candidate.values()), list(baseline.values()), alternative="greater")
    return {
        "search_seconds": round(searched - started, 2),
        "confirm_seconds": round(ended - searched, 2),
        "total_seconds": round(ended - started, 2),
        "runs": len(found) + len(confirmed),
        "epochs_trained": sum(run.metrics["training_iteration"] for runs in (found, confirmed) for run in runs),
        "best": best,
        "baseline": summary(baseline),
        "candidate": summary(candidate),
        "p_value": float(test.pvalue),
    }


def summary(scores: dict[int, float]) -> dict[str, Any]:
    """Mean, standard deviation and the scores by seed."""
    values = list(scores.values())
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "scores": scores}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and print its line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--grace", type=int, default=10)
    parser.add_argument("--reuse-actors", action="store_true")
    given = vars(parser.parse_args(arguments))
    print(json.dumps(study(given.pop("folder"), **given)))


if __name__ == "__main__":
    main()
