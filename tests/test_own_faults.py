"""A mistake of ours, such as a name that a library no longer has, does not read as an outage of somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import GetTimeoutError, RpcError

import tune_bn
from tune_bn.errors import RunnerError, own_fault
from tune_bn.method import residual
from tune_bn.method.residual import residual_batchnorms
from tune_bn.method.resnet import build_network
from tune_bn.observers.mlflow.observer import MlflowObserver
from tune_bn.runners import checkpoint
from tune_bn.runners.checkpoint import CheckpointStore, CheckpointWriter
from tune_bn.runners.ray import trainable as ray_trainable
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.runners.ray.trainable import DRAIN_SECONDS, DrainNotice
from tune_bn.training.weight_files import read_weight_file

HERE = Path(tune_bn.__file__).parent


def raised_at(line: str, filename: str) -> Exception:
    """The error of a line of code in a file of that name."""
    try:
        exec(compile(line, filename, "exec"), {"torch": torch})
    except Exception as error:
        return error
    raise AssertionError(line)


@pytest.mark.parametrize(
    "line",
    [
        "torch.no_such_name",
        "torch.load(no_such=1)",
        "import no_such_module",
        "no_such_name",
        "{}['a']",
        "assert False",
    ],
)
def test_a_mistake_is_told_by_the_line_that_makes_it(line: str) -> None:
    assert own_fault(raised_at(line, str(HERE / "made/up.py"))) == "tune_bn/made/up.py:1"
    assert own_fault(raised_at(line, "/somewhere/else.py")) is None


@pytest.mark.parametrize(
    "line", ["1 / 0", "raise OSError('full')", "raise RuntimeError", "torch.ones(2) @ torch.eye(3)"]
)
def test_other_errors_are_no_mistakes_of_ours(line: str) -> None:
    assert own_fault(raised_at(line, str(HERE / "up.py"))) is None


def test_a_mistake_within_a_library_is_not_ours() -> None:
    assert own_fault(raised_at("import json; json.loads(3)", str(HERE / "up.py"))) is None
    assert own_fault(KeyError("never raised")) is None


class Client:
    """Stands for Ray's client of the cluster's head."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get_draining_nodes(self, timeout: float) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def notice(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], DrainNotice]:
    context = SimpleNamespace(get_node_id=lambda: "here", gcs_address="127.0.0.1:1")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)

    def make(client: Any) -> DrainNotice:
        monkeypatch.setattr(ray_trainable, "GcsClient", lambda address: client)
        return DrainNotice()

    return make


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        ({"here": 0}, True),
        ({"there": 0}, False),
        ({}, False),
        (RpcError("unavailable"), False),
        (GetTimeoutError("no answer"), False),
        (ConnectionError("refused"), False),
    ],
)
def test_a_head_that_is_away_for_a_moment_is_no_reason_to_stop(notice: Any, answer: Any, given: bool) -> None:
    assert notice(Client(answer)).given() is given


def test_a_name_that_ray_no_longer_has_fails_before_the_first_run(notice: Any) -> None:
    with pytest.raises(AttributeError, match="get_draining_nodes"):
        notice(SimpleNamespace(draining_nodes=lambda timeout: {}))


@pytest.mark.parametrize("mistake", [TypeError("timeout"), AttributeError("x"), ValueError("x"), KeyError("x")])
def test_another_signature_or_answer_of_ray_is_loud(notice: Any, mistake: Exception) -> None:
    with pytest.raises(type(mistake)):
        notice(Client(mistake)).given()
    with pytest.raises(TypeError):
        notice(SimpleNamespace(get_draining_nodes=lambda seconds: {})).given()
    assert DRAIN_SECONDS > 0


def test_ray_is_asked_by_names_that_it_has() -> None:
    assert ray_trainable.NodeDrainingError(error_msg="x").preempted
    assert isinstance(ray.exceptions.RayActorError.preempted, property)


def test_an_argument_that_ray_no_longer_takes_is_not_a_machine_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda address: None)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        connect(RayOptions())

    def refused(**_: Any) -> None:
        raise RuntimeError("no shared memory")

    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(RunnerError, match="Ray cannot be started on this machine"):
        connect(RayOptions())


def test_a_state_that_cannot_be_written_is_loud_and_a_full_disk_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = CheckpointWriter(CheckpointStore(tmp_path / "run"), 0)
    assert writer.save({"state": lambda: None})
    writer.flush()
    with pytest.raises(Exception, match="pickle"):
        writer.save({"state": torch.ones(1)})
    writer = CheckpointWriter(CheckpointStore(tmp_path / "run"), 0)
    for trouble in (OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")):

        def full(*_: Any, trouble: Exception = trouble) -> None:
            raise trouble

        monkeypatch.setattr(torch, "save", full)
        assert writer.save({"state": torch.ones(1)})
        writer.flush()
        assert writer.problem


@pytest.mark.parametrize(
    "read", [lambda file: checkpoint._read(file, torch.device("cpu")), read_weight_file], ids=["checkpoint", "weights"]
)
def test_an_argument_that_torch_no_longer_takes_is_not_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any]
) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "latest.pt")
    monkeypatch.setattr(torch, "load", lambda path: None)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        read(tmp_path / "latest.pt")


def test_a_mistake_while_tracing_is_not_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual, "_ConvNd", "a name that torch no longer has")
    with pytest.raises(TypeError, match="unsupported operand"):
        residual_batchnorms(build_network("resnet8", 1, 10))


def test_mlflow_is_not_blamed_for_a_mistake_of_ours() -> None:
    said: list[str] = []
    observer = MlflowObserver("http://server:5000", artifact_root=None, warn=said.append)
    observer._let_go(raised_at("torch.no_such_name", str(HERE / "observers/mlflow/store.py")))
    assert said[0].startswith("a fault of tune_bn itself (tune_bn/observers/mlflow/store.py:1, AttributeError: ")
    assert "the study is not shown there; it goes on" in said[0]
    observer = MlflowObserver("http://server:5000", artifact_root=None, warn=said.append)
    observer._let_go(ConnectionError("refused"))
    assert said[1].startswith("MLflow at http://server:5000 cannot be used now (ConnectionError: refused)")
