from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from tune_bn.analysis import score_tests, tables
from tune_bn.analysis.columns import Scores, read_scores
from tune_bn.analysis.paired import holm, paired_t_statistics, paired_t_test
from tune_bn.analysis.rounding import difference_error
from tune_bn.analysis.score_words import spread_words
from tune_bn.analysis.scores import judge_scores
from tune_bn.analysis.sensitivity import sensitivity_analysis
from tune_bn.analysis.verdict import judge
from tune_bn.errors import ConfigError, ScoresError
from tune_bn.records.files import canonical_json

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RESULTS = ("effect", "ci_low", "p_value", "p_adjusted", "d_z", "correlation")


def table(arms, **columns):
    """Rows of arms whose scores belong to the pairs 1, 2, 3, …"""
    return Scores("t.csv", "seed", tuple((a, str(i), float(x)) for a, xs in arms.items() for i, x in enumerate(xs, 1)))


def written(path, rows, header=("arm", "seed", "score")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


BASE = [89.1, 89.9, 89.4, 90.2, 88.8]
BETTER = [90.3, 90.6, 90.9, 90.8, 90.1]
WORSE = [88.0, 89.0, 88.1, 89.6, 88.2]


def test_the_verdict_is_that_of_a_study_with_the_same_scores(synthetic_study, tmp_path):
    study = synthetic_study(candidates=3, effect=0.5)
    expected = judge(study.plan, study.records)
    rows = [(r.arm, r.seed, r.scores["test_accuracy"], r.commit) for r in study.confirm]
    path = written(tmp_path / "scores.csv", rows, ("arm", "seed", "score", "commit"))
    verdict = judge_scores(read_scores(path), baseline="baseline")
    same = ("schema_version", "verdict", "problems", "test", "alpha", "correction", "n")
    assert {key: verdict[key] for key in same} == {key: expected[key] for key in same}
    keys = ("arm", "scores", "mean", "std", *RESULTS, "supported")
    for mine, theirs in zip(verdict["candidates"], expected["candidates"], strict=True):
        assert {key: mine[key] for key in keys} == {key: theirs[key] for key in keys}
        arms = [np.array([arm["scores"][seed] for seed in verdict["pairs"]]) for arm in (mine, verdict["baseline"])]
        assert mine["sensitivity"] == sensitivity_analysis(arms[0] - arms[1], error=difference_error(*arms))
    assert verdict["baseline"]["scores"] == expected["baseline"]["scores"]


def test_a_gain_is_supported_and_put_into_words():
    verdict = judge_scores(table({"base": BASE, "ours": BETTER}), baseline="base")
    result = paired_t_test(BETTER, BASE)
    p_value = result.p_value
    assert verdict["verdict"] == "supported"
    assert verdict["reason"] == (
        "ours raises the score by 1.06 over base (90.54 ± 0.34 against 89.48 ± 0.57, n = 5 pairs by seed, "
        f"one-sided paired t-test p = {p_value:.2g} ≤ 0.05, two-sided p = {2 * p_value:.2g}, "
        f"90 % interval of the gain {result.ci_low:.3g} to {result.ci_high:.3g})."
    )


def test_a_loss_is_not_supported():
    verdict = judge_scores(table({"base": BASE, "ours": WORSE}), baseline="base")
    assert verdict["verdict"] == "not_supported"
    assert verdict["reason"].startswith("ours lowers the score by 0.9 below base (")
    assert verdict["candidates"][0]["p_value"] > 0.9


def test_the_baseline_may_be_any_arm_and_several_arms_are_adjusted():
    arms = {"a": WORSE, "b": BASE, "c": BETTER}
    verdict = judge_scores(table(arms), baseline="b", alpha=0.2)
    assert [arm["arm"] for arm in verdict["candidates"]] == ["a", "c"]
    p_values = [paired_t_test(arms[arm], BASE).p_value for arm in "ac"]
    assert [arm["p_adjusted"] for arm in verdict["candidates"]] == holm(p_values).tolist()
    assert [arm["supported"] for arm in verdict["candidates"]] == [False, True]
    assert "adjusted for 2 arms" in verdict["reason"]
    assert "1 of 2 supported" in verdict["reason"]


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ({"base": BASE, "ours": BETTER[:-1]}, "ours has no score for seed 5, so the arms are not paired"),
        ({"base": BASE[:-2], "ours": BETTER}, "base has no score for seed 4, 5, so the arms are not paired"),
        ({"base": BASE, "ours": [NAN, *BETTER[1:]]}, "ours has a score that is not finite for seed 1"),
        ({"base": [*BASE[:-1], -INF], "ours": BETTER}, "base has a score that is not finite for seed 5"),
        ({"base": [INF] * 5, "ours": [INF] * 5}, "base has a score that is not finite for seed 1, 2, 3, 4, 5"),
        ({"base": BASE, "ours": BASE}, "ours: its scores are identical to the baseline's on every seed"),
        (
            {"base": BASE, "ours": [x + 0.7 for x in BASE]},
            "ours: its scores differ from the baseline's by the same 0.7",
        ),
        ({"base": [1e308, 1, 2], "ours": [-1e308, 1, 3]}, "ours: scores that are not finite, or too large"),
        ({"base": [90.0], "ours": [91.0]}, "the table has fewer than two pairs (seed 1)"),
        ({"base": BASE, "same": BASE, "more": BASE}, "more: its scores are identical"),
        ({"base": BASE, "good": BETTER, "short": BASE[:1]}, "short has no score for seed 2, 3, 4, 5"),
    ],
)
def test_a_broken_rule_is_invalid(arms, words):
    verdict = judge_scores(table(arms), baseline="base")
    assert verdict["verdict"] == "invalid"
    assert any(problem.startswith(words) for problem in verdict["problems"]), verdict["problems"]
    assert verdict["reason"].startswith(verdict["problems"][0])
    for arm in verdict["candidates"]:
        assert {arm[key] for key in (*RESULTS, "sensitivity")} == {None}
        assert arm["supported"] is False
    canonical_json(verdict)


