"""Studies that were made up, and then changed."""

from __future__ import annotations

from dataclasses import replace

from tune_bn.analysis.verdict import judge
from tune_bn.records.files import canonical_json

RESULT_KEYS = {
    *("n", "effect", "std_difference", "t", "ci_low", "ci", "p_value", "p_adjusted", "d_z", "correlation"),
    *(
        "minimum_detectable_effect",
        "sensitivity",
        "effect_adjusted",
        "over_images",
        "outcome",
        "shrinkage",
        "decision",
        "supported",
        "worse",
    ),
    *("p_two_sided", "p_worse", "p_worse_adjusted", "ci_adjusted", "adjusted_levels"),
    *("simultaneous_low", "divergence", "not_tested"),
}


def confirm_scores(study, arm):
    return [record.scores["test_accuracy"] for record in study.confirm if record.arm == arm]


def edited(study, change, *, arm="candidate-1", seeds=None):
    """The study with ``change`` applied to the confirmation records of an arm (and of some seeds)."""
    return study.with_records(
        [
            change(record)
            if record.stage == "confirm" and record.arm == arm and (seeds is None or record.seed in seeds)
            else record
            for record in study.records
        ]
    )


def scored(record, score, **changes):
    return replace(record, scores={**record.scores, "test_accuracy": score}, **changes)


def judged(study):
    return judge(study.plan, study.records)


def assert_invalid(verdict, *words):
    assert verdict["verdict"] == "invalid"
    problems = " | ".join(verdict["problems"])
    assert all(word in problems for word in words), problems
    assert verdict["reason"].startswith(verdict["problems"][0])
    for candidate in verdict["candidates"]:
        assert candidate["supported"] is candidate["worse"] is False
        assert {candidate[key] for key in RESULT_KEYS - {"supported", "worse"}} == {None}
    canonical_json(verdict)
