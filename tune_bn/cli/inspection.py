"""``tune_bn inspect``: the BN layers of stored runs, of a checkpoint, or of a network at its first step."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from tune_bn.analysis.plan import read_plan
from tune_bn.data.dataset import describe_data, load_dataset
from tune_bn.errors import ConfigError, MethodError, SpecError, StudyError, first_line
from tune_bn.front.surroundings import check_surroundings
from tune_bn.method.networks import load_weights
from tune_bn.observers.console.plain import rendered
from tune_bn.records.diagnostics import Diagnostics, read_diagnostics, to_json
from tune_bn.records.files import write_json
from tune_bn.records.provenance import data_changes
from tune_bn.records.record import COMPLETED, PRUNED, Record
from tune_bn.report.figures.canvas import save
from tune_bn.report.figures.layers import (
    COLUMNS,
    OVERVIEW_EXPLAINED,
    columns_explained,
    layer_figure,
    overview,
    picture_of,
    shown_name,
)
from tune_bn.report.layers_page import heading
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder
from tune_bn.training.config import RunConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.inspection import first_weights, inspect_model, inspect_run
from tune_bn.training.loop import TrainingRun
from tune_bn.training.network_check import check_network
from tune_bn.training.weight_files import read_weight_file, require_tensors, weights_for

MOST_ROWS = 20
"""Layers of a table that is not asked for all of them."""
FEW_ARMS = 2
WIDTH = 80
LETTERS = 21
TRAINED = ("γ₀", "γ", "drift %", "|x̂|>3 %", "|x̂|>6 %", "max|x̂|", "max|y|", "ratio")
UNTRAINED = ("γ₀", "|x̂|>3 %", "|x̂|>6 %", "max|x̂|", "max|y|", "∂x γ=1", "∂x", "ratio")
"""Columns besides the layer's name; as many as 80 columns of text hold."""
OVERVIEW = ("drift %", "|x̂|>3 %", "|x̂|>6 %", "max|x̂|", "max|y|", "ratio")

Say = Callable[[str], None]


def of_arms(folder: StudyFolder, arm: str | None) -> list[Diagnostics]:
    """The stored diagnostics of every arm, or of one.

    Raises:
        StudyError: nothing is stored, or not of this arm.
        RecordError: a file was damaged.
    """
    plan = read_plan(folder.plan_file) if folder.plan_file.exists() else None
    planned = [] if plan is None else [plan.baseline, *plan.rivals, *plan.candidates]
    files = {one.arm: folder.diagnostics / f"{one.arm}.json" for one in planned}
    arms = {name: file for name, file in files.items() if file.exists()}
    if not arms:
        raise StudyError(
            f"STUDY: got {folder.name}, which has no diagnostics yet; accepted: a study with a confirmed run, or "
            "--run KEY for any run of its records"
        )
    if arm is not None and arm not in arms:
        raise StudyError(f"--arm: got {arm!r}; accepted: {', '.join(arms)}; or --run KEY for any other run")
    return [read_diagnostics(arms[name]) for name in ([arm] if arm is not None else arms)]


def of_run(folder: StudyFolder, key: str, say: Say) -> Diagnostics:
    """The diagnostics of a run: stored ones, else it is trained again from its record, and they are stored.

    Raises:
        StudyError: no such run, or one whose weights say nothing.
        DataError, MethodError: the run cannot be trained here.
    """
    for path in sorted(folder.diagnostics.glob("*.json")):
        found = read_diagnostics(path)
        if found.run == key and found.problem is None:
            return found
    record = _record(folder, key)
    space = folder.space()
    if space.trainer is not None:
        accepted = "a run of the built-in loop"
        raise StudyError(f"--run: got {key!r}, which a script of your own has trained; accepted: {accepted}")
    config, device = space.run_config(record.config), device_of(space)
    data = describe_data(space.data)
    check_network(config, data.image_shape, data.num_classes)
    say(f"{key}: no diagnostics are stored; training it again on {device}, {record.epochs} epochs")
    dataset = load_dataset(space.data).without_test()
    if changes := data_changes(record.data, dataset.identity):
        raise StudyError(
            f"--run: got {key!r}, which saw other data than there is now: {'; '.join(changes)}; accepted: that data"
        )
    run = TrainingRun(config, DeviceData(dataset, device), record.seed)
    while not run.done and run.epochs < record.epochs:
        point = run.train_epoch()
        say(f"epoch {point.step:>3}/{record.epochs}  val {point['val_accuracy']:.2f} %")
    recorded = record.scores["val_accuracy"]
    if run.val_accuracy != recorded:
        say(
            f"note: this time its best validation accuracy is {run.val_accuracy:.2f} %, its record says "
            f"{recorded:.2f} %: not the same run bit for bit (it ran on {record.device} with "
            f"{', '.join(f'{name} {version}' for name, version in record.versions.items())})"
        )
    found = replace(_inspected(lambda: inspect_run(run), config), run=key, config=record.config)
    folder.diagnostics.mkdir(exist_ok=True)
    folder.plots.mkdir(exist_ok=True)
    write_json(folder.diagnostics / f"{key}.json", to_json(found))
    if (figure := layer_figure(found, heading(found))) is not None:
        save(figure, folder.plots / picture_of(key))
    return found


