"""Weights out of files as people have them: the right ones, or one line that says why not."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import struct
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tune_bn.errors import MethodError
from tune_bn.method.resnet import build_network
from tune_bn.training.weight_files import read_weight_file, require_tensors, weights_for

MISFIT = "--checkpoint: FILE does not fit resnet8"


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network("resnet8", 1, 10)


OWN = network(1).state_dict()
WEIGHTS = network(2).state_dict()


def found_in(file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    content = read_weight_file(file)
    require_tensors(content, file)
    found = weights_for(OWN, content, file, MISFIT)
    return found.weights, found.remarks


def saved(content: Any, folder: Path, name: str = "mine.pt", **options: Any) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def renamed(prefix: str, weights: dict[str, Any] = WEIGHTS) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def assert_right(file: Path, *remarks: str) -> None:
    weights, said = found_in(file)
    assert weights.keys() == OWN.keys()
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in OWN)
    assert len(said) == len(remarks)
    assert all(part in line for part, line in zip(remarks, said, strict=True))
    network().load_state_dict(weights)


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.", "net.", "network."),
        *("model.module.", "model._orig_mod.module.", "net.model._orig_mod.", "_forward_module.model.", "backbone.0."),
        *("_fsdp_wrapped_module._orig_mod.", "lightning_module.net.model."),
    ],
)
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model", "net", "state_dict_ema"])
def test_names_with_wrappers_in_dicts_of_any_name(tmp_path: Path, prefix: str, key: str | None) -> None:
    weights = renamed(prefix)
    assert_right(saved(weights if key is None else {"epoch": 3, key: weights, "lr": 0.1}, tmp_path))


def test_wrappers_within_the_names(tmp_path: Path) -> None:
    weights = {
        name.replace("stages.0.", "stages.0._orig_mod.").replace("stages.1.", "stages.1.module."): value
        for name, value in WEIGHTS.items()
    }
    assert_right(saved(weights, tmp_path))


def test_a_checkpoint_as_training_scripts_write_it(tmp_path: Path) -> None:
    model = network(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    model.load_state_dict(WEIGHTS)
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3).state_dict(),
        "args": argparse.Namespace(lr=0.1, output=pathlib.Path("here")),
        "best_acc1": np.float64(71.5),
        "history": np.arange(3.0),
        "counts": defaultdict(int, {"a": 1}),
        "epoch": 9,
    }
    assert_right(saved(content, tmp_path))
    assert_right(saved(content, tmp_path, _use_new_zipfile_serialization=False))


def test_a_checkpoint_of_lightning(tmp_path: Path) -> None:
    content = {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict(renamed("model.") | {"criterion.weight": torch.ones(10), "acc.total": torch.ones(1)}),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": {"lr": 0.1},
    }
    assert_right(saved(content, tmp_path))


def test_the_trained_weights_are_taken_before_averaged_ones_and_that_is_said(tmp_path: Path) -> None:
    other = network(3).state_dict()
    assert_right(
        saved({"model_ema": other, "model": WEIGHTS}, tmp_path), "holds the network 2 times; taken is model, not"
    )
    file = saved({"state_dict_ema": other, "state_dict": WEIGHTS}, tmp_path)
    assert_right(file, "taken is state_dict, not state_dict_ema")
    twins = renamed("online.") | renamed("target.", other)
    assert_right(saved({"state_dict": twins}, tmp_path), "taken is state_dict.online, not state_dict.target")
    averaged = torch.optim.swa_utils.AveragedModel(network(2))
    averaged.module.load_state_dict(WEIGHTS)
    assert_right(saved(averaged.state_dict(), tmp_path), "also holds n_averaged, which the network lacks; left out")


def test_another_head_is_left_out_and_named(tmp_path: Path) -> None:
    extra = {"head2.weight": torch.ones(2), "aux.bn.running_mean": torch.ones(2)}
    assert_right(saved(WEIGHTS | extra, tmp_path), "also holds head2, aux, which the network lacks; left out")


def test_arrays_of_numpy(tmp_path: Path) -> None:
    arrays = {name: value.numpy() for name, value in WEIGHTS.items()}
    assert_right(saved({"net": arrays}, tmp_path))
    np.savez(tmp_path / "mine.npz", **arrays)
    assert_right(tmp_path / "mine.npz")
    np.savez_compressed(tmp_path / "small.npz", **renamed("module.", arrays))
    assert_right(tmp_path / "small.npz")


NAMES = {torch.float32: "F32", torch.int64: "I64", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}


def safetensors(weights: dict[str, Tensor], metadata: Any = None) -> bytes:
    """The format as its authors describe it."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for name, value in weights.items():
        raw = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        offsets = [len(body), len(body) + len(raw)]
        header[name] = {"dtype": NAMES[value.dtype], "shape": list(value.shape), "data_offsets": offsets}
        body += raw
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    return struct.pack("<Q", len(words)) + words + body