def test_a_repeated_row_is_invalid_even_where_it_says_the_same():
    whole = table({"base": BASE, "ours": BETTER})
    verdict = judge_scores(Scores("t.csv", "seed", (*whole.rows, whole.rows[-1])), baseline="base")
    assert verdict["problems"] == ["ours has more than one score for seed 5"]
    assert "5" not in verdict["candidates"][0]["scores"]


def test_every_broken_rule_is_listed():
    verdict = judge_scores(table({"base": [NAN, *BASE[1:]], "ours": BETTER[:2], "more": BETTER[:3]}), baseline="base")
    assert len(verdict["problems"]) == 3
    assert verdict["reason"].endswith("(2 more in `problems`).")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"baseline": "bsae"}, "baseline: got 'bsae'; accepted: an arm of t.csv (base, ours)"),
        ({"baseline": "base", "alpha": 0.0}, "alpha: got 0.0; accepted: a number between 0 and 0.5"),
        ({"baseline": "base", "alpha": 0.5}, "alpha: got 0.5; "),
        ({"baseline": "base", "alpha": NAN}, "alpha: got nan; "),
    ],
)
def test_a_bad_argument_is_refused(options, problem):
    with pytest.raises(ConfigError) as caught:
        judge_scores(table({"base": BASE, "ours": BETTER}), **options)
    assert str(caught.value).startswith(problem)


def test_a_baseline_alone_is_refused():
    with pytest.raises(ScoresError, match=r"^t\.csv: column arm: only base; accepted: the baseline and at least"):
        judge_scores(table({"base": BASE}), baseline="base")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ":1: column arm is missing (the header has nothing); accepted: a header that names it once"),
        (b"arm seed score\na 1 2\n", ":1: column arm is missing (the header has arm seed score, parted by no comma, "),
        (b"arm,score\na,1\n", ":1: column seed is missing (the header has arm, score); "),
        (b"arm,seed,score,arm\na,1,2,b\n", ":1: column arm stands twice; "),
        (b"arm,seed,score\n", ": has no row below its header; accepted: one row per arm and seed"),
        (b"arm,seed,score\na,1,2\nb,1\n", ":3: 2 fields; accepted: 3, as in the header"),
        (b"arm,seed,score\na,1,97,5\n", ":2: 4 fields; accepted: 3, as in the header"),
        (b"arm,seed,score\n,1,2\n", ":2: column arm: got ''; accepted: text"),
        (b"arm,seed,score\na, ,2\n", ":2: column seed: got ''; accepted: text"),
        (b"arm,seed,score\na,1,\n", ":2: column score: got ''; accepted: a number"),
        (b"arm,seed,score\na,1,90 %\na,2,91\n", ":2: column score: got '90 %'; accepted: a number"),
        (b"arm,seed,score\na,1,1_0\n", ":2: column score: got '1_0'; accepted: a number"),
        ("arm,seed,score\na,1,٣\n".encode(), ":2: column score: got '٣'; accepted: a number"),
        (b'arm,seed,score\n"two\nlines",1,2\nb,1,x\n', ":4: column score: got 'x'; "),
        (b"arm,seed,score\na,1,\xff\n", ":2: is not UTF-8 text; accepted: a table in UTF-8"),
        (b'arm,seed,score\na,1,"2"x\n', ":2: not CSV ("),
        (b'arm,seed,score\na,1,"2\n', ": not CSV ("),
        (b"arm,seed,score\na,1," + b"9" * 200_000 + b"\n", ":2: not CSV (field larger than field limit"),
        (b"x" * (tables.MOST_BYTES + 1), ": is too large; accepted: a table of at most 4,194,304 bytes"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_its_place(tmp_path, content, problem):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(ScoresError) as caught:
        read_scores(path)
    message = str(caught.value)
    assert message.startswith(f"{path}{problem}") or problem == ": not CSV ("
    assert "accepted: " in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["absent.csv", ".", "nul\0.csv"])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(ScoresError, match="cannot be read"):
        read_scores(tmp_path / name)


