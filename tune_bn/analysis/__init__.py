"""From records to a verdict, with numpy and scipy only.

Nothing here reads a clock, draws from any stream but a fixed one or loads Ray, MLflow, Optuna or torch: the same plan
and the same records give the same verdict, byte for byte, on any machine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tune_bn.analysis.columns import Columns, Scores, read_scores
    from tune_bn.analysis.paired import PairedResult, PairsError, PairsProblem, holm, paired_t_test
    from tune_bn.analysis.plan import plan_problem, read_plan, seal
    from tune_bn.analysis.power import minimum_detectable_effect, seeds_needed, std_of_differences, t_test_power
    from tune_bn.analysis.scores import judge_scores, verdict_on_scores
    from tune_bn.analysis.sensitivity import sensitivity_analysis
    from tune_bn.analysis.table_test import TableTest
    from tune_bn.analysis.verdict import judge, renew_verdict, verdict_on, verdict_on_study, verify_study, write_verdict

_HOMES = {
    "Columns": "tune_bn.analysis.columns",
    "PairedResult": "tune_bn.analysis.paired",
    "PairsError": "tune_bn.analysis.paired",
    "PairsProblem": "tune_bn.analysis.paired",
    "Scores": "tune_bn.analysis.columns",
    "TableTest": "tune_bn.analysis.table_test",
    "holm": "tune_bn.analysis.paired",
    "judge": "tune_bn.analysis.verdict",
    "judge_scores": "tune_bn.analysis.scores",
    "minimum_detectable_effect": "tune_bn.analysis.power",
    "paired_t_test": "tune_bn.analysis.paired",
    "plan_problem": "tune_bn.analysis.plan",
    "read_plan": "tune_bn.analysis.plan",
    "read_scores": "tune_bn.analysis.columns",
    "renew_verdict": "tune_bn.analysis.verdict",
    "seal": "tune_bn.analysis.plan",
    "seeds_needed": "tune_bn.analysis.power",
    "sensitivity_analysis": "tune_bn.analysis.sensitivity",
    "std_of_differences": "tune_bn.analysis.power",
    "t_test_power": "tune_bn.analysis.power",
    "verdict_on": "tune_bn.analysis.verdict",
    "verdict_on_scores": "tune_bn.analysis.scores",
    "verdict_on_study": "tune_bn.analysis.verdict",
    "verify_study": "tune_bn.analysis.verdict",
    "write_verdict": "tune_bn.analysis.verdict",
}

__all__ = [
    "Columns",
    "PairedResult",
    "PairsError",
    "PairsProblem",
    "Scores",
    "TableTest",
    "holm",
    "judge",
    "judge_scores",
    "minimum_detectable_effect",
    "paired_t_test",
    "plan_problem",
    "read_plan",
    "read_scores",
    "renew_verdict",
    "seal",
    "seeds_needed",
    "sensitivity_analysis",
    "std_of_differences",
    "t_test_power",
    "verdict_on",
    "verdict_on_scores",
    "verdict_on_study",
    "verify_study",
    "write_verdict",
]


if not TYPE_CHECKING:
    # The space file asks for kinds of claims alone, without numpy.
    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)
