"""A verdict as a dataclass and as its file: what is read is written again byte for byte, and older ones are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tune_bn.records.reading import Refused
from tune_bn.records.verdict import Verdict, verdict_from

GOLDEN = Path(__file__).parent.parent / "report" / "golden"
OLD = Path(__file__).parent.parent / "study" / "old_studies"


def golden() -> list[str]:
    return sorted(path.stem for path in GOLDEN.glob("*.txt") if path.stem != "malformed")


def content_of(name: str) -> dict[str, Any]:
    text, _, _ = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").partition("\n=====\n")
    found: dict[str, Any] = json.loads(text)
    return found


def as_text(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


@pytest.mark.parametrize("name", golden())
def test_what_was_written_is_read_and_written_again_byte_for_byte(name: str) -> None:
    content = content_of(name)
    verdict = verdict_from(content)
    assert as_text(verdict.to_json()) == as_text(content)
    assert verdict_from(verdict.to_json()) == verdict


def test_what_only_some_studies_have_is_read_and_written_again() -> None:
    """Test images, a bundle, runs that went wrong, a single early end, an arm that no test can judge."""
    content = json.loads(json.dumps(content_of("gain")))
    images = dict.fromkeys(("effect", "low", "high", "df"), 0.5) | {"seeds": 15, "images": 897}
    images |= dict.fromkeys(("sd_seeds", "sd_images", "sd_rest", "share_images", "confidence"), 0.1)
    content["candidates"][0] |= {"over_images": images, "effect_adjusted": 0.4}
    described = {"mean": 0.2, "std": 0.01, "n": 15}
    content |= {"diverged": ["confirm-baseline-s1"], "retried": ["confirm-baseline-s2"], "seal": "stamped"}
    content |= {"other_outcomes": {"baseline": {"loss": described, "brier": described}}}
    content["bundle"] = {"file": "out.zip", "headline": ["odd"], "plan_sha256": None, "data": {"classes": 10}}
    verdict = verdict_from(content)
    assert as_text(verdict.to_json()) == as_text(content)
    assert verdict.candidates[0].over_images is not None
    assert verdict.candidates[0].over_images.images == 897
    assert verdict.other_outcomes is not None
    assert verdict.other_outcomes["baseline"]["brier"].n == 15


def test_the_verdicts_that_are_kept_have_every_key_that_there_is() -> None:
    """Else the test above would not see one that gets lost."""
    found = [verdict_from(content_of(name)) for name in golden()]
    lacking = {key for key in vars(found[0]) if all(getattr(one, key) in (None, (), {}) for one in found)}
    arms = [arm for one in found for arm in one.candidates]
    lacking |= {key for key in vars(arms[0]) if all(getattr(arm, key) in (None, (), {}) for arm in arms)}
    # Of files beside plan and records, of a bundle, of runs that no made-up study has, and of a single early end.
    elsewhere = {"over_images", "seal", "bundle", "retried", "diverged", "other_outcomes", "effect_adjusted"}
    assert lacking <= {*elsewhere, "not_tested"}


@pytest.mark.parametrize("name", ["fixed", "sequential", "network"])
def test_a_verdict_of_the_first_version_is_read(name: str) -> None:
    content = json.loads((OLD / name / "verdict.json").read_text(encoding="utf-8"))
    verdict = verdict_from(content)
    assert verdict.verdict == content["verdict"]
    assert verdict.ci_confidence is verdict.headline is verdict.score is None
    assert verdict.baseline is not None
    assert verdict.baseline.scores == content["baseline"]["scores"]
    (arm,), (stated,) = verdict.candidates, content["candidates"]
    for key in ("arm", "trial", "config", "scores", "mean", "std", "against", "n", "effect", "p_value", "supported"):
        assert getattr(arm, key) == stated[key]
    assert [look.decision for look in arm.looks] == [look["decision"] for look in stated["looks"]]


def test_one_with_a_single_baseline_and_no_list_of_them() -> None:
    content = content_of("gain")
    verdict = verdict_from({key: value for key, value in content.items() if key != "baselines"})
    assert verdict == verdict_from(content)


def test_keys_of_a_later_version_are_passed_over() -> None:
    content = content_of("looks")
    later = json.loads(json.dumps(content))
    later["colour"] = later["candidates"][0]["colour"] = later["candidates"][0]["looks"][0]["colour"] = "blue"
    assert verdict_from(later) == verdict_from(content)


def _without_word(content: dict[str, Any]) -> Any:
    return {key: value for key, value in content.items() if key != "verdict"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: [content], "verdict: got None; accepted: supported, not_supported or invalid"),
        (_without_word, "verdict: got None; accepted: supported, not_supported or invalid"),
        (lambda content: content | {"verdict": "perhaps"}, "verdict: got 'perhaps'; accepted: supported, "),
        (lambda content: content | {"verdict": ["supported"]}, "verdict: got ['supported']; accepted: supported, "),
        (lambda content: content | {"candidates": {}}, "candidates: got {}; accepted: list"),
        (lambda content: content | {"alpha": True}, "alpha: got True; accepted: int or float or null"),
        (lambda content: content | {"alpha": float("nan")}, "alpha: got nan; accepted: int or float or null"),
        (lambda content: content | {"baseline": 1, "baselines": None}, "baselines[0]: got 1; accepted: an object"),
        (lambda content: _of_arm(content, ci=[1.0]), "candidates[0].ci: got [1.0]; accepted: a list of 2"),
        (lambda content: _of_arm(content, ci=[1.0, "x"]), "candidates[0].ci[1]: got 'x'; accepted: int or float or"),
        (lambda content: _of_arm(content, scores=None), "candidates[0].scores: got None; accepted: "),
        (lambda content: _of_arm(content, scores={"1": "x"}), "candidates[0].scores: got {'1': 'x'}; accepted: "),
        (lambda content: _of_arm(content, shrinkage={}), "candidates[0].shrinkage.metric: got 'nothing'; accepted: "),
        (
            lambda content: content | {"other_outcomes": {"a": {"loss": 1}}},
            "other_outcomes.a.loss: got 1; accepted: ",
        ),
    ],
)
def test_a_damaged_one_is_refused_by_its_place(change: Any, said: str) -> None:
    with pytest.raises(Refused) as caught:
        verdict_from(change(content_of("gain")))
    assert str(caught.value).startswith(said)


def _of_arm(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    first, *others = content["candidates"]
    return content | {"candidates": [first | changes, *others]}


def test_the_word_decides() -> None:
    assert Verdict(verdict="supported").is_supported
    assert Verdict(verdict="invalid").is_invalid
    assert not Verdict(verdict="not_supported").is_supported
