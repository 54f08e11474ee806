"""Runs of ``benchmarks.gpu.reproduce_gpu``: the paper's recipe, one JSON line per run, and the table.

A line holds ``arm``, ``gamma``, ``c``, ``lr``, ``seed``, ``epochs``, ``precision``, ``status``, ``scores`` (percent),
``curve`` (one list per quantity), times in seconds, the device, versions, commit and command; ``config`` and ``images``
tell two settings apart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from benchmarks.results import markdown
from tune_bn.analysis.columns import Scores
from tune_bn.analysis.scores import verdict_on_scores
from tune_bn.analysis.table_test import TableTest
from tune_bn.analysis.wording import spread_words
from tune_bn.data.config import DataConfig
from tune_bn.errors import ConfigError, RecordError
from tune_bn.method.config import ModelConfig
from tune_bn.paper.tables import ALPHA, BASE, Cell, base_of, cells, configuration, find
from tune_bn.records.files import canonical_json, sha256_of
from tune_bn.records.record import COMPLETED, DIVERGED
from tune_bn.records.score_verdict import ScoreVerdict
from tune_bn.training.config import RunConfig, TrainConfig

Run = Mapping[str, Any]
TABLE = "table1a"
METRIC = "test_accuracy"
SIZES = {"train": 45_000, "val": 5000, "test": 10_000}
DEFAULT_CELLS = ("gamma=0.10,lr=0.1", "gamma=0.05,lr=0.01")
PEEKING_NOTE = "A p-value holds for a number of pairs that was fixed beforehand, not for a look after each pair."


def asked_cell(text: str) -> Cell:
    """The cell of Table 1.a that ``gamma=0.10,lr=0.1`` names. Raises :class:`ConfigError` for anything else."""
    accepted = "gamma=G,lr=L of a cell of Table 1.a, such as gamma=0.10,lr=0.1; its BASE is run with it"
    try:
        keys = {key.strip(): float(value) for key, value in (part.split("=") for part in text.split(","))}
        if set(keys) != {"gamma", "lr"}:
            raise ConfigError("--cells", text, accepted)
        return find(TABLE, **keys)
    except (ValueError, LookupError):
        raise ConfigError("--cells", text, accepted) from None


def arms_of(asked: Iterable[Cell]) -> list[Cell]:
    """The cells and their baselines, each once, a baseline before its cells."""
    return list(dict.fromkeys(arm for cell in asked for arm in (base_of(cell), cell)))


def arm_name(cell: Cell) -> str:
    """``BASE, lr 0.1`` or ``γ = 0.10, lr 0.1``."""
    return f"{cell.row if cell.gamma is None else f'γ = {cell.row}'}, lr {cell.lr:g}"


def paper_config(cell: Cell) -> RunConfig:
    """The paper's recipe for a cell, as ``tune_bn reproduce table1a`` trains it."""
    sections = configuration(cell)
    return RunConfig(
        ModelConfig(**sections["model"]), DataConfig(**sections["data"], flip=True), TrainConfig(**sections["train"])
    )


def plain_config(config: RunConfig) -> dict[str, Any]:
    """A configuration as JSON holds it, without where the data lies, which is no difference."""
    return asdict(replace(config, data=replace(config.data, source="cifar10", root=None)))


def identity(config: Mapping[str, Any], images: Mapping[str, Any], seed: int) -> str:
    """Hash of what makes a run: configuration (epochs and precision among it), the images' SHA-256, seed."""
    return sha256_of({"config": _essential(config), "images": images["sha256"], "seed": seed})


def setting(run: Run) -> str:
    """Hash of what the runs of one table share: configuration but for the arm, and images."""
    config = {section: dict(values) for section, values in run["config"].items()}
    for section, key in (("model", "norm"), ("model", "gamma"), ("train", "c"), ("train", "lr")):
        config[section].pop(key, None)
    return sha256_of({"config": _essential(config), "images": run["images"]["sha256"]})


def _essential(config: Mapping[str, Any]) -> dict[str, Any]:
    # Without defaults, a run stays the same run when a later version has a new option.
    defaults = asdict(RunConfig())
    return {
        section: {key: value for key, value in values.items() if key not in own or value != own[key]}
        for section, values in config.items()
        for own in [defaults[section]]
    }


def is_torn(path: Path) -> bool:
    """Whether a results file ends within a line, as a crash may leave it."""
    return path.is_file() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")


