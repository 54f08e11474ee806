"""The look inside the layers, in pictures and in the report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.records.synthetic_layers import diagnostics, layer
from tune_bn.records.diagnostics import Diagnostics, Gradient, Tails, Values, read_diagnostics, to_json
from tune_bn.records.files import write_json
from tune_bn.report import write_report
from tune_bn.report.figures.layers import (
    COLUMNS,
    columns_explained,
    layer_figure,
    layer_figures,
    number,
    overview,
    shown_name,
)
from tune_bn.report.layers_page import write_files
from tune_bn.report.markdown import to_markdown
from tune_bn.report.study import load
from tune_bn.report.writing import contents

# A glyph that the font lacks, or an empty slice, is a warning.
pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.long]


@pytest.fixture(autouse=True)
def no_importance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forests of the importance take their time; test_importance.py has them."""
    monkeypatch.setattr("tune_bn.report.process.importances", lambda study: [])


def figure_of(found: Diagnostics, *others: Diagnostics) -> Figure:
    figure = layer_figure(found, "title", others)
    assert figure is not None
    figure.canvas.draw()
    return figure


def drawn(axes: Any, label: str) -> np.ndarray[Any, Any]:
    """The line under a label, as rows (x, y)."""
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return np.column_stack([line.get_xdata(), line.get_ydata()])


