"""The picture of early and final order: nothing of it lies outside, and there is no half epoch."""

from __future__ import annotations

import pytest

from tests.analysis.test_early_order import look, settles
from tune_bn.report.early_order import early_order_figure


@pytest.mark.long
@pytest.mark.parametrize("epochs", [3, 5, 10])
def test_every_value_is_inside_and_every_tick_is_an_epoch(epochs: int) -> None:
    # The first look sees the final order reversed, far below what the last one sees.
    turned = look(1, {"candidate": settles(16, epochs)}, range(1, epochs), epochs)
    last = look(2, {"candidate": settles(24, 2)}, range(1, epochs), epochs)
    figure = early_order_figure([turned, last])
    assert figure is not None
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    for line in axes.lines:
        assert all(low <= value <= high for value in line.get_ydata()), line.get_label()
    figure.canvas.draw()
    left, right = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if left <= tick <= right and tick != round(tick)] == []
