"""A moving average of a network's weights, as a network of its own that is validated and tested."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tune_bn.errors import MethodError, described


class MovingAverage:
    """``average ← decay · average + (1 − decay) · weights`` after every step; the first step's weights begin it.

    Running statistics are averaged as weights are, and whole numbers are copied. As ``AveragedModel`` of
    ``torch.optim.swa_utils`` with ``use_buffers=True`` and ``get_ema_multi_avg_fn(decay)``.

    Args:
        model: the network, on its device.
        decay: in (0, 1).

    Attributes:
        model: the averaged network.
        state: the tensors that it is made of, which stay where they are; all zeros before the first step.

    Raises:
        MethodError: the network cannot be copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        try:
            self.model = copy.deepcopy(model)
        # A network of the user's may raise anything.
        except Exception as error:
            accepted = "null, or a network that copy.deepcopy copies"
            got = f"train.ema: got {decay}, but copying the network raised {described(error)}"
            raise MethodError(f"{got}; accepted: {accepted}") from error
        self.model.requires_grad_(False)
        own, averaged = model.state_dict(), self.model.state_dict()
        self._pairs = [(averaged[name], own[name]) for name in own if own[name].is_floating_point()]
        self._copied = [(averaged[name], own[name]) for name in own if not own[name].is_floating_point()]
        device = next(iter(own.values())).device
        self._begun = torch.zeros((), dtype=torch.float32, device=device)
        self._share = torch.full((), 1 - decay, dtype=torch.float32, device=device)
        self.state: list[Tensor] = [self._begun, *(mean for mean, _ in (*self._pairs, *self._copied))]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step, without waiting for the device."""
        # In the first step the whole of them; no branch, which a captured step could not take.
        share = torch.where(self._begun > 0, self._share, torch.ones_like(self._share))
        for mean, value in self._pairs:
            mean.lerp_(value, share.to(mean.dtype))
        for mean, value in self._copied:
            mean.copy_(value)
        self._begun.fill_(1)