def legend(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("count", [1, 4, 53, 155])
def test_every_layer_is_drawn_and_names_do_not_overlap(count: int) -> None:
    found = diagnostics(count)
    figure = figure_of(found)
    gammas, _, reach, gradients = figure.axes
    places, learned = drawn(gammas, "learned mean, epoch 40").T
    assert places.tolist() == list(range(count))
    assert learned == pytest.approx([one.gamma.mean for one in found.layers])
    assert drawn(reach, r"largest $|\hat{x}|$")[:, 1] == pytest.approx([5.0 + index for index in range(count)])
    assert drawn(gradients, r"$\gamma = 1$")[:, 1] == pytest.approx([2.0 / (1 + index) for index in range(count)])
    named = {int(place): text for place, text in zip(gradients.get_xticks(), gradients.get_xticklabels(), strict=True)}
    # Of many layers every second or sixth has its name: all would be too small to read.
    assert len(named) == {53: 27, 155: 26}.get(count, count)
    boxes = []
    for place, text in named.items():
        assert text.get_text() == found.layers[place].name
        boxes.append(text.get_window_extent())
    assert all(left.x1 <= right.x0 + 1 for left, right in pairwise(boxes))
    assert f"{count} BN layers" in gradients.get_xlabel()
    assert ("every 6th is named" in gradients.get_xlabel()) == (count == 155)


def test_long_names_are_cut_at_their_start() -> None:
    name = "network.features.denseblock3.denselayer24.norm1"
    assert shown_name(layer(0, name="network.layer1.0.bn1")) == "layer1.0.bn1"
    assert len(shown_name(layer(0, name=name))) == 28
    assert name.endswith(shown_name(layer(0, name=name)).removeprefix("…"))


def test_initial_values_are_shown_beside_learned_ones_and_a_small_drift_looks_small() -> None:
    found = diagnostics(4, gamma=0.2)
    gammas = figure_of(found).axes[0]
    (initial,) = (lines for lines in gammas.collections if lines.get_label() == "initial")
    assert [segment[0][1] for segment in initial.get_segments()] == pytest.approx([0.2] * 4)
    low, high = gammas.get_ylim()
    assert low < 0.75 * 0.2
    assert high > 1.25 * 0.2
    (spread,) = (lines for lines in gammas.collections if lines.get_label() == "± std")
    mean, std = found.layers[0].gamma.mean, found.layers[0].gamma.std
    assert mean is not None
    assert std is not None
    assert spread.get_segments()[0][:, 1] == pytest.approx([mean - std, mean + std])


def test_a_network_before_its_first_step_has_learned_nothing() -> None:
    assert legend(figure_of(diagnostics(4, epoch=0)).axes[0]) == ["initial"]
    assert "learned mean" in legend(figure_of(diagnostics(4, epoch=None)).axes[0])


def test_shares_are_percent_and_what_never_happens_is_said() -> None:
    shares = figure_of(diagnostics(4)).axes[1]
    assert drawn(shares, r"$|\hat{x}| > 3$")[:, 1] == pytest.approx([0.4, 0.401, 0.402, 0.403])
    assert drawn(shares, r"$|\hat{x}| > 6$")[:, 1] == pytest.approx([0.0, 0.001, 0.002, 0.0])
    assert {r"$|y| > 3$: none", r"$|y| > 6$: none"} <= set(legend(shares))


def test_a_gradient_of_0_is_marked_on_the_logarithmic_scale() -> None:
    found = diagnostics(3)
    dead = replace(found.layers[1], gradient=Gradient(0.5, 0.0, 0.0))
    gradients = figure_of(replace(found, layers=(found.layers[0], dead, found.layers[2]))).axes[3]
    assert drawn(gradients, r"0 with initial $\gamma$")[:, 0].tolist() == [1]
    assert np.isnan(drawn(gradients, r"initial $\gamma$")[1, 1])
    (words,) = (text.get_text() for text in gradients.texts)
    assert words == "ratio 0.95 (median), 0 to 0.95"


def test_pictures_of_several_networks_can_be_compared() -> None:
    one, other = diagnostics(4, gamma=1.0), diagnostics(20, gamma=0.01)
    first, second = figure_of(one, other).axes, figure_of(other, one).axes
    for place in (1, 2, 3):
        assert first[place].get_ylim() == second[place].get_ylim()
    assert first[0].get_ylim() != second[0].get_ylim()


def test_what_is_not_known_leaves_gaps() -> None:
    nothing = Values(None, None, None, None, None, None, None)
    bare = replace(layer(1), gamma=nothing, beta=None, normalized=None, output=Tails(None, None, None), gradient=None)
    found = diagnostics(0, layers=(layer(0), bare, layer(2)))
    gammas, _, reach, _ = figure_of(found).axes
    assert np.isnan(drawn(gammas, "learned mean, epoch 40")[1, 1])
    assert np.isnan(drawn(reach, r"largest $|\hat{x}|$")[1, 1])
    assert {COLUMNS[name](bare) for name in COLUMNS if name not in ("layer", "channels")} == {"–"}
    assert overview(found)["layers"] == "3"
    figure_of(diagnostics(0, layers=(bare, bare)))
    assert set(overview(diagnostics(0, layers=(bare,))).values()) == {"1", "–"}


def test_without_layers_there_is_no_picture() -> None:
    assert layer_figure(Diagnostics(1, problem="RuntimeError: no"), "title") is None


def test_an_overview_sums_up_the_layers() -> None:
    row = overview(diagnostics(3, gamma=0.1))
    assert row["drift %"] == "1.0"
    assert row["max drift %"] == "2.0"
    assert row["|x̂|>3 %"] == "0.40"
    assert row["|x̂|>6 %"] == "0.0010"
    assert (row["max|x̂|"], row["max|y|"]) == ("7.00", "0.700")
    assert (row["min ratio"], row["ratio"], row["max ratio"]) == ("0.950", "0.950", "0.950")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, "1.00"),
        (0.977, "0.977"),
        (12.0, "12.0"),
        (9.996, "10.0"),
        (0.9996, "1.00"),
        (123.4, "123"),
        (1234.0, "1230"),
        (0.0663, "0.0663"),
        (-0.5, "-0.500"),
        (0.0, "0"),
        (2.5e9, "2.5e+09"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_of_a_column_are_as_fine_as_each_other(value: float, shown: str) -> None:
    assert number(value) == shown


def inspected(study: Any, folder: Path, **others: Diagnostics) -> Path:
    """Write a study whose arms were inspected."""
    study.write(folder)
    (folder / "diagnostics").mkdir()
    for arm in (study.plan["baseline"], *study.plan["candidates"]):
        found = others.get(arm["arm"].replace("-", "_"), diagnostics(7, config=arm["config"]))
        write_json(folder / "diagnostics" / f"{arm['arm']}.json", to_json(replace(found, arm=arm["arm"])))
    return folder


def inside(folder: Path) -> str:
    text = (folder / "report.md").read_text()
    return text.partition("## Inside the layers")[2].partition("\n## ")[0]


def test_a_report_shows_the_layers_of_every_arm(synthetic_study: Any, tmp_path: Path) -> None:
    folder = inspected(synthetic_study(candidates=2), tmp_path / "study")
    written = {path.name for path in write_report(folder)}
    pictures = [f"layers-{arm}.png" for arm in ("baseline", "candidate-1", "candidate-2")]
    assert set(pictures) <= written
    text = inside(folder)
    assert re.findall(r"\(plots/(.*?)\)", text) == pictures
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| baseline", "| candidate-1", "| candidate-2"]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_of_many_arms_a_report_shows_the_first_and_links_the_rest(synthetic_study: Any, tmp_path: Path) -> None:
    folder = inspected(synthetic_study(candidates=5), tmp_path / "study")
    write_report(folder)
    text = inside(folder)
    assert len(re.findall(r"!\[", text)) == 5
    assert "Pictures of the other arms: [Layers of candidate-5](plots/layers-candidate-5.png)." in text
    assert all((folder / place).is_file() for place in re.findall(r"\((plots/.*?)\)", text))


def test_a_report_says_what_could_not_be_seen(synthetic_study: Any, tmp_path: Path) -> None:
    gone = Diagnostics(1, problem="RuntimeError: out of | memory")
    folder = inspected(synthetic_study(), tmp_path / "study", candidate_1=gone)
    write_report(folder)
    assert "Not known: candidate-1: RuntimeError: out of \\| memory." in inside(folder)
    assert not (folder / "plots/layers-candidate-1.png").exists()


def test_a_damaged_file_is_named_and_the_rest_is_shown(synthetic_study: Any, tmp_path: Path) -> None:
    folder = inspected(synthetic_study(), tmp_path / "study")
    (folder / "diagnostics/baseline.json").write_text("{")
    study = load(folder)
    assert list(study.diagnostics) == ["candidate-1"]
    assert list(layer_figures(study)) == ["layers-candidate-1.png"]
    assert "**Damaged file:** diagnostics/baseline.json: no diagnostics (" in to_markdown(contents(study))


def test_a_study_that_was_not_inspected_has_no_such_section(synthetic_study: Any, tmp_path: Path) -> None:
    assert "Inside the layers" not in to_markdown(contents(load(synthetic_study().write(tmp_path / "study"))))


def test_one_network_as_files(tmp_path: Path) -> None:
    found = diagnostics(5, config={"arch": "resnet8", "gamma": 0.1, "c": 1.0}, epoch=0)
    paths = write_files(found, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["diagnostics.json", "diagnostics.md", "layers.png"]
    assert read_diagnostics(paths[0]) == found
    page = paths[1].read_text()
    assert page.startswith("# resnet8: γ = 0.1, c = 1, seed 1, before the first step\n")
    assert sum(line.startswith("| layer1.") for line in page.splitlines()) == 5
    with Image.open(paths[2]) as picture:
        assert picture.size[0] > 1000
    assert json.loads(paths[0].read_text())["layers"][4]["gamma"]["initial"] == 0.1


def test_columns_are_explained_where_they_stand_and_nowhere_else() -> None:
    trained = columns_explained(["γ₀", "γ", "drift %", "|x̂|>3 %", "max|y|", "ratio"])
    assert "β" not in trained
    assert "∂x:" not in trained
    assert "ratio: norm of ∂L/∂x" in trained
    first = columns_explained(["γ₀", "|x̂|>3 %", "∂x γ=1", "∂x", "ratio"])
    assert "drift" not in first
    assert "∂x: norm of ∂L/∂x at the first step, with γ = 1 and with the initial γ; ratio: the second by" in first
    every = columns_explained(COLUMNS)
    assert every.count("ratio: ") == 1
    assert "β: " in every