@pytest.mark.parametrize("column", ["arm", "score", ""])
def test_a_pairing_column_of_another_meaning_is_refused(tmp_path, column):
    with pytest.raises(ConfigError, match="paired_by"):
        read_scores(tmp_path / "absent.csv", paired_by=column)


def test_what_spreadsheets_write_is_read(tmp_path):
    """A byte order mark, CRLF, quotes, blank lines, spaces, other columns, another order of columns."""
    path = tmp_path / "t.csv"
    text = '\ufeffscore, fold ,"arm",x\r\n 97.5 ,1,"γ = 0,1",a\r\n\r\n+9.7e1,02, base ,\r\n'
    path.write_bytes(text.encode())
    assert read_scores(path, paired_by="fold").rows == (("γ = 0,1", "1", 97.5), ("base", "02", 97.0))


@pytest.mark.long
@given(st.randoms(use_true_random=False), st.integers(2, 12))
@QUICK
def test_the_order_of_the_rows_changes_no_number(random, n):
    rng = np.random.default_rng(n)
    whole = table({name: rng.normal(90, 1, n) for name in ("base", "a", "b")})
    rows = list(whole.rows)
    random.shuffle(rows)
    first, second = (judge_scores(s, baseline="base") for s in (whole, Scores("t.csv", "seed", tuple(rows))))
    for verdict in (first, second):
        verdict["candidates"].sort(key=lambda arm: arm["arm"])
    assert canonical_json(first) == canonical_json(second)
    assert first["pairs"] == [str(seed) for seed in range(1, n + 1)]


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        (90.8, 0.2, "90.80 ± 0.20"),
        (0.908, 0.002, "0.9080 ± 0.0020"),
        (1234.5, 67.0, "1234 ± 67"),
        (90.0, 0.0, "90.00 ± 0.00"),
        (1e30, 1e29, "1e+30 ± 1e+29"),
    ],
)
def test_a_mean_is_printed_as_finely_as_its_spread(mean, std, words):
    assert spread_words(mean, std) == words


def keeps_the_rules(rows, baseline):
    """The rules once more, as one plain statement."""
    arms, pairs = {arm for arm, _, _ in rows}, {pair for _, pair, _ in rows}
    return (
        len(pairs) >= 2
        and Counter((arm, pair) for arm, pair, _ in rows) == Counter((arm, pair) for arm in arms for pair in pairs)
        and all(math.isfinite(score) for _, _, score in rows)
        and any(
            len({score - other for a, p, score in rows if a == arm for b, q, other in rows if (b, q) == (baseline, p)})
            > 1
            for arm in arms - {baseline}
        )
    )


def check(scores, baseline, alpha=0.05):
    verdict = judge_scores(scores, baseline=baseline, alpha=alpha)
    assert verdict["verdict"] in ("supported", "not_supported", "invalid")
    assert verdict["reason"]
    assert "\n" not in verdict["reason"]
    assert json.loads(canonical_json(verdict)) == verdict
    if verdict["verdict"] == "invalid":
        assert verdict["problems"]
        assert all(arm["p_value"] is None and not arm["supported"] for arm in verdict["candidates"])
    else:
        assert keeps_the_rules(scores.rows, baseline)
        tested = [arm for arm in verdict["candidates"] if not arm["not_tested"]]
        assert all(0 < arm["p_value"] <= arm["p_adjusted"] <= 1 for arm in tested)
        assert all(arm["sensitivity"] for arm in tested)
        # Without spread there is no test, whatever came out.
        for arm in verdict["candidates"]:
            assert arm in tested or (arm["p_value"] is None and not arm["supported"] and not arm["worse"])
        for arm in tested:
            # In doubt of the pairs a gain has to hold without them too.
            assert arm["supported"] == (arm["p_adjusted"] <= alpha) or (arm["doubt"] and not arm["supported"])
        assert (verdict["verdict"] == "supported") == any(arm["supported"] for arm in verdict["candidates"])
    return verdict


