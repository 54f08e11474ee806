"""Instance-enhancement batch norm, a rival of the method in the paper's Table 2.b."""

# Without `from __future__ import annotations`: TorchScript reads the annotations of attributes, and reads no strings.

import math
from typing import ClassVar

from torch import Tensor

from tune_bn.method.gated import GatedBatchNorm2d, image_mean


class InstanceEnhancementBatchNorm2d(GatedBatchNorm2d):
    """Batch norm whose γ is multiplied by a gate of the image's own mean before normalization.

    With the mean over an image's pixels ``GAP``::

        x̂ = (x − μ) / √(σ² + ε)
        y = γ · sigmoid(ŵ · GAP(x) + b̂) · x̂ + β

    =================== ====== ============ =============
    parameter           symbol shape        initial value
    =================== ====== ============ =============
    ``weight``          γ      (C,)         1
    ``bias``            β      (C,)         0
    ``weight_readjust`` ŵ      (1, C, 1, 1) 0
    ``bias_readjust``   b̂      (1, C, 1, 1) −1
    =================== ====== ============ =============

    So a new layer multiplies the output of batch norm by ``initial_gate`` = sigmoid(−1) = 0.269.

    Shapes: (N, C, H, W) → (N, C, H, W).

    Source: Liang et al., "Instance Enhancement Batch Normalization: An Adaptive Regulator of Batch Noise", AAAI 2020,
    arXiv 1908.04008; names and initial values from the public code gbup-group/IEBN. The paper replaces every BN layer,
    the code all but those of downsampling shortcuts; it has weight decay on every parameter.
    """

    weight_readjust: Tensor
    bias_readjust: Tensor

    gate_values: ClassVar[dict[str, float]] = {"weight_readjust": 0.0, "bias_readjust": -1.0}
    initial_gate: ClassVar[float] = 1 / (1 + math.exp(-gate_values["bias_readjust"]))

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        self._check_input_dim(input)
        return self.scale(self.normalize(input), self.weight_readjust * image_mean(input) + self.bias_readjust)
