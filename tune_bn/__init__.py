"""Find the initial batch-norm scale γ and the divisor c of its learning rate, and prove that they are better.

In a training script of your own::

    model = tune_bn.scale_batchnorm(model, gamma=0.1)
    optimizer = torch.optim.SGD(tune_bn.parameter_groups(model, lr=0.1, c=100), momentum=0.9)

From a script or a notebook::

    study = tune_bn.search("digits.yaml", overrides={"budget.trials": 8}, on_event=print)
    study = tune_bn.open_study("studies/digits-1")  # .runs, .curves, .plan, .verdict, .report()
    verdict = tune_bn.verify_scores(table, baseline="base", goal="max")

Importing the package loads nothing but this file: torch comes with the first use of a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tune_bn.host.version import __version__

if TYPE_CHECKING:
    from tune_bn.front.scores import verify_scores
    from tune_bn.front.search import begin_study, search
    from tune_bn.front.study import Study, open_study
    from tune_bn.front.verdict import Verdict
    from tune_bn.method.batchnorm import scale_batchnorm
    from tune_bn.method.convert import convert
    from tune_bn.method.groups import parameter_groups
    from tune_bn.method.iebn import InstanceEnhancementBatchNorm2d
    from tune_bn.method.rates import check_rates, keep_rates
    from tune_bn.method.rbn import RepresentativeBatchNorm2d
    from tune_bn.script.run import current_run
    from tune_bn.script.seeding import seed_everything

_HOMES = {
    "InstanceEnhancementBatchNorm2d": "tune_bn.method.iebn",
    "RepresentativeBatchNorm2d": "tune_bn.method.rbn",
    "Study": "tune_bn.front.study",
    "Verdict": "tune_bn.front.verdict",
    "begin_study": "tune_bn.front.search",
    "check_rates": "tune_bn.method.rates",
    "convert": "tune_bn.method.convert",
    "current_run": "tune_bn.script.run",
    "keep_rates": "tune_bn.method.rates",
    "open_study": "tune_bn.front.study",
    "parameter_groups": "tune_bn.method.groups",
    "scale_batchnorm": "tune_bn.method.batchnorm",
    "search": "tune_bn.front.search",
    "seed_everything": "tune_bn.script.seeding",
    "verify_scores": "tune_bn.front.scores",
}

__all__ = [
    "InstanceEnhancementBatchNorm2d",
    "RepresentativeBatchNorm2d",
    "Study",
    "Verdict",
    "__version__",
    "begin_study",
    "check_rates",
    "convert",
    "current_run",
    "keep_rates",
    "open_study",
    "parameter_groups",
    "scale_batchnorm",
    "search",
    "seed_everything",
    "verify_scores",
]

# Hidden from type checkers: to them it would make every misspelt name a valid attribute.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            from importlib import import_module

            try:
                return getattr(import_module(_HOMES[name]), name)
            except ImportError as error:
                from tune_bn.host.extras import missing_extra

                if (missing := missing_extra(error, f"tune_bn.{name}")) is None:
                    raise
                raise missing from None
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
