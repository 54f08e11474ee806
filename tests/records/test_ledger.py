"""The ledger: which claims came before on the same test data, and levels that hold over all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from tests.analysis.test_calibration import band
from tests.conftest import make_study
from tune_bn.analysis.plan import plan_from
from tune_bn.analysis.verdict import judge
from tune_bn.errors import RecordError
from tune_bn.records.ledger import (
    LEDGER_FILE,
    earlier_claims,
    enter_claim,
    entering,
    ledger_words,
    spending,
    spent_level,
)
from tune_bn.records.plan import EarlierClaim

DATA = {"classes": {"count": 10, "sha256": "c"}, "test": {"count": 5, "images": "i", "labels": "l"}}
OTHER = {**DATA, "test": {"count": 5, "images": "j", "labels": "l"}}


def plan(name, data=DATA):
    stated = make_study(n=2, trials=12).plan | {"schema_version": 2, "device_kind": "cpu", "data": data}
    return replace(plan_from(stated), study=name, plan_sha256=f"sha-{name}")


def test_claims_on_the_same_test_data_are_known(tmp_path):
    assert earlier_claims(tmp_path, DATA) == []
    for one in (plan("a"), plan("b", OTHER), plan("c"), plan("c"), plan("d", {})):
        enter_claim(tmp_path, one)
    assert [one.study for one in earlier_claims(tmp_path, DATA)] == ["a", "c"]
    assert [one.study for one in earlier_claims(tmp_path, OTHER)] == ["b"]
    assert earlier_claims(tmp_path, {}) == []


@pytest.mark.parametrize("line", [b"{", b"[]", b"null", b'{"test": 1}', b"\xff\xfe", b'"' + b"[" * 50_000])
def test_a_line_that_cannot_be_read_is_passed_over(tmp_path, line):
    enter_claim(tmp_path, plan("a"))
    with (tmp_path / LEDGER_FILE).open("ab") as handle:
        handle.write(line + b"\n")
    enter_claim(tmp_path, plan("b"))
    assert [one.study for one in earlier_claims(tmp_path, DATA)] == ["a", "b"]


def test_studies_that_lock_at_once_leave_whole_lines(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: enter_claim(tmp_path, plan(f"s{n}")), range(100)))
    assert len(earlier_claims(tmp_path, DATA)) == 100


def test_the_verdict_counts_them(synthetic_study):
    study = synthetic_study(effect=1.25)
    told = study.with_plan(earlier_claims=[{"study": "one", "plan_sha256": "x"}, {"study": "two", "plan_sha256": "y"}])
    assert not [r for r in judge(study.plan, study.records)["remarks"] if "same test data in this folder" in r]
    (remark,) = [r for r in judge(told.plan, told.records)["remarks"] if "same test data in this folder" in r]
    assert remark.startswith("this is claim 3 ")
    assert "one, two" in remark
    assert f"claim.alpha={spent_level(0.05, 4):.2g}" in remark
    for odd in ([], [{"study": "one"}], [1], "x"):
        with pytest.raises(RecordError, match="earlier_claims"):
            study.with_plan(earlier_claims=odd)
    assert ledger_words([], 0.05) is None


def test_twenty_studies_at_spent_levels_make_no_more_than_one_false_gain_in_twenty_times():
    """The whole chain of levels, t-tests of 15 pairs without an effect, 4,000 folders of twenty studies."""
    rng, folders = np.random.default_rng(3), 4000
    d = rng.standard_normal((folders, 20, 15))
    p_values = stats.t.sf(d.mean(2) / (d.std(2, ddof=1) / np.sqrt(15)), 14)
    levels = np.array([spent_level(0.05, k) for k in range(1, 21)])
    assert np.mean(np.any(p_values <= levels, axis=1)) <= band(0.05, folders)[1]
    assert np.mean(np.any(p_values <= 0.05, axis=1)) > 0.6, "what it is for"
    assert sum(spent_level(0.05, k) for k in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)


def test_a_plan_that_spends_has_the_level_of_its_place(synthetic_study):
    claims = [EarlierClaim(name, name) for name in ("a", "b")]
    earlier = [asdict(one) for one in claims]
    study, level = synthetic_study(effect=1.25), spent_level(0.05, 3)
    told = study.with_plan(alpha=level, alpha_spending=asdict(spending(0.05, claims)), earlier_claims=earlier)
    verdict = judge(told.plan, told.records)
    assert (verdict["verdict"], verdict["alpha"]) == ("supported", level)
    (remark,) = [r for r in verdict["remarks"] if "same test images" in r]
    assert remark.startswith(
        "this is claim 3 on the same test images in this folder (before it: a, b), tested at 0.0034"
    )
    assert "a budget of 0.05" in remark
    first = study.with_plan(alpha=spent_level(0.05, 1), alpha_spending=asdict(spending(0.05, [])))
    assert "this is claim 1 on" in " ".join(judge(first.plan, first.records)["remarks"])
    for odd in (
        {"rule": "budget", "total": 0.05, "place": 2},
        {"rule": "budget", "total": 0.06, "place": 3},
        {"rule": "lord", "total": 0.05, "place": 3},
        {"rule": "budget", "total": 0.05},
        "budget",
    ):
        with pytest.raises(RecordError, match="alpha_spending"):
            study.with_plan(alpha=level, alpha_spending=odd, earlier_claims=earlier)
    with pytest.raises(RecordError, match=r"alpha_spending.total: got 0.05 with alpha 0.05"):
        study.with_plan(alpha=0.05, alpha_spending=asdict(spending(0.05, claims)), earlier_claims=earlier)


def test_studies_that_lock_at_once_have_places_of_their_own(tmp_path):
    def lock(n):
        with entering(tmp_path, DATA):
            place = len(earlier_claims(tmp_path, DATA)) + 1
            enter_claim(tmp_path, plan(f"s{n}"))
            return place

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lock, range(50))) == list(range(1, 51))
    with entering(tmp_path / "none", {}):
        assert not (tmp_path / "none").exists()
