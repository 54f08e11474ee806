"""Representative batch norm, a rival of the method in the paper's Table 2.b."""

# Without `from __future__ import annotations`: TorchScript reads the annotations of attributes, and reads no strings.

import math
from typing import ClassVar

from torch import Tensor

from tune_bn.method.gated import GatedBatchNorm2d, image_mean


class RepresentativeBatchNorm2d(GatedBatchNorm2d):
    """Batch norm that shifts its input and scales its output by what an image holds itself.

    With the mean over an image's pixels ``GAP``::

        x' = x + w_m · GAP(x)                           centering calibration
        x̂  = (x' − μ) / √(σ² + ε)                       statistics, also the running ones, of x'
        y  = γ · sigmoid(w_v · GAP(x̂) + w_b) · x̂ + β    scaling calibration

    ================= ============ ================ =============
    parameter         symbol       shape            initial value
    ================= ============ ================ =============
    ``weight``        γ            (C,)             1
    ``bias``          β            (C,)             0
    ``center_weight`` w_m          (1, C, 1, 1)     0
    ``scale_weight``  w_v          (1, C, 1, 1)     0
    ``scale_bias``    w_b          (1, C, 1, 1)     1
    ================= ============ ================ =============

    So a new layer multiplies the output of batch norm by ``initial_gate`` = sigmoid(1) = 0.731.

    Shapes: (N, C, H, W) → (N, C, H, W).

    Source: Gao et al., "Representative Batch Normalization with Feature Calibration", CVPR 2021; names and initial
    values from the public code ShangHua-Gao/RBN, which writes x' into its input. Theirs replaces every BN layer and
    has weight decay on every parameter.
    """

    center_weight: Tensor
    scale_weight: Tensor
    scale_bias: Tensor

    gate_values: ClassVar[dict[str, float]] = {"center_weight": 0.0, "scale_weight": 0.0, "scale_bias": 1.0}
    initial_gate: ClassVar[float] = 1 / (1 + math.exp(-gate_values["scale_bias"]))

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        self._check_input_dim(input)
        normalized = self.normalize(input + (self.center_weight * image_mean(input)).to(input.dtype))
        return self.scale(normalized, self.scale_weight * image_mean(normalized) + self.scale_bias)
