"""The weights of confirmed runs as MLflow models: safe to load, without this package, for batches of any size.

Importing this module loads MLflow. It knows networks as whatever MLflow takes them for.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import innermost, own_fault
from tune_bn.records.record import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class TrainedModel:
    """A network with its weights, as it is used."""

    network: Any
    """A ``torch.nn.Module`` in evaluation mode, on the CPU."""
    example: Any
    """Two of its inputs, an array."""
    output: Any
    """What it gives for them, an array."""
    step: int
    """The step after which it had these weights."""


ModelOf = Callable[[Record], TrainedModel | None]
"""The network of a run; None: its weights were not kept. May raise whatever reading and building raises."""


def model_or_remark(model_of: ModelOf, record: Record, warn: Callable[[str], None]) -> TrainedModel | None:
    """The network of a run; None, and a line that says so, where it cannot be made."""
    try:
        return model_of(record)
    except Exception as error:
        # A network of the user's own may object to anything.
        place = own_fault(error)
        words = innermost(error) if place is None else f"a fault of tune_bn itself, {place}, {innermost(error)}"
        warn(f"MLflow: no model of {record.key} ({words})")
        return None


def log_model(
    client: MlflowClient, experiment_id: str, run_id: str, record: Record, model: TrainedModel, tags: Mapping[str, str]
) -> str:
    """Make a logged model of a run's network; returns its id.

    It is an exported graph (``model.pt2``), which no class and no pickle is needed to load, with a signature and the
    example.
    """
    import mlflow.pytorch
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model, infer_signature

    params = {name: str(value) for name, value in record.config.items()}
    logged = client.create_logged_model(
        experiment_id, name=record.key, source_run_id=run_id, tags=dict(tags), params=params, model_type="tune_bn"
    )
    try:
        with tempfile.TemporaryDirectory(prefix="tune_bn-model-") as name, warnings.catch_warnings():
            # Of torch, on how it packs weights.
            warnings.simplefilter("ignore")
            folder = Path(name) / "model"
            mlflow.pytorch.save_model(
                model.network,
                str(folder),
                mlflow_model=Model(run_id=run_id, model_id=logged.model_id),
                signature=infer_signature(model.example, model.output),
                input_example=model.example,
                # Stated, since MLflow would find them by running the model in a process of its own.
                pip_requirements=[f"{package}=={version(package)}" for package in ("mlflow", "torch", "numpy")],
            )
            client.log_model_artifacts(logged.model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, model.step)])
    return str(logged.model_id)
