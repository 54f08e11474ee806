"""The network of a run as it is used: from the weights that its study kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import load_dataset
from tune_bn.errors import MethodError
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.trainer import Place
from tune_bn.runners.checkpoint import CheckpointStore
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.trainers.builtin_model import trained_network
from tune_bn.training.config import RunConfig, TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = DataConfig(source="digits", train_size=40, val_size=40, test_size=40)


@pytest.mark.parametrize("model", [{"gamma": 0.2}, {"norm": "rbn"}, {"norm": "iebn"}, {"input_norm": "bn"}], ids=str)
def test_it_scores_what_the_run_scored_and_can_be_exported(tmp_path: Path, model: dict[str, Any]) -> None:
    config = RunConfig(ModelConfig(arch="resnet8", **model), DATA, TrainConfig(epochs=2, batch_size=20))
    trainer = BuiltinTrainer(load_dataset(DATA))
    run = trainer.open(Place()).start(config, 5)
    while not run.done:
        run.advance()
    store = CheckpointStore(tmp_path)
    store.save({"runs": [dict(run.state() or {})]})
    network, images, logits, step = trained_network(trainer, config, 5, tmp_path / "latest.pt")
    assert (step, images.shape[0], logits.shape) == (2, 2, (2, 10))
    assert not network.training
    val = trainer.dataset.val
    pixels = torch.from_numpy(val.images).float() / 255
    right = (network(pixels).argmax(1).numpy() == val.labels).mean()
    assert 100 * right == pytest.approx(run.curve[-1]["val_accuracy"])
    # As MLflow saves it; a batch of another size must go through.
    batch = torch.export.Dim.AUTO
    exported = torch.export.export(network, (torch.from_numpy(images),), dynamic_shapes=[{0: batch}])
    torch.testing.assert_close(exported.module()(pixels), network(pixels), rtol=1e-4, atol=1e-4)
    with pytest.raises(MethodError, match=r"holds no run of seed 6; accepted: the file as the study wrote it"):
        trained_network(trainer, config, 6, tmp_path / "latest.pt")
    other = replace(config, model=replace(config.model, arch="resnet18"))
    with pytest.raises(MethodError, match="does not fit resnet18"):
        trained_network(trainer, other, 5, tmp_path / "latest.pt")
