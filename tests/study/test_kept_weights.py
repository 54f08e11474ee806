"""``resources.keep_weights: confirmed``: the last weights of every confirmation run stay, and can be looked into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.study.local_studies import CONTENT, Follower, tiny_dataset
from tune_bn.cli import main
from tune_bn.front.wiring import sampler_of
from tune_bn.runners.local import LocalRunner
from tune_bn.space.loading import parse_space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.versions import commit


@pytest.mark.parametrize("keep", ["none", "confirmed"])
def test_the_weights_of_the_confirmation_stay_where_they_are_asked_for(
    tmp_path: Path, keep: str, capsys: pytest.CaptureFixture[str], one_thread: Any
) -> None:
    small = {"budget": {"trials": 1, "finalists": 1}, "seeds": {"search": [9], "select": [8], "confirm": [1, 2]}}
    space = parse_space(CONTENT | small | {"resources": {"keep_weights": keep}}, "tiny")
    folder, dataset = StudyFolder(tmp_path / "one").created(space), tiny_dataset()
    Study(
        folder,
        space,
        runner=LocalRunner(BuiltinTrainer(dataset), checkpoints=folder.checkpoints, keep_weights=keep == "confirmed"),
        make_sampler=lambda arm, outcomes: sampler_of(space, folder, arm, outcomes),
        observer=Follower(),
        trainer=BuiltinTrainer(dataset, archs=space.archs),
        commit=commit(),
    ).run()
    kept = sorted(path.name for path in folder.weights.glob("*"))
    confirmed = [record for record in folder.records.read() if record.stage == "confirm"]
    assert kept == ([] if keep == "none" else sorted(f"{record.key}.pt" for record in confirmed))
    assert not list(folder.checkpoints.glob("*"))
    if keep == "none":
        return
    record = next(record for record in confirmed if record.arm == "candidate-1")
    file = folder.weights / f"{record.key}.pt"
    (run,) = torch.load(file, weights_only=True)["runs"]
    assert (run["seed"], len(run["curve"])) == (record.seed, record.epochs)
    with pytest.raises(SystemExit):
        main(["inspect", "--checkpoint", str(file), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {key: found["config"][key] for key in record.config} == record.config
    assert (found["seed"], found["epoch"]) == (record.seed, record.epochs)
