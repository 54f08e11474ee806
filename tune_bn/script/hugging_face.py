"""A callback for the Trainer of Hugging Face: each evaluation is reported, and the run is stopped when asked.

Loads transformers; nothing else here does.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from tune_bn.script.run import Run

_TIMES = ("epoch", "_runtime", "_per_second", "_time")


class ReportCallback(TrainerCallback):  # type: ignore[misc]
    """Reports the metrics of each evaluation at the end of an epoch.

    The Trainer writes its own checkpoints: with ``eval_strategy="epoch"`` and ``save_strategy="epoch"`` an epoch is
    reported once it is saved, and the space file says ``checkpoint: out/checkpoint-*`` and
    ``resume: ["--resume", "{checkpoint}"]``, for ``trainer.train(resume_from_checkpoint=…)``.

    Args:
        run: of :func:`tune_bn.current_run`.
        prefix: of the names under which metrics are reported, in place of the Trainer's ``eval_``.
    """

    def __init__(self, run: Run, prefix: str = "val_") -> None:
        self.run = run
        self.prefix = prefix
        self._metrics: dict[str, float] = {}
        self._reported = -1

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> Any:
        """Keep the metrics; where nothing is saved after this, report them."""
        known = {} if metrics is None else dict(metrics)
        numbers = {name: value for name, value in known.items() if isinstance(value, int | float)}
        # How long it took would be another number in each attempt.
        numbers = {name: value for name, value in numbers.items() if not name.endswith(_TIMES)}
        self._metrics = {self.prefix + name.removeprefix("eval_"): float(value) for name, value in numbers.items()}
        if str(getattr(args.save_strategy, "value", args.save_strategy)) == "no":
            self._report(state, control)
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Report the epoch that was evaluated and is saved now."""
        del args
        self._report(state, control)
        return control

    def _report(self, state: Any, control: Any) -> None:
        epoch = round(state.epoch)
        if not self._metrics or epoch <= self._reported:
            return
        self._reported = epoch
        metrics: dict[str, Any] = dict(self._metrics)
        if not self.run.report(epoch, **metrics):
            control.should_training_stop = True
        self._metrics = {}
