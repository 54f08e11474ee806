"""What the benchmark of tuning luck runs: each rule in the same study, and more of the default."""

from __future__ import annotations

import pytest

from benchmarks.statistics.tuning_luck import RULES, WORLDS, cases, table, whole_study


@pytest.mark.long
def test_each_rule_is_a_whole_study_and_a_line() -> None:
    rows = [whole_study(("shifted, steep", *rule, 0)) for rule in RULES]
    assert [row["opponents"] > 1 for row in rows] == [False, True, True]
    assert [row["confirm_runs"] for row in rows] == [15 * (1 + row["opponents"]) for row in rows]
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(RULES)
    assert "| shifted, steep | all | gp | 1 |" in lines[-1]


def test_the_default_without_a_gain_gets_the_most_studies() -> None:
    found = cases(30)
    assert len(set(found)) == len(found)
    counts = {(world, rule): sum(case[:3] == (world, *rule) for case in found) for world in WORLDS for rule in RULES}
    assert {count for (world, rule), count in counts.items() if rule == RULES[2] and not WORLDS[world].gain} == {30}
    assert max(count for (world, rule), count in counts.items() if WORLDS[world].gain or rule != RULES[2]) == 10