VALUES = st.one_of(
    *(st.integers(0, 897).map(lambda hits: 100 * hits / 897), st.floats(), st.floats(-1e3, 1e3)),
    *(st.just(90.0), st.sampled_from([1e308, -1e308, 5e-324, 1e160, 1e-160])),
)
NAMES = st.one_of(st.sampled_from(["base", "ours", "γ"]), st.text(st.characters(codec="utf-8"), min_size=1, max_size=6))


@pytest.mark.long
@QUICK
@given(st.data())
def test_any_rows_get_an_answer(data):
    rows = data.draw(st.lists(st.tuples(NAMES, st.sampled_from(["1", "2", "3", "x"]), VALUES), max_size=12))
    rows.append(("base", "1", 90.0))
    assume(len({arm for arm, _, _ in rows}) > 1)
    check(Scores("t.csv", "seed", tuple(rows)), "base", data.draw(st.floats(1e-300, 0.499)))


@pytest.mark.long
@QUICK
@given(st.data())
def test_a_whole_table_of_any_scores_gets_an_answer(data):
    n, arms = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 4))
    scores = {f"arm {i}": data.draw(st.lists(VALUES, min_size=n, max_size=n)) for i in range(arms)}
    check(table(scores), "arm 0")


@pytest.mark.long
@QUICK
@given(st.data())
def test_one_change_that_breaks_a_rule_is_never_supported(data):
    n = 6
    rows = list(table({"base": BASE, "ours": BETTER, "more": [x + 3 for x in BETTER]}).rows)
    assert check(Scores("t.csv", "seed", tuple(rows)), "base")["verdict"] == "supported"
    index = data.draw(st.integers(0, len(rows) - 1))
    arm, pair, score = rows[index]
    change = data.draw(st.sampled_from(["drop", "repeat", "renumber", "not finite"]))
    if change == "drop":
        del rows[index]
    elif change == "repeat":
        rows.insert(data.draw(st.integers(0, len(rows))), (arm, pair, data.draw(VALUES)))
    else:
        odd = data.draw(st.sampled_from([NAN, INF, -INF]))
        rows[index] = (arm, str(n), score) if change == "renumber" else (arm, pair, odd)
    assert check(Scores("t.csv", "seed", tuple(rows)), "base")["verdict"] == "invalid"


@QUICK
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=80).map(lambda t: f"arm,seed,score\n{t}".encode())))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, content):
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    refused = ""
    try:
        scores = read_scores(path)
    except ScoresError as error:
        refused = str(error)
    assert ("accepted: " in refused and "\n" not in refused) if refused else scores.arms


@pytest.mark.long
@QUICK
@given(
    st.lists(
        st.tuples(NAMES, NAMES, st.floats().map(repr), st.text(st.characters(codec="utf-8"), max_size=5)), max_size=8
    )
)
def test_any_table_that_csv_can_hold_is_read_whole(tmp_path, rows):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("arm", "seed", "score", "note"), *rows])
    path = tmp_path / "any.csv"
    path.write_text(buffer.getvalue(), encoding="utf-8", newline="")
    if not rows or any(not text.strip() for row in rows for text in row[:2]):
        with pytest.raises(ScoresError):
            read_scores(path)
        return
    read = read_scores(path).rows
    assert [(arm, pair) for arm, pair, _ in read] == [(row[0].strip(), row[1].strip()) for row in rows]
    np.testing.assert_array_equal([score for *_, score in read], [float(row[2]) for row in rows])


@pytest.mark.long
def test_without_an_effect_the_family_wise_rate_is_at_most_alpha(monkeypatch):
    """Three arms that are no better; and the decisions are those of the calibrated functions."""
    monkeypatch.setattr(score_tests, "other_tests", lambda differences, **_: None)
    rng = np.random.default_rng(0)
    studies, n, alpha = 300, 15, 0.05
    scores = 90 + rng.normal(0, 1, (studies, 1, n)) + 0.5 * rng.normal(0, 1, (studies, 4, n))
    _, p_value, _ = paired_t_statistics(scores[:, 1:], scores[:, :1], alpha=alpha)
    expected = (holm(p_value) <= alpha).any(axis=-1)
    found = np.array(
        [
            judge_scores(table(dict(zip("abcd", one, strict=True))), baseline="a", alpha=alpha)["verdict"]
            == "supported"
            for one in scores
        ]
    )
    assert found.tolist() == expected.tolist()
    assert 0 < found.sum() <= stats.binom.ppf(0.9999, studies, alpha)
