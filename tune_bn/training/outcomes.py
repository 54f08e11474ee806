"""What a run did on each test image, and the outcomes beside the claimed score, gathered in the pass that scores it.

With probabilities p of the classes and the class y of an image: the loss is −log p_y, the Brier score
Σ_c (p_c − [c = y])² (0 to 2), the calibration error Σ_b n_b/N · |accuracy_b − confidence_b| over 15 bins of equal width
of max_c p_c (Guo et al., ICML 2017), and the worst class that of the lowest accuracy among those that have images.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 15


class PerImage:
    """Gathers batches of logits; nothing waits for the device before :meth:`summary`."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor]] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """One batch: logits (B, C), and labels (B,), in the order of the split."""
        values = logits.detach().float()
        p = F.softmax(values, dim=1)
        right = (logits.argmax(dim=1) == labels).float()
        own = p.gather(1, labels[:, None])[:, 0]
        brier = (p * p).sum(dim=1) - 2 * own + 1
        loss = F.cross_entropy(values, labels, reduction="none")
        self._parts.append((torch.stack((right, loss, brier, p.max(dim=1).values)), labels))

    def summary(self) -> tuple[dict[str, Any], bytes]:
        """What the record says of the test images, and whether each was right, packed to bits (first image first).

        The bits are those of :func:`tune_bn.records.per_image.unpacked`, and ``sha256`` is their hash.
        """
        values = torch.cat([part for part, _ in self._parts], dim=1).double().cpu().numpy()
        labels = torch.cat([part for _, part in self._parts]).cpu().numpy()
        right, loss, brier, confidence = values
        bits = np.packbits(right.astype(bool), bitorder="little").tobytes()
        counts = np.bincount(labels)
        by_class = np.bincount(labels, weights=right)[counts > 0] / counts[counts > 0]
        # A network whose best epoch was finite may be infinite on other images.
        bins = np.minimum((np.nan_to_num(confidence) * BINS).astype(int), BINS - 1)
        gaps = np.abs(np.bincount(bins, weights=right - confidence, minlength=BINS))
        found = {
            "images": int(right.size),
            "right": int(right.sum()),
            "sha256": hashlib.sha256(bits).hexdigest(),
            "loss": float(loss.mean()),
            "brier": float(brier.mean()),
            "calibration_error": float(gaps.sum() / right.size),
            "worst_class": 100.0 * float(by_class.min()),
        }
        return {
            key: value for key, value in found.items() if not isinstance(value, float) or math.isfinite(value)
        }, bits
