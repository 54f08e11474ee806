"""On what a run ran, as its record will say it."""

from __future__ import annotations

import platform

import pytest
import torch

from tune_bn.records.provenance import FACTS, merged_environment
from tune_bn.training.environment import environment, precision_in_effect

CPU = torch.device("cpu")


def test_a_cpu_tells_model_instruction_set_and_threads() -> None:
    found = environment(CPU, "fp32")
    assert found["device_kind"] == "cpu"
    assert found["device_model"] not in ("", "cpu")
    assert (found["threads"], found["precision"], found["deterministic"]) == (torch.get_num_threads(), "fp32", True)
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert set(found) <= {fact.key for fact in FACTS}, "what is recorded is judged"


def test_a_cpu_without_a_name_is_called_by_its_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    from tune_bn.training import environment as module

    monkeypatch.setattr(module.Path, "read_text", lambda *_, **__: "processor : 0\nCPU part : 0xd40\n")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert module._model.__wrapped__("cpu", None) == platform.machine()


@pytest.mark.parametrize(
    ("precision", "kind", "variables", "effect"),
    [
        ("fp32", "cpu", {}, "fp32"),
        ("tf32", "cpu", {}, "fp32"),
        ("tf32", "cuda", {}, "tf32"),
        ("bf16", "cpu", {}, "bf16"),
        ("fp32", "cuda", {"NVIDIA_TF32_OVERRIDE": "1"}, "fp32, NVIDIA_TF32_OVERRIDE=1"),
        ("tf32", "cuda", {"NVIDIA_TF32_OVERRIDE": "0"}, "tf32, NVIDIA_TF32_OVERRIDE=0"),
        ("fp32", "cpu", {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}, "fp32, ONEDNN_DEFAULT_FPMATH_MODE=BF16"),
    ],
)
def test_the_precision_is_what_is_computed_in(
    precision: str, kind: str, variables: dict[str, str], effect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert precision_in_effect(precision, kind) == effect


def test_a_run_that_moved_tells_both_places() -> None:
    one, two = {"device_model": "A100", "threads": 1}, {"device_model": "H100", "threads": 1, "cuda": "13"}
    moved = merged_environment(one, two)
    assert moved == {"device_model": "A100 + H100", "threads": 1, "cuda": "13"}
    assert merged_environment(moved, one)["device_model"] == "A100 + H100"
    assert merged_environment(one, one) == one
