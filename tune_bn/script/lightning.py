"""A callback for PyTorch Lightning: each epoch is reported, saved where that is due, and the run is stopped when asked.

Loads Lightning, whichever of its two packages is installed; nothing else here does.
"""

from __future__ import annotations

import random
from importlib import import_module
from typing import Any

from tune_bn.script.run import Run


def _lightning() -> Any:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in ("lightning", name):
                raise
    raise ImportError("tune_bn.script.lightning needs lightning or pytorch-lightning; accepted: pip install lightning")


class ReportCallback(_lightning().Callback):  # type: ignore[misc]
    """Reports what is logged of each epoch.

    Go on by ``trainer.fit(model, ckpt_path=run.checkpoint)``. A checkpoint holds the states of all generators of random
    numbers; a data loader that shuffles needs a sampler that gives an epoch's order however often it is begun, since
    Lightning begins a loader twice after a resume (``examples/lightning``).

    Args:
        run: of :func:`tune_bn.current_run`.
        metrics: names of logged metrics to report; None: all that are numbers.
    """

    def __init__(self, run: Run, metrics: list[str] | None = None) -> None:
        super().__init__()
        self.run = run
        self.metrics = metrics
        self._restored: dict[str, Any] | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Take up the generators of a checkpoint, once everything that draws from them before is done."""
        del trainer, pl_module
        if self._restored is not None:
            _set_states(self._restored)
            self._restored = None

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the epoch; the validation of an epoch is over by now."""
        del pl_module
        logged = {name: value for name, value in trainer.callback_metrics.items() if _is_number(value)}
        if self.metrics is not None:
            logged = {name: logged[name] for name in self.metrics if name in logged}

        def save(path: Any) -> None:
            trainer.save_checkpoint(path)

        goes_on = self.run.report(trainer.current_epoch, save=save, **{n: float(v) for n, v in logged.items()})
        if not goes_on:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """See Lightning's ``Callback``."""
        return _states()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See Lightning's ``Callback``."""
        self._restored = dict(state_dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (hasattr(value, "numel") and value.numel() == 1)


def _states() -> dict[str, Any]:
    import numpy as np
    import torch

    numpy: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [str(numpy[0]), numpy[1].tolist(), *map(float, numpy[2:])],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def _set_states(states: dict[str, Any]) -> None:
    import numpy as np
    import torch

    version, inner, gauss = states["python"]
    random.setstate((version, tuple(inner), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), int(position), int(has_gauss), cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
