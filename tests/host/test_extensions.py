"""A package that is not this one adds a norm layer, a data source and a sampler: a row and an entry point each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tune_bn.host.extensions import Table, load
from tune_bn.method.norms import NORMS, Norm
from tune_bn.training.versions import library_versions

PACKAGE = """
import numpy as np
from optuna.samplers import RandomSampler
from torch import Tensor, nn

from tune_bn.data.registry import Source
from tune_bn.data.sources.base import ArraySet, Outline
from tune_bn.method.norms import Norm
from tune_bn.method.rbn import RepresentativeBatchNorm2d
from tune_bn.protocols.samplers import SamplerKind


class Doubled(RepresentativeBatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        print("doubled", end="", flush=True)
        return 2 * super().forward(input)


class Stripes:
    def read(self, config):
        labels = np.arange(200, dtype=np.int64) % 2
        images = np.zeros((200, 1, 8, 8), np.uint8)
        images[labels == 1, :, ::2] = 255
        return ArraySet("stripes", ("plain", "striped"), (images, labels), None)

    def outline(self, config):
        found = self.read(config)
        return Outline(found.classes, found.train[1], None, (1, 8, 8))


STRIPES = Stripes()


def draw(*, distributions, seed, own_seed):
    return RandomSampler(seed=own_seed)


norm = Norm("doubled", "twice representative", "outside:Doubled")
source = Source("stripes", "stripes", "outside:STRIPES", arrays=True, null_means={"val_size": 50, "test_size": 50})
sampler = SamplerKind("chance", "another random one", "outside:draw")
other_name = Norm("another", "a row of another name")
"""
ENTRY_POINTS = """
[tune_bn.norms]
doubled = outside:norm
rbn = outside:norm
broken = outside:nothing
misnamed = outside:other_name

[tune_bn.sources]
stripes = outside:source

[tune_bn.samplers]
chance = outside:sampler
"""
SPACE = """
name: outside
model: {arch: resnet8, norm: doubled}
data: {source: stripes}
train: {epochs: 1, lr: 0.1, batch_size: 64}
search: {gamma: {log_uniform: [0.01, 1.0]}}
sampler: {name: chance}
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside.py").write_text(PACKAGE)
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "tune_bn", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_space_names_what_another_package_adds(outside: Path) -> None:
    done = run(outside, "train", "--space", "space.yaml", "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert "doubled" in done.stdout


@pytest.mark.parametrize("name", ["broken", "misnamed"])
def test_a_row_that_cannot_be_loaded_is_one_line(outside: Path, name: str) -> None:
    (outside / "space.yaml").write_text(SPACE.replace("norm: doubled", f"norm: {name}"))
    done = run(outside, "validate", "--space", "space.yaml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"'{name}'" in done.stderr
    assert "entry point outside:" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_accepted_names_the_added_rows(outside: Path) -> None:
    (outside / "space.yaml").write_text(SPACE.replace("name: chance", "name: annealing"))
    done = run(outside, "validate", "--space", "space.yaml")
    assert done.returncode == 2
    assert "sampler.name: got 'annealing'; accepted: tpe | gp | cmaes | qmc | random | grid | chance" in done.stderr


def test_a_name_of_the_packages_own_cannot_be_taken(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(outside)
    table = Table("tune_bn.norms", Norm, *(NORMS[name] for name in ("base", "rbn")))
    assert list(table) == ["base", "rbn", "doubled", "broken", "misnamed"]
    assert len(table) == 5
    assert table["rbn"] is NORMS["rbn"]
    assert "iebn" not in table
    with pytest.raises(KeyError):
        table["iebn"]


@pytest.mark.parametrize("name", [name for name in NORMS if NORMS[name].layer])
def test_every_row_names_layers_that_are_there(name: str) -> None:
    assert issubclass(load(NORMS[name].followed), load(NORMS[name].layer))


def test_the_code_of_an_added_row_is_part_of_what_decides_a_score(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "extensions" not in library_versions.__wrapped__()
    monkeypatch.syspath_prepend(outside)
    before = library_versions.__wrapped__()["extensions"]
    assert before.startswith("outside 1.0 (")
    (outside / "outside.py").write_text(PACKAGE + "\n# Another state of it, under the same version.\n")
    assert library_versions.__wrapped__()["extensions"] != before
