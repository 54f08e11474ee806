"""What a verdict lets pass."""

from __future__ import annotations

import pytest

from tune_bn.analysis.gate import exit_status, unmet
from tune_bn.errors import ConfigError
from tune_bn.records.verdict import Candidate, StudyArm, Verdict


def verdict(word, *arms, baselines=1):
    stated = {"config": {}, "scores": {}}
    return Verdict(
        verdict=word,
        baselines=tuple(StudyArm(arm=f"baseline.{n}", **stated) for n in range(baselines)),
        candidates=tuple(
            Candidate(arm=f"candidate-{n}", against=f"baseline.{n}", supported=s, worse=w, **stated)
            for n, (s, w) in enumerate(arms)
        ),
    )


@pytest.mark.parametrize(
    ("found", "requirement", "status"),
    [
        (verdict("supported", (True, False)), None, 0),
        (verdict("supported", (True, False)), "supported", 0),
        (verdict("not_supported", (False, False)), None, 0),
        (verdict("not_supported", (False, False)), "supported", 3),
        (verdict("not_supported", (False, True)), "supported", 3),
        (verdict("invalid", (False, False)), None, 1),
        (verdict("invalid", (False, False)), "supported", 1),
        # Of candidates of one baseline the better one is what is taken; settings are all lived in.
        (verdict("supported", (True, False), (False, True)), "supported", 0),
        (verdict("supported", (True, False), (False, True), baselines=2), "supported", 3),
        (verdict("supported", (True, True), (True, False), baselines=2), "supported", 0),
    ],
)
def test_exit_status(found, requirement, status):
    assert exit_status(found, requirement) == status


def test_reasons_name_every_loss():
    assert unmet(verdict("supported", (True, False), (False, True), baselines=2), "supported") == [
        "candidate-1 is significantly worse than baseline.1"
    ]


@pytest.mark.parametrize("odd", ["", "Supported", "significant"])
def test_an_unknown_requirement_is_refused(odd):
    with pytest.raises(ConfigError, match=r"--require: got .*accepted: supported"):
        exit_status(verdict("supported", (True, False)), odd)
