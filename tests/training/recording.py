"""A recorder without a GPU, as strict as a CUDA graph: what a step did, on the tensors on which it did it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tune_bn.training.engine import Step


class TapeRecorder:
    """Notes every operation of a step, then repeats them; Python code between them is not run again.

    A number that Python took from a tensor, a tensor that was replaced by another, or a branch stays as it was when the
    step was recorded, as in a CUDA graph. Unlike there, a draw from torch's own generators is drawn again.
    """

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, step: Step, warm_up: Step) -> Step:
        warm_up()
        warm_up()
        tape = _Tape()
        # Capturing runs nothing; what a recording changes is changed back.
        with tape:
            step()
        tape.undo()
        self.recorded += 1
        return tape.replay


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert func is not torch.ops.aten._local_scalar_dense.default, "a step must not wait for the device"
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in inputs:
            storage = tensor.untyped_storage().data_ptr()
            if func._schema.is_mutable and storage not in self.made and storage not in self.before:
                self.before[storage] = (tensor, tensor.clone())
        outputs = func(*args, **kwargs)
        read = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        for leaf in tree_leaves(outputs):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in read:
                self.made.add(leaf.untyped_storage().data_ptr())
        self.operations.append((func, args, kwargs, outputs))
        return outputs

    def undo(self) -> None:
        with torch.no_grad():
            for tensor, value in self.before.values():
                tensor.copy_(value)

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, outputs in self.operations:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(outputs), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)