@pytest.mark.parametrize("name", ["model.safetensors", "renamed.bin"])
def test_safetensors(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(safetensors(renamed("model."), {"format": "pt"}))
    assert_right(tmp_path / name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_safetensors_in_other_precisions(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {name: value.to(dtype) if value.is_floating_point() else value for name, value in WEIGHTS.items()}
    (tmp_path / "m.safetensors").write_bytes(safetensors(weights))
    found, _ = found_in(tmp_path / "m.safetensors")
    assert all(torch.equal(found[name], weights[name]) for name in OWN)


def damaged(change: Callable[[dict[str, Any]], Any]) -> bytes:
    whole = safetensors(WEIGHTS)
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    change(header)
    words = json.dumps(header).encode()
    return struct.pack("<Q", len(words)) + words + whole[8 + length :]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (safetensors(WEIGHTS)[:-4], "a damaged safetensors file ('.*' does not lie where its header says)"),
        (safetensors(WEIGHTS)[:40], "a damaged safetensors file (.* in its header)"),
        (struct.pack("<Q", 9) + b"{" + b"x" * 60, "a damaged safetensors file"),
        (damaged(lambda h: h["fc.bias"].update(dtype="Q4")), "'fc.bias' is of 'Q4', not of F64, F32"),
        (damaged(lambda h: h["fc.bias"].update(shape=[-1])), "'fc.bias' does not lie where"),
        (damaged(lambda h: h["fc.bias"].update(shape=[1e9])), "'fc.bias' does not lie where"),
        (damaged(lambda h: h["fc.bias"].update(data_offsets=[0, 1 << 60])), "'fc.bias' does not lie where"),
        (damaged(lambda h: h.update({"fc.bias": 3})), "a damaged safetensors file (TypeError in its header)"),
    ],
)
def test_a_damaged_safetensors_file_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    pattern = problem.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(MethodError, match=f"--checkpoint: got .*{pattern}.*; accepted: a state dict"):
        found_in(tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", ["missing.pt", "a" * 300, "a\0b", "missing/a.pt"])
def test_a_name_that_leads_to_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MethodError, match="which is no file; accepted: a file with a state dict"):
        read_weight_file(tmp_path / name)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


class Evaluated:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("open('executed', 'w')",)


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize(("payload", "name"), [(Hostile(), r"\w+\.system"), (Evaluated(), r"[\w.]*eval")])
def test_a_hostile_pickle_is_refused_and_executes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: Any, name: str, modern: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    file = saved({"model": WEIGHTS, "args": payload}, tmp_path, _use_new_zipfile_serialization=modern)
    with pytest.raises(MethodError, match=rf"it holds {name}, which might execute code\); accepted: a state dict"):
        read_weight_file(file)
    assert not (tmp_path / "executed").exists()


def test_a_scripted_network_is_refused_with_a_way_out(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "scripted.pt")
    with pytest.raises(MethodError, match=r"a TorchScript archive.*torch.jit.load\(FILE\).state_dict\(\)"):
        read_weight_file(tmp_path / "scripted.pt")


def test_sharded_checkpoints_and_pointers_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(MethodError, match="the folder of a sharded checkpoint; accepted: one file"):
        read_weight_file(folder)
    with pytest.raises(MethodError, match="the index of a sharded checkpoint; accepted: one file"):
        read_weight_file(folder / "model.safetensors.index.json")
    half = dict(list(WEIGHTS.items())[:9])
    with pytest.raises(MethodError, match=r"it lacks 'stages.*, as one of several files of a sharded checkpoint does"):
        found_in(saved(half, tmp_path, "pytorch_model-00001-of-00002.bin"))
    (tmp_path / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(MethodError, match="a pointer of Git LFS; accepted: the file itself, after git lfs pull"):
        read_weight_file(tmp_path / "lfs.pt")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            renamed("model.", build_network("resnet20", 1, 10).state_dict()),
            "it has 'stages.0.1.*which the network lacks",
        ),
        (WEIGHTS | {"fc.weight": torch.ones(3, 64)}, r"'fc.weight' has the shape \(3, 64\), in the network \(10, 64\)"),
        (renamed("net.", WEIGHTS | {"bn1.weight": torch.ones(3)}), r"'bn1.weight' has the shape \(3,\)"),
        (WEIGHTS | {"3.weight": torch.ones(3)}, "it has '3.weight', which the network lacks"),
        (
            WEIGHTS | {"fc.bias": torch.ones(10, dtype=torch.int8)},
            "'fc.bias' is of torch.int8, in the network of torch.f",
        ),
        ({"a": {"b.weight": torch.ones(3)}}, "it lacks 'conv1.weight' .*, and holds 'b.weight'"),
        (
            {k: v for k, v in WEIGHTS.items() if k != "bn1.weight"},
            "it lacks 'bn1.weight'; accepted: weights of the",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, content: Any, problem: str) -> None:
    with pytest.raises(MethodError, match=f"{MISFIT}: {problem}"):
        found_in(saved(content, tmp_path))


@pytest.mark.parametrize("content", [[1], {}, {"epoch": 3}, {"runs": [3]}, {3: {4: 5}}])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(MethodError, match=r"which holds a .*; accepted: a state dict"):
        found_in(saved(content, tmp_path))


def test_a_network_with_a_part_that_is_called_module(tmp_path: Path) -> None:
    own = nn.ModuleDict({"module": nn.BatchNorm1d(2), "head": nn.Linear(2, 2)}).state_dict()
    file = saved({f"module.{name}": value for name, value in own.items()}, tmp_path)
    found = weights_for(own, read_weight_file(file), file, MISFIT)
    assert found.weights.keys() == own.keys()
