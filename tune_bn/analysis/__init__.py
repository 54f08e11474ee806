"""From records to a verdict, with numpy and scipy only.

Nothing here reads a clock, draws from any stream but a fixed one or loads Ray, MLflow, Optuna or torch: the same plan
and the same records give the same verdict, byte for byte, on any machine.
"""

from tune_bn.analysis.columns import Columns, Scores, read_scores
from tune_bn.analysis.paired import PairedResult, PairsError, PairsProblem, holm, paired_t_test
from tune_bn.analysis.plan import plan_problem, read_plan, seal
from tune_bn.analysis.power import minimum_detectable_effect, seeds_needed, std_of_differences, t_test_power
from tune_bn.analysis.scores import judge_scores
from tune_bn.analysis.sensitivity import sensitivity_analysis
from tune_bn.analysis.verdict import judge, verify_study, write_verdict

__all__ = [
    "Columns",
    "PairedResult",
    "PairsError",
    "PairsProblem",
    "Scores",
    "holm",
    "judge",
    "judge_scores",
    "minimum_detectable_effect",
    "paired_t_test",
    "plan_problem",
    "read_plan",
    "read_scores",
    "seal",
    "seeds_needed",
    "sensitivity_analysis",
    "std_of_differences",
    "t_test_power",
    "verify_study",
    "write_verdict",
]
