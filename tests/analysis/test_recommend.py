"""Which design is recommended for a wished power."""

from __future__ import annotations

import pytest

from tune_bn.analysis.power import seeds_needed
from tune_bn.analysis.recommend import WORTH, fixed_option, options, recommended, spread_looks
from tune_bn.analysis.spending import check_looks
from tune_bn.errors import ConfigError


@pytest.mark.parametrize("number", [2, 3, 5, 8])
@pytest.mark.parametrize("pairs", [4, 5, 9, 15, 21, 200, 10_000])
def test_the_looks_are_acceptable_and_end_at_all_pairs(pairs, number):
    looks = check_looks(spread_looks(pairs, number))
    assert looks[-1] == pairs
    assert 2 <= len(looks) <= number


@pytest.mark.long
@pytest.mark.parametrize(
    ("d_z", "test"),
    [
        (0.675, {}),
        (0.675, {"power": 0.95}),
        (1.2, {"candidates": 4}),
        (0.2, {"power": 0.9, "alpha": 0.025}),
        (0.5, {"futility": None}),
        (5.0, {}),
    ],
)
def test_each_design_has_the_power_and_one_pair_fewer_has_not(d_z, test):
    wished = test.get("power", 0.8)
    found = options(d_z, **test)
    needed = seeds_needed(d_z, 1.0, **{key: value for key, value in test.items() if key != "futility"})
    assert found[0].rule is None
    assert found[0].pairs == needed
    assert all(option.gain.power >= wished for option in found)
    assert all(needed <= option.pairs <= 1.2 * needed + 2 for option in found[1:])
    assert all(option.gain.expected_pairs <= option.pairs for option in found)
    if needed > 5:
        assert found[-1].gain.expected_pairs < 0.9 * needed
    best = recommended(found)
    assert best.gain.expected_pairs <= (1 + WORTH) * min(option.gain.expected_pairs for option in found)


def test_a_plan_for_fifteen_seeds_takes_a_fifth_fewer_runs():
    fixed, *others = options(0.675)
    best = recommended([fixed, *others])
    assert fixed.pairs == 16
    assert best.rule is not None
    assert 0.70 < best.gain.expected_runs() / fixed.gain.expected_runs() < 0.82
    assert best.none.expected_pairs < best.gain.expected_pairs


def test_the_fixed_design_stands_alone_where_there_is_no_room_for_looks():
    assert [option.rule for option in options(0.5, alpha=0.4)] == [None]
    assert [option.rule for option in options(0.02)] == [None]
    assert recommended(options(0.02)).rule is None
    assert options(1e-5) == []
    # Three seeds show a huge gain; no design with looks has fewer.
    assert recommended(options(8.0)).rule is None


def test_a_fixed_option_is_the_fixed_test():
    option = fixed_option(0.675, 15, candidates=2)
    assert (option.pairs, option.looks, option.gain.expected_runs(2)) == (15, 1, 45)
    assert option.none.power == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("d_z", "test", "key"),
    [
        (0.0, {}, "effect"),
        (0.5, {"power": 1.0}, "power"),
        (0.5, {"candidates": 0}, "candidates"),
        (0.5, {"alpha": 0.0}, "alpha"),
        (0.5, {"futility": 0.7}, "futility"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(d_z, test, key):
    with pytest.raises(ConfigError) as caught:
        options(d_z, **test)
    assert caught.value.key == key
