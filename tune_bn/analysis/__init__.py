"""From records to a verdict, with numpy and scipy only.

Nothing here reads a clock, draws a random number or loads Ray, MLflow, Optuna or torch: the same plan and the same
records give the same verdict, byte for byte, on any machine.
"""

from tune_bn.analysis.paired import PairedResult, PairsError, PairsProblem, holm, paired_t_test
from tune_bn.analysis.plan import plan_problem, read_plan, seal
from tune_bn.analysis.verdict import judge, verify_study, write_verdict

__all__ = [
    "PairedResult",
    "PairsError",
    "PairsProblem",
    "holm",
    "judge",
    "paired_t_test",
    "plan_problem",
    "read_plan",
    "seal",
    "verify_study",
    "write_verdict",
]
