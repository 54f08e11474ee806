"""What tests of several rooms share: studies whose records are made up, through the same code that writes real ones."""

from __future__ import annotations

import gc
import json
import math
import os
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import numpy as np
import pytest

from tests.faults.fixtures import (  # noqa: F401
    fault_table,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
    undisturbed,
)
from tests.quick import (  # noqa: F401
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_ignore_collect,
    pytest_make_collect_report,
    pytest_runtest_protocol,
)
from tune_bn.analysis.plan import seal
from tune_bn.host.collector import collect_seldom
from tune_bn.records.files import write_json, write_text
from tune_bn.records.log import RecordLog
from tune_bn.records.record import Record

# The same examples in every run, so that a failure can be seen again, and no limit to their time, which a busy machine
# exceeds; HYPOTHESIS_PROFILE=explore draws new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", derandomize=False, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# What a developer's shell says about a tracking server, or about this machine, is not for the studies of tests.
for name in [name for name in os.environ if name.startswith("MLFLOW_") or name == "TUNE_BN_CORES"]:
    del os.environ[name]

# A disk takes milliseconds to confirm a line, and a study has a hundred: no test cuts the power. What a test starts in
# a process of its own waits as a user's does.
os.fsync = lambda descriptor: None

# Tests may be run in the background of a script, or under nohup; what they start is to hear signals all the same.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# As its own verbs do.
collect_seldom()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Look for no garbage among the objects that nine thousand tests are made of: there is none, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_unconfigure() -> None:
    """At the end libraries look for what they leave behind."""
    gc.unfreeze()


SPACE_SHA256 = "5" * 64
EPOCHS = 40
SEARCH_SEEDS, SELECT_SEEDS = [101], [201, 202, 203]
BASELINE_CONFIG = {"gamma": 1.0, "c": 1.0}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tests of exact numbers: torch adds up in another order on more threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def warm_ray() -> None:
    """Workers of a Ray that this process starts are forked with their libraries loaded (:mod:`tests.warm`)."""
    from tests import warm

    warm.use_for_ray()


@pytest.fixture
def warm_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's ``python train.py`` is forked with torch loaded: for tests in which no script's start is the point."""
    from tests import warm
    from tune_bn.trainers.command import placeholders

    monkeypatch.setattr(placeholders, "sys", SimpleNamespace(executable=str(warm.python())))


@dataclass(frozen=True)
class SyntheticStudy:
    """A study that was never trained: its plan, its records in the order of their stages, and its curves."""

    plan: dict[str, Any]
    records: list[Record]
    curves: dict[str, list[dict[str, float]]]
    space: str

    @property
    def confirm(self) -> list[Record]:
        return [record for record in self.records if record.stage == "confirm"]

    def with_records(self, records: list[Record]) -> SyntheticStudy:
        return replace(self, records=records)

    def with_plan(self, **changes: Any) -> SyntheticStudy:
        """Another plan, sealed anew, with the confirmation records made under it."""
        plan = seal(self.plan | changes)
        records = [
            replace(record, plan_sha256=plan["plan_sha256"]) if record.stage == "confirm" else record
            for record in self.records
        ]
        return replace(self, plan=plan, records=records)

    def write(self, folder: Path, *, plan: bool = True, curves: bool = True) -> Path:
        """Write the study folder as the stages would have done, without a verdict."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "space.yaml", self.space)
        log = RecordLog(folder / "records.jsonl")
        for record in self.records:
            log.append(record)
        if plan:
            write_json(folder / "plan.json", self.plan)
        if curves:
            lines = (json.dumps({"run": run, "curve": curve}) for run, curve in self.curves.items())
            write_text(folder / "curves.jsonl", "".join(f"{line}\n" for line in lines))
        return folder


