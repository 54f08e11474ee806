"""The interval over seeds × test images, and what a verdict says it is about."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.edited_studies import assert_invalid
from tune_bn.analysis.about import covers
from tune_bn.analysis.images import two_way_interval
from tune_bn.analysis.plan import plan_from, read_plan
from tune_bn.analysis.verdict import judge, verify_study
from tune_bn.records.log import RecordLog
from tune_bn.records.per_image import path_of, read_bits, write_bits
from tune_bn.records.record import CONFIRM

RNG = np.random.default_rng(4)


def drawn(n=6, m=300, arm_image=0.3, rng=RNG):
    hard = 1.5 * rng.standard_normal((1, m))
    return [
        (1.5 + arm * 0.2 + hard + arm_image * rng.standard_normal((1, m)) + rng.standard_normal((n, m)) > 0).astype(
            np.int8
        )
        for arm in (0, 1)
    ]


def anova(d):
    """The mean squares of the two-way layout by their definitions, slowly."""
    n, m = d.shape
    rest = d - d.mean(1, keepdims=True) - d.mean(0, keepdims=True) + d.mean()
    return (
        m * d.mean(1).var(ddof=1),
        n * d.mean(0).var(ddof=1),
        float((rest**2).sum()) / ((n - 1) * (m - 1)),
    )


def test_the_components_are_those_of_the_two_way_layout():
    base, candidate = drawn()
    d = candidate.astype(float) - base
    seeds, images, rest = anova(d)
    found = two_way_interval(candidate, base, level=0.05)
    n, m = d.shape
    assert found.effect == pytest.approx(100 * d.mean())
    assert found.sd_rest == pytest.approx(100 * np.sqrt(rest))
    assert found.sd_seeds == pytest.approx(100 * np.sqrt(max(0, seeds - rest) / m))
    assert found.sd_images == pytest.approx(100 * np.sqrt(max(0, images - rest) / n))
    variance = (seeds + max(0, images - rest)) / (n * m)
    parts = seeds**2 / (n - 1) + images**2 / (m - 1) + rest**2 / ((n - 1) * (m - 1))
    assert found.df == pytest.approx(max(n - 1, (variance * n * m) ** 2 / parts))
    assert (found.high - found.low) / 2 == pytest.approx(
        100 * np.sqrt(variance) * float(__import__("scipy.stats").stats.t.ppf(0.95, found.df))
    )


@pytest.mark.parametrize("seed", range(10))
def test_it_is_never_shorter_than_the_interval_over_seeds(seed):
    base, candidate = drawn(arm_image=0.0, rng=np.random.default_rng(seed))
    found = two_way_interval(candidate, base, level=0.05)
    by_seed = 100 * (candidate.mean(1) - base.mean(1))
    assert (found.high - found.low) / 2 >= 0.999 * by_seed.std(ddof=1) / np.sqrt(6) * 1.6449


def test_the_order_of_seeds_and_images_does_not_count():
    base, candidate = drawn()
    rows, columns = RNG.permutation(6), RNG.permutation(300)
    mixed = two_way_interval(candidate[rows][:, columns], base[rows][:, columns], level=0.05)
    plain = two_way_interval(candidate, base, level=0.05)
    assert vars(mixed) == pytest.approx(vars(plain))


@pytest.mark.parametrize("shape", [(1, 100), (5, 1)])
def test_without_two_of_each_there_is_none(shape):
    assert two_way_interval(np.ones(shape, np.int8), np.zeros(shape, np.int8), level=0.05) is None


def test_identical_arms_have_none():
    same = np.ones((4, 50), np.int8)
    assert two_way_interval(same, same, level=0.05) is None


# In a folder.


@pytest.fixture
def folder(synthetic_study, tmp_path):
    """A study whose confirmation runs kept their images, with scores that are those of the images."""
    study, images, rng = synthetic_study(), 400, np.random.default_rng(1)
    hard, records = rng.standard_normal(images), []
    for record in study.records:
        if record.stage == CONFIRM:
            gain = 0.0 if record.arm == "baseline" else 0.15
            right = hard + 0.5 * rng.standard_normal(images) + 1.5 + gain > 0
            bits = np.packbits(right, bitorder="little").tobytes()
            write_bits(tmp_path, record.key, bits)
            test = {"images": images, "right": int(right.sum()), "sha256": hashlib.sha256(bits).hexdigest()}
            test |= {"loss": 0.1, "brier": 0.05, "calibration_error": 0.01, "worst_class": 90.0 + record.seed / 10}
            scores = {**record.scores, "test_accuracy": 100 * test["right"] / images}
            record = replace(record, test=test, scores=scores)
        records.append(record)
    return study.with_records(records).write(tmp_path)


def test_a_verdict_has_the_interval_and_says_what_it_is_about(folder):
    verdict = verify_study(folder)
    arm = verdict["candidates"][0]
    assert verdict["verdict"] != "invalid", verdict["problems"]
    found = arm["over_images"]
    assert (found["seeds"], found["images"]) == (15, 400)
    assert found["effect"] == pytest.approx(arm["effect"])
    assert found["low"] <= arm["ci"][0]
    assert found["high"] >= arm["ci"][1]
    assert "captures the drawing of the test images as well" in verdict["covers"]
    assert "Not captured: the split into training and validation images" in verdict["covers"]
    assert verdict["other_outcomes"]["baseline"]["loss"] == {
        "mean": pytest.approx(0.1),
        "std": pytest.approx(0),
        "n": 15,
    }
    assert json.loads(json.dumps(verdict)) == verdict


@pytest.mark.long
def test_a_file_that_is_gone_is_left_out_and_said(folder):
    before = verify_study(folder)
    path_of(folder, "confirm-baseline-s3").unlink()
    verdict = verify_study(folder)
    assert verdict["candidates"][0]["over_images"] is None
    assert any("per_image/confirm-baseline-s3.bits" in remark for remark in verdict["remarks"])
    assert verdict["candidates"][0]["p_value"] == before["candidates"][0]["p_value"], "the test over seeds stands"
    assert "and the drawing of the test images" not in before["covers"]
    assert "the drawing of the test images, and other data" in verdict["covers"]


@pytest.mark.parametrize("spoil", [lambda bits: bytes([bits[0] ^ 1]) + bits[1:], lambda bits: bits + b"\0"])
def test_a_file_that_was_changed_makes_the_verdict_invalid(folder, spoil):
    path = path_of(folder, "confirm-baseline-s3")
    path.write_bytes(spoil(path.read_bytes()))
    verdict = verify_study(folder)
    said = "per_image/confirm-baseline-s3.bits: its bytes are not those of the record; accepted: the file as it was "
    assert_invalid(verdict, said + "written, or none")
    assert len(verdict["problems"]) == 1
    assert len(verdict["baseline"]["scores"]) == 15


def test_a_score_that_is_not_that_of_its_images_makes_the_verdict_invalid(folder):
    plan, records = read_plan(folder / "plan.json"), RecordLog(folder / "records.jsonl").read()
    assert judge(plan, records)["verdict"] != "invalid"
    (found,) = [
        record for record in records if record.stage == CONFIRM and record.arm != "baseline" and record.seed == 4
    ]
    right = found.test["right"]

    def with_score(score, **test):
        changed = replace(found, scores={**found.scores, "test_accuracy": score}, test={**found.test, **test})
        return judge(plan, [changed if record is found else record for record in records])

    assert_invalid(
        with_score(100 * (right + 1) / 400),
        f"another than that of the images that its record counts as right: {found.key}",
    )
    assert with_score(100 * (right + 1) / 400, right=right + 1)["verdict"] != "invalid", "as a whole it is one story"
    for unknown in ({"right": None}, {"images": 0}, {"right": "many"}):
        assert with_score(97.1, **unknown)["verdict"] != "invalid", "nothing is known of its images"


def test_bits_are_read_as_they_were_written(tmp_path):
    bits = np.packbits([1, 0, 1, 1, 0, 0, 0, 1, 1], bitorder="little").tobytes()
    write_bits(tmp_path, "confirm-baseline-s1", bits)
    stated = {"images": 9, "right": 5, "sha256": hashlib.sha256(bits).hexdigest()}
    assert read_bits(tmp_path, "confirm-baseline-s1", stated) == bits


@pytest.mark.parametrize(
    ("baseline", "records", "words"),
    [
        ({}, {}, "The baseline is at its stated setting, not tuned."),
        ({"selection": {}}, {"baseline": 12, "candidate": 12}, "tuned with as many trials as the candidates (12)."),
        ({"selection": {}}, {"baseline": 2, "candidate": 12}, "tuned with fewer trials than the candidates' 12 (2)."),
    ],
)
def test_whether_the_baseline_was_tuned(synthetic_study, baseline, records, words):
    study = synthetic_study()
    one = next(r for r in study.records if r.stage == "search")
    made = [replace(one, arm=arm, trial=t) for arm, count in records.items() for t in range(count)]
    plain = {key: value for key, value in study.plan["baseline"].items() if key != "selection"}
    candidates = [{k: v for k, v in arm.items() if k != "selection"} for arm in study.plan["candidates"]]
    plan = plan_from(study.plan | {"baseline": plain | baseline, "candidates": candidates})
    said = covers(plan, made, [], with_images=False)
    assert said.endswith(words)
