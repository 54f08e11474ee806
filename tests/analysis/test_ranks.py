"""What is computed here instead of by scipy.stats, which loads slowly, equals what scipy.stats computes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from tune_bn.analysis.paired import paired_t_statistics
from tune_bn.analysis.ranks import MOST_RANKED, kendall_tau, mean_ranks


def drawn(rng: np.random.Generator, n: int, kind: str) -> np.ndarray:
    values = rng.normal(95, 1, n)
    return {"real": values, "tied": np.round(values), "constant": np.full(n, 3.0), "sorted": np.sort(values)}[kind]


@pytest.mark.parametrize("kind", ["real", "tied", "constant", "sorted"])
@pytest.mark.parametrize("n", [2, 3, 15, 200])
def test_ranks_and_tau(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    for other in ("real", "tied", "sorted"):
        first, second = drawn(rng, n, kind), drawn(rng, n, other)
        np.testing.assert_array_equal(mean_ranks(first), stats.rankdata(first))
        np.testing.assert_equal(kendall_tau(first, second), float(stats.kendalltau(first, second).statistic))


def test_tau_of_many_scores() -> None:
    first = np.arange(MOST_RANKED + 1.0)
    assert kendall_tau(first, first[::-1].copy()) == -1


def test_no_scores_have_no_ranks() -> None:
    assert mean_ranks(np.array([])).shape == (0,)


def test_the_paired_t_test_over_many_studies() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.3, 1, (200, 7)), rng.normal(0, 1, (200, 7))
    t, p_value, ci_low = paired_t_statistics(first, second, alpha=0.05)
    expected = stats.ttest_rel(first, second, axis=-1, alternative="greater")
    np.testing.assert_array_equal(t, expected.statistic)
    np.testing.assert_allclose(p_value, expected.pvalue, rtol=1e-13)
    np.testing.assert_allclose(ci_low, expected.confidence_interval(0.95).low, rtol=1e-12, atol=1e-13)


def test_tails_keep_their_digits() -> None:
    for k, mean in ((0, 0.1), (3, 0.2), (40, 2.0)):
        assert special.pdtrc(k, mean) == float(stats.poisson.sf(k, mean))
    assert special.ndtr(-9.0) == float(stats.norm.sf(9.0)) > 0
    t, p_value, _ = paired_t_statistics(np.array([1.0, 1.001, 1.002, 0.999]), 0.0, alpha=0.05)
    assert 0 < p_value < 1e-9
    assert math.isclose(p_value, float(stats.t.sf(t, 3)), rel_tol=1e-13)


@pytest.mark.long
def test_judging_a_table_does_not_load_scipy_stats(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tune_bn.analysis import read_scores, judge_scores\n"
        "print(judge_scores(read_scores(Path(sys.argv[1])), baseline='base', goal='max')['verdict'])\n"
        "print([name for name in ('scipy.stats', 'scipy.optimize', 'scipy.interpolate') if name in sys.modules])"
    )
    rng = np.random.default_rng(1)
    arms = {"base": 0, "a": 2}
    rows = [f"{arm},{seed},{95 + gain + rng.normal():.3f}" for seed in range(15) for arm, gain in arms.items()]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["arm,seed,score", *rows]), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["supported", "[]"]