def _record(folder: StudyFolder, key: str) -> Record:
    records = [record for record in folder.records.read() if record.key == key]
    if not records:
        known = [record.key for record in folder.records.read()]
        examples = f"such as {known[-1]}" if known else "but this study has none yet"
        raise StudyError(f"--run: got {key!r}; accepted: the key of one of {len(known)} recorded runs, {examples}")
    if records[-1].status not in (COMPLETED, PRUNED):
        raise StudyError(
            f"--run: got {key!r}, which {records[-1].status} ({records[-1].reason}); accepted: a run that was "
            "completed or pruned"
        )
    return records[-1]


def of_first_step(space: Space, given: Mapping[str, Any], seed: int) -> Diagnostics:
    """A network before its first step.

    Raises:
        SpecError: a given value is not acceptable.
        DataError, MethodError, TrackingError: the space is not; see
            :func:`tune_bn.front.surroundings.check_surroundings`.
    """
    config = _config(space, given)
    check_surroundings(space, single=config)
    data = _data(space)
    start = first_weights(config, data, seed)
    found = _inspected(lambda: inspect_model(start, start, config, data, seed, epoch=0), config)
    return replace(found, config=_words(space, config))


def of_checkpoint(space: Space, given: Mapping[str, Any], file: Path, seed: int | None, say: Say) -> Diagnostics:
    """The weights in a file; initial values and gradients are those of a fresh network of ``seed``.

    Args:
        space: network and data.
        given: γ and c of the run that gave the weights; needed where the file does not say them.
        file: a checkpoint of a study, or whatever :mod:`tune_bn.training.weight_files` finds the network in.
        seed: None: the seed in a checkpoint of a study, else 0.
        say: told what was left out.

    Raises:
        SpecError: γ or c is not acceptable, not known, or not what the file says.
        MethodError: the file holds no weights, or not those of this network.
        DataError, MethodError, TrackingError: the space is not usable.
    """
    stored = read_weight_file(file)
    content, seed, epoch = _of_study(stored, file, seed)
    require_tensors(content, file)
    config = _config_of_weights(space, stored, given, file)
    check_surroundings(space, single=config)
    data = _data(space)
    start, model = first_weights(config, data, seed), first_weights(config, data, seed)
    misfit = f"--checkpoint: {file} does not fit {config.model.arch} with norm: {config.model.norm}"
    found_weights = weights_for(model.state_dict(), content, file, misfit)
    for remark in found_weights.remarks:
        say(f"note: {remark}")
    # Statistics that no result depends on here may be missing: old checkpoints lack num_batches_tracked.
    load_weights(model, found_weights.weights, strict=False)
    found = _inspected(lambda: inspect_model(model, start, config, data, seed, epoch=epoch), config)
    return replace(found, config=_words(space, config))


def device_of(space: Space) -> torch.device:
    """Where the space wants to run, as far as this machine has it."""
    return torch.device("cuda" if space.resources.gpu and torch.cuda.is_available() else "cpu")


def _data(space: Space) -> DeviceData:
    return DeviceData(load_dataset(space.data).without_test(), device_of(space))


def _config(space: Space, given: Mapping[str, Any]) -> RunConfig:
    try:
        found: RunConfig = space.run_config(given)
        return found
    except ConfigError as error:
        raise SpecError(f"--{error}") from None