def read_runs(path: Path) -> list[dict[str, Any]]:
    """The runs of a results file; none where there is no file. A last line that was torn is passed over.

    Raises:
        RecordError: the file cannot be read, or another line is no run.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); accepted: a file that can") from None
    runs = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            run = json.loads(line)
            identity(run["config"], run["images"], run["seed"])
            float(run["scores"][METRIC])
            _cell_of(run)
        except (ValueError, TypeError, LookupError):
            raise RecordError(f"{path}:{number}: not a run; accepted: lines that this benchmark wrote") from None
        runs.append(run)
    return runs


def append_run(path: Path, run: Run) -> None:
    """Append one run; it is on disk when this returns. ``path`` must not end in a torn line."""
    with path.open("a", encoding="utf-8") as handle:
        handle.write(canonical_json(run) + "\n")
        handle.flush()
        os.fsync(handle.fileno())


def expected_seconds(runs: Iterable[Run], like: Run) -> float | None:
    """Median time of the completed runs of the setting of ``like``, on its device and as many side by side; None: no
    such run.
    """
    found = [
        run["duration_seconds"] + run["setup_seconds"]
        for run in runs
        if run["status"] == COMPLETED
        and (run["device"], run["parallel"], setting(run)) == (like["device"], like["parallel"], setting(like))
    ]
    return median(found) if found else None


def verdict_of(runs: Iterable[Run], cell: Cell, source: str) -> ScoreVerdict | None:
    """The verdict on a cell against its BASE over the seeds that both have, by the rules of ``verify --scores``.

    None where fewer than two pairs are complete.
    """
    names = (arm_name(base_of(cell)), arm_name(cell))
    rows = [(run["arm"], run["seed"], run["scores"][METRIC]) for run in runs if run["arm"] in names]
    seeds = set.intersection(*({seed for arm, seed, _ in rows if arm == name} for name in names))
    if len(seeds) < 2:
        return None
    pairs = tuple((arm, str(seed), score) for arm, seed, score in rows if seed in seeds)
    return verdict_on_scores(Scores(source, "seed", pairs), TableTest(baseline=names[0], alpha=ALPHA))


def report(runs: Sequence[Run], source: str) -> str:
    """Every setting's table beside the paper's, and the verdicts; ``source`` is the name of the results file."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(setting(run), []).append(run)
    if not groups:
        return f"{source}: no finished run yet."
    return "\n\n".join([*(_section(group, source) for group in groups.values()), PEEKING_NOTE])


def deviations(run: Run) -> list[str]:
    """What differs from the paper's setting, such as ``train.epochs=5 (paper: 180)``."""
    paper = plain_config(paper_config(_cell_of(run)))
    found = [
        f"{section}.{key}={value} (paper: {paper[section].get(key)})"
        for section, values in run["config"].items()
        for key, value in values.items()
        if value != paper[section].get(key)
    ]
    sizes = {name: run["images"][name] for name in SIZES}
    if sizes != SIZES:
        found.append(f"images {sizes} (paper: {SIZES})")
    return found


def _cell_of(run: Run) -> Cell:
    return {arm_name(cell): cell for cell in cells(TABLE)}[run["arm"]]


def _section(runs: Sequence[Run], source: str) -> str:
    there = sorted({_cell_of(run) for run in runs}, key=lambda cell: (-cell.lr, cells(TABLE).index(cell)))
    rows = [["arm", "n", "ours", "paper (n = 15)", "ours, last epoch", "difference"]]
    order = [arm for cell in there if cell.method != BASE for arm in (base_of(cell), cell)]
    for cell in (cell for cell in dict.fromkeys([*order, *there]) if cell in there):
        own = [run for run in runs if run["arm"] == arm_name(cell)]
        best, last = ([run["scores"][key] for run in own] for key in (METRIC, f"final_{METRIC}"))
        difference = f"{fmean(best) - cell.mean:+.2f}"
        published = spread_words(cell.mean, cell.std)
        rows.append([arm_name(cell), str(len(own)), _spread(best), published, _spread(last), difference])
    devices = ", ".join(sorted({run["device"] for run in runs}))
    commits = ", ".join(sorted({_commit_words(run["commit"]) for run in runs}))
    differs = "; ".join(deviations(runs[0])) or "nothing that is known"
    diverged = [f"{run['arm']}, seed {run['seed']}" for run in runs if run["status"] == DIVERGED]
    return "\n\n".join(
        [
            f"ResNet-18, {runs[0]['epochs_planned']} epochs, {runs[0]['precision']}, on {devices}, commit {commits}. "
            f"Test accuracy in percent at the best validation epoch, mean ± standard deviation over n seeds. "
            f"Differs from the paper's setting in: {differs}.",
            markdown(rows),
            *([f"Diverged, scored as chance: {'; '.join(diverged)}."] if diverged else []),
            *(_verdict_words(runs, cell, source) for cell in there if cell.method != BASE),
        ]
    )


def _verdict_words(runs: Sequence[Run], cell: Cell, source: str) -> str:
    verdict, pair = verdict_of(runs, cell, source), f"{arm_name(cell)} against BASE"
    if verdict is None:
        return f"{pair}: no test is possible with fewer than 2 complete pairs."
    if verdict.is_invalid:
        return f"{pair}: invalid. {verdict.reason}"
    (found,) = verdict.candidates
    return (
        f"{pair}: {verdict.verdict.replace('_', ' ')}. Effect {found.effect:+.2f} percentage points, one-sided "
        f"paired t-test p = {found.p_value:.2g}, 95 % lower bound {found.ci_low:+.2f}, n = {verdict.n} pairs. "
        f"{verdict.reason}"
    )


def _commit_words(commit: str | None) -> str:
    # A wheel has none, and what was changed after a commit must not pass for it.
    return "unknown" if commit is None else commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")


def _spread(values: Sequence[float]) -> str:
    return f"{values[0]:.2f}" if len(values) == 1 else spread_words(fmean(values), stdev(values))
