"""Find the initial batch-norm scale γ and the divisor c of its learning rate, and prove that they are better.

In a training script of your own::

    model = tune_bn.scale_batchnorm(model, gamma=0.1)
    optimizer = torch.optim.SGD(tune_bn.parameter_groups(model, lr=0.1, c=100), momentum=0.9)

Importing the package loads nothing but this file: torch comes with the first use of a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tune_bn.method.batchnorm import scale_batchnorm
    from tune_bn.method.convert import convert
    from tune_bn.method.groups import parameter_groups
    from tune_bn.method.iebn import InstanceEnhancementBatchNorm2d
    from tune_bn.method.rates import check_rates, keep_rates
    from tune_bn.method.rbn import RepresentativeBatchNorm2d
    from tune_bn.script.run import current_run
    from tune_bn.script.seeding import seed_everything

__version__ = "0.1.0"

_HOMES = {
    "InstanceEnhancementBatchNorm2d": "tune_bn.method.iebn",
    "RepresentativeBatchNorm2d": "tune_bn.method.rbn",
    "check_rates": "tune_bn.method.rates",
    "convert": "tune_bn.method.convert",
    "current_run": "tune_bn.script.run",
    "keep_rates": "tune_bn.method.rates",
    "parameter_groups": "tune_bn.method.groups",
    "scale_batchnorm": "tune_bn.method.batchnorm",
    "seed_everything": "tune_bn.script.seeding",
}

__all__ = [
    "InstanceEnhancementBatchNorm2d",
    "RepresentativeBatchNorm2d",
    "__version__",
    "check_rates",
    "convert",
    "current_run",
    "keep_rates",
    "parameter_groups",
    "scale_batchnorm",
    "seed_everything",
]

# Hidden from type checkers: to them it would make every misspelt name a valid attribute.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            from importlib import import_module

            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