def _config_of_weights(space: Space, stored: Any, given: Mapping[str, Any], file: Path) -> RunConfig:
    """What the weights were trained with: as a checkpoint of a study says, else as the user does, never the space.

    A space knows where its search begins, not where a run of it began: its drift would be that from another γ.
    """
    task = stored.get("task") if isinstance(stored, Mapping) else None
    if not (isinstance(task, Mapping) and isinstance(task.get("overrides"), Mapping)):
        for key, what in (("gamma", "the initial γ"), ("c", "the divisor of γ's learning rate")):
            if key not in given:
                raise SpecError(
                    f"--{key}: not given, and {file} does not say it; accepted: {what} that these weights were trained "
                    "with, such as 1, that of a network as PyTorch makes it"
                )
        return _config(space, given)
    overrides = dict(task["overrides"])
    for key, value in given.items():
        if key not in overrides or overrides[key] != value:
            own = ", ".join(f"{name} = {part}" for name, part in overrides.items() if name.partition(".")[0] == key)
            raise SpecError(f"--{key}: got {value}; accepted: {own}, with which {file} was trained, or no --{key}")
    config = _config(space, overrides)
    model = asdict(config.model)
    if task.get("model") != model:
        other = [key for key, value in model.items() if dict(task["model"]).get(key) != value]
        raise SpecError(
            f"--space: {space.name} has another model than {file} was trained with (they differ in "
            f"{', '.join(f'model.{key}' for key in other)}); accepted: the space.yaml of its study"
        )
    return config


def _words(space: Space, config: RunConfig) -> dict[str, Any]:
    return {"arch": config.model.arch} | space.normalized({"gamma": config.model.gamma, "c": config.train.c})


def _inspected(look: Callable[[], Diagnostics], config: RunConfig) -> Diagnostics:
    try:
        return look()
    except (RuntimeError, ValueError) as error:
        reason = first_line(error)
        raise MethodError(
            f"model.arch: got {config.model.arch}, whose layers cannot be inspected on these images ({reason}); "
            "accepted: a network that takes a batch of them"
        ) from None


def _of_study(content: Any, file: Path, seed: int | None) -> tuple[Any, int, int | None]:
    """Content, seed and epoch of one run in a checkpoint of a study; of any other content the seed alone."""
    runs = content.get("runs") if isinstance(content, Mapping) else None
    if not (isinstance(runs, list) and runs and all(isinstance(run, Mapping) and "seed" in run for run in runs)):
        return content, seed or 0, None
    seeds = [run["seed"] for run in runs]
    if seed is not None and seed not in seeds:
        raise MethodError(f"--seed: got {seed}; accepted: {', '.join(map(str, seeds))}, which {file} holds")
    run = runs[0 if seed is None else seeds.index(seed)]
    # Not its best weights, which it holds too: those of the last epoch.
    return run.get("model"), run["seed"], len(run["curve"])


def as_text(found: Sequence[Diagnostics], *, every: bool) -> str:
    """Tables for people: one row per network where there are several, and the layers where they are few."""
    blocks = []
    if len(found) > 1:
        rows = [[one.arm or one.run or "", *(overview(one)[column] for column in OVERVIEW)] for one in found]
        blocks.append(_table(rows, ["arm", *OVERVIEW]))
        blocks.append(textwrap.fill(OVERVIEW_EXPLAINED, WIDTH))
    if len(found) > FEW_ARMS:
        blocks.append("--arm NAME shows the layers of one arm")
    else:
        blocks += [_layers(one, every) for one in found]
        columns = dict.fromkeys(column for one in found if one.layers for column in _columns(one))
        if columns:
            blocks.append(textwrap.fill(columns_explained(columns), WIDTH))
    return "\n\n".join(blocks)


def _columns(found: Diagnostics) -> Sequence[str]:
    return UNTRAINED if found.epoch == 0 else TRAINED


def _layers(found: Diagnostics, every: bool) -> str:
    lines = [heading(found)]
    if found.problem is not None:
        return "\n".join([*lines, f"not known: {found.problem}"])
    count = len(found.layers)
    places = range(count) if every or count <= MOST_ROWS else np.linspace(0, count - 1, MOST_ROWS).round().astype(int)
    columns = _columns(found)
    rows = [
        [shown_name(found.layers[place], LETTERS), *(COLUMNS[column](found.layers[place]) for column in columns)]
        for place in places
    ]
    lines.append(_table(rows, ["layer", *columns]))
    if len(rows) < count:
        lines.append(f"{len(rows)} of {count} layers; --all shows every one")
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(header):
        shown.add_column(name, justify="right" if place else "left")
    for row in rows:
        shown.add_row(*row)
    return rendered(shown)
