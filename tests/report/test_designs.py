"""The picture of designs side by side."""

from __future__ import annotations

import numpy as np
import pytest

from tune_bn.analysis.recommend import fixed_option, sequential_option
from tune_bn.analysis.sequential import design
from tune_bn.report.designs import designs
from tune_bn.report.figures.canvas import svg_of

# A glyph that the font lacks, or an empty slice, is a warning.
pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.long
@pytest.mark.parametrize("candidates", [1, 3])
def test_each_design_has_its_power_its_pairs_and_its_ends(candidates):
    d_z, unit = 0.675, 0.4
    looks = [(3, 5, 8, 11, 15), (4, 6, 8, 10, 12, 15, 18, 21)]
    shown = [
        fixed_option(d_z, 15, candidates=candidates),
        *(sequential_option(d_z, design(some), candidates=candidates) for some in looks),
    ]
    figure = designs(shown, d_z=d_z, unit=unit, candidates=candidates, alpha=0.05)
    power, pairs, *ends = figure.axes
    for option, line, cost in zip(shown, power.lines, pairs.lines, strict=False):
        x, y = line.get_data()
        assert np.interp(unit * d_z, x, y) == pytest.approx(option.gain.power, abs=2e-3)
        assert np.interp(0, x, y) == pytest.approx(option.none.power, abs=1e-6)
        assert np.interp(unit * d_z, *cost.get_data()) == pytest.approx(option.gain.expected_pairs, abs=0.02)
    assert len(ends) == 2
    for axes, some in zip(ends, looks, strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == [str(n) for n in some]
        assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(2)
    assert figure.legends[1].get_texts()[0].get_text() == "fixed, 15 pairs"
    assert svg_of(figure).startswith(b"<?xml")


def test_a_fixed_design_alone_has_no_ends():
    figure = designs([fixed_option(3.0, 4)], d_z=3.0, unit=1.0, candidates=1, alpha=0.05)
    assert len(figure.axes) == 2
    assert len(figure.legends) == 1


@pytest.mark.long
def test_a_design_of_many_looks_is_named_by_their_number():
    rule = design(tuple(range(3, 23)))
    figure = designs([sequential_option(0.5, rule)], d_z=0.5, unit=1.0, candidates=1, alpha=0.05)
    assert figure.axes[2].get_title(loc="left") == "20 looks, 3 to 22"
    assert len(figure.axes[2].get_xticklabels()) == 20
