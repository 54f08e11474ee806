"""One door: what a verb refuses, every verb refuses, in the same line and before anything starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.study.local_studies import CONTENT, study_in, tiny_dataset
from tune_bn.cli import app
from tune_bn.errors import TuneBNError
from tune_bn.records.record import COMPLETED
from tune_bn.space.loading import parse_space
from tune_bn.study.folder import StudyFolder

OWN = """
import torch
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 4 * 4, num_classes)

    def forward(self, x):
        print("a network that talks")
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.fc(x.view(x.size(0), -1))

class Two(Net):
    def forward(self, x):
        return super().forward(x) if self.training else (super().forward(x), x)

view = Net
two = Two
frozen = lambda in_channels, num_classes: Net(in_channels, num_classes).requires_grad_(False)
lazy = lambda in_channels, num_classes: nn.Sequential(
    nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(num_classes)
)
"""
VERBS = (
    ["validate", "--space", "tiny.yaml"],
    ["train", "--space", "tiny.yaml"],
    ["inspect", "--space", "tiny.yaml"],
    ["search", "--space", "tiny.yaml", "--output", "out"],
    ["search", "--space", "tiny.yaml", "--output", "out", "--job"],
    ["reproduce", "table1a", "--cell", "gamma=0.1,lr=0.1", "--seeds", "1,2", "--output", "out"],
)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "users_own_door.py").write_text(OWN)
    sys.modules.pop("users_own_door", None)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONTENT))
    return tmp_path


def overriding(**values: Any) -> list[str]:
    return [
        word for key, value in values.items() for word in ("--set", f"{key.replace('__', '.')}={json.dumps(value)}")
    ]


SMALL = {"data__source": "digits", "data__val_size": 40, "data__test_size": 40, "train__epochs": 1}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model__arch": "users_own_door:two"}, "whose output in evaluation mode for 2 images is of tuple"),
        ({"model__arch": "users_own_door:frozen"}, "in which nothing learns"),
        (
            {"model__arch": "resnet18", "model__stem": "imagenet", "data__train_size": 65, "train__batch_size": 64},
            "got 64, which leaves a last batch of one of 65 images",
        ),
    ],
)
def test_what_one_verb_refuses_all_refuse(values: dict[str, Any], words: str, workplace: Path) -> None:
    said = set()
    for verb in VERBS:
        given = {"data__train_size": 40, "train__batch_size": 20} | SMALL | values
        if verb[0] == "reproduce":
            given |= {"data__flip": False, "data__crop_padding": 0}
        found = CliRunner().invoke(app, [*verb, *overriding(**given)])
        assert isinstance(found.exception, TuneBNError), (verb, found.output)
        text = str(found.exception)
        assert words in text
        assert "\n" not in text
        said.add(text.partition(": ")[2])
    assert len(said) == 1
    assert not (workplace / "out").exists() or not list((workplace / "out").glob("*/records.jsonl"))


@pytest.mark.parametrize("name", ["view", "lazy"])
def test_what_one_verb_accepts_all_accept(name: str) -> None:
    remark = "trained with contiguous memory, since channels last it raises RuntimeError: view size is not compatible"
    for verb in VERBS[:3]:
        found = CliRunner().invoke(app, [*verb, *overriding(model__arch=f"users_own_door:{name}", train__epochs=1)])
        assert found.exit_code == 0, found.output
        if verb[0] != "inspect":
            assert (remark in found.output) == (name == "view")


def test_a_study_of_such_a_network_completes(workplace: Path) -> None:
    space = parse_space(CONTENT | {"model": {"arch": "users_own_door:view"}}, "tiny")
    study = study_in(workplace / "one", tiny_dataset(), space)
    study.run()
    records = StudyFolder(workplace / "one").records.read()
    assert len(records) == 4 * 2 + 2 * 2 + 2 * 3
    assert {record.status for record in records} == {COMPLETED}