def make_study(
    *,
    n: int = 15,
    effect: float = 0.7,
    candidates: int = 1,
    searched: tuple[str, ...] = ("gamma", "c"),
    trials: int = 24,
    rng_seed: int = 1,
) -> SyntheticStudy:
    """A study like the embedded default's; in its confirmation the candidates gain ``effect`` percentage points."""
    rng = np.random.default_rng(rng_seed)
    sample = {
        "gamma": lambda: float(10 ** rng.uniform(-2, 0)),
        "c": lambda: float(10 ** rng.uniform(0, 3)),
        "lr": lambda: float(rng.choice([0.1, 0.05, 0.01])),
        "momentum": lambda: float(rng.uniform(0.8, 0.99)),
    }
    base = {key: value for key, value in BASELINE_CONFIG.items() if key in searched or key == "gamma"}
    base |= {key: 0.1 if key == "lr" else 0.9 for key in searched if key not in BASELINE_CONFIG}
    curves: dict[str, list[dict[str, float]]] = {}

    def run(stage: str, arm: str, trial: int | None, seed: int, config: dict[str, Any], **fields: Any) -> Record:
        best = fields["scores"].get("val_accuracy", 10.0)
        record = Record(
            **{
                "study": "digits-1",
                "stage": stage,
                "arm": arm,
                "trial": trial,
                "seed": seed,
                "config": config,
                "status": "completed",
                "reason": "all epochs done",
                "epochs": EPOCHS,
                "epochs_planned": EPOCHS,
                "attempts": 1,
                "started_at": "2026-01-01T00:00:00Z",
                "duration_seconds": 1.4,
                "device": "cpu",
                "versions": {"torch": "2.15.0", "tune_bn": "0.1.0"},
                "commit": "0123456789abcdef0123456789abcdef01234567",
                "space_sha256": SPACE_SHA256,
                **fields,
            }
        )
        curves[record.key] = [
            {
                "epoch": epoch,
                "train_loss": 2.3 * math.exp(-epoch / 6),
                "train_accuracy": 100 - 90 * math.exp(-epoch / 5),
                "val_loss": 0.1 + 2.2 * math.exp(-epoch / 6),
                "val_accuracy": best - (best - 10) * math.exp(-epoch / 5) - abs(rng.normal(0, 0.3)),
                "lr": 0.05 * (1 + math.cos(math.pi * epoch / EPOCHS)),
            }
            for epoch in range(1, record.epochs + 1)
        ]
        return record

    def truth(config: dict[str, Any]) -> float:
        """A ridge: γ near 0.2, flat in c above 10."""
        distance = abs(math.log10(config["gamma"] / 0.2))
        return 97.2 - 1.2 * distance**2 - 0.3 * max(0.0, 1 - math.log10(config.get("c", 1.0)))

    records: list[Record] = []
    found: list[tuple[float, int, dict[str, Any]]] = []
    for trial in range(trials):
        config = {key: sample[key]() for key in searched}
        config.setdefault("gamma", 1.0)
        accuracy = truth(config) + rng.normal(0, 0.4)
        if trial == 5:
            records.append(run("search", "candidate", trial, 101, config, status="failed", epochs=3, scores={}))
            continue
        if trial == 9:
            score = {"val_accuracy": 10.0, "best_epoch": 1}
            records.append(run("search", "candidate", trial, 101, config, status="diverged", epochs=4, scores=score))
            continue
        pruned = accuracy < 96.4
        fields: dict[str, Any] = {"status": "pruned", "reason": "stopped by asha", "epochs": 10} if pruned else {}
        score = {"val_accuracy": round(accuracy - (3.0 if pruned else 0.0), 3), "best_epoch": 9}
        records.append(run("search", "candidate", trial, 101, config, scores=score, **fields))
        if not pruned:
            found.append((accuracy, trial, config))
    finalists = sorted(found, key=lambda item: -item[0])[: max(3, candidates)]
    selected = []
    for _, trial, config in finalists:
        accuracies = [round(truth(config) + rng.normal(0, 0.4), 3) for _ in SELECT_SEEDS]
        for seed, accuracy in zip(SELECT_SEEDS, accuracies, strict=True):
            score = {"val_accuracy": accuracy, "best_epoch": 31}
            records.append(run("select", "candidate", trial, seed, config, scores=score))
        selected.append((float(np.mean(accuracies)), trial, config))
    selected.sort(key=lambda item: -item[0])
    seeds = list(range(1, n + 1))
    plan = seal(
        {
            "schema_version": 1,
            "study": "digits-1",
            "space_sha256": SPACE_SHA256,
            "created_at": "2026-01-01T00:01:00Z",
            "baseline": {"arm": "baseline", "trial": None, "config": base},
            "candidates": [
                {
                    "arm": f"candidate-{rank}",
                    "trial": trial,
                    "config": config,
                    "selection": {"val_accuracy_mean": mean, "n": len(SELECT_SEEDS)},
                }
                for rank, (mean, trial, config) in enumerate(selected[:candidates], start=1)
            ],
            "metric": "test_accuracy",
            "direction": "maximize",
            "test": "paired_t_greater",
            "alpha": 0.05,
            "correction": "holm",
            "stopping": "fixed",
            "seeds": seeds,
            "used_seeds": {"search": SEARCH_SEEDS, "select": SELECT_SEEDS},
            "diverged": {"rule": "chance", "score": 10.0},
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "versions": {"torch": "2.15.0", "tune_bn": "0.1.0"},
        }
    )
    # What a seed does to every arm makes the pairs correlate; scores are counts of 897 images, as in the digits study.
    shared = rng.normal(0, 0.5, n)
    for arm in [plan["baseline"], *plan["candidates"]]:
        gain = 0.0 if arm["arm"] == "baseline" else effect
        for seed, luck in zip(seeds, shared, strict=True):
            accuracy = 96.5 + gain + luck + rng.normal(0, 0.5)
            score = {
                "val_accuracy": round(accuracy + 0.2, 3),
                "best_epoch": 33,
                "test_accuracy": min(100.0, 100 * round(accuracy * 8.97) / 897),
            }
            sealed = plan["plan_sha256"]
            record = run("confirm", arm["arm"], arm["trial"], seed, arm["config"], scores=score, plan_sha256=sealed)
            records.append(record)
    search = {
        "gamma": "{log_uniform: [0.01, 1.0]}",
        "c": "{log_uniform: [1, 1000]}",
        "lr": "{choice: [0.1, 0.05, 0.01]}",
        "momentum": "{uniform: [0.8, 0.99]}",
    }
    space = "name: digits\nsearch:\n" + "".join(f"  {key}: {search[key]}\n" for key in searched)
    return SyntheticStudy(plan, records, curves, space)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test, and no process that it starts, reads or writes the user's cache of decoded images."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def synthetic_study() -> Callable[..., SyntheticStudy]:
    """The function that makes a study up; see :func:`make_study`."""
    return make_study
