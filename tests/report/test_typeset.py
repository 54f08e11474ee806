"""One minus sign and one kind of number in the pages of a report; terminals and JSON keep their hyphen."""

from __future__ import annotations

import re
from html import unescape

import pytest
from matplotlib.figure import Figure

from tune_bn.report.blocks import (
    Bullets,
    Code,
    Gallery,
    Heading,
    Mono,
    Picture,
    Strong,
    Verdict,
    paragraph,
    spans,
    table,
    typeset,
)
from tune_bn.report.cells import config_cells, outcome_cell, significant, spread_digits
from tune_bn.report.markdown import to_markdown
from tune_bn.report.page import to_html

GAP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("90 % interval -0.04 to +0.46", "90 % interval −0.04 to +0.46"),
        ("(-1.25)", "(−1.25)"),
        ("t < -.5", "t < −.5"),
        ("p = 3.2e-05", "p = 3.2e−05"),
        ("lr = 1e-05, wd = -2", "lr = 1e−05, wd = −2"),
        ("digits-1 and candidate-12", "digits-1 and candidate-12"),
        ("2026-11-30T02:14:44", "2026-11-30T02:14:44"),
        ("--seeds -1-5", "--seeds −1-5"),
        ("a/-1.bits", "a/-1.bits"),
        ("10-fold, f3e-05ab, group-sequential", "10-fold, f3e-05ab, group-sequential"),
        ("3-5 seeds", "3-5 seeds"),
    ],
)
def test_a_sign_is_a_minus_and_a_hyphen_stays_one(text, shown):
    assert typeset(text) == shown


def everywhere(text):
    """A text wherever a page may have one."""
    return [
        Heading(text),
        Verdict("worse", "Worse", text),
        paragraph(text, Strong(text)),
        Bullets(((text,),)),
        table("title", ["a", text], [["b", text]]),
        Picture("a.png", "title", text, Figure(), result=text),
        Gallery(text, ()),
    ]


def test_both_pages_have_it_in_all_their_places():
    blocks = everywhere("is -0.5 here")
    for page in (to_markdown(blocks), to_html(blocks, title="t", draw=lambda _: b"")):
        assert page.count("is −0.5 here") >= len(blocks)
        assert "-0.5" not in page


def test_what_is_to_be_typed_stays_as_it_is():
    line = "tune_bn verify x --alpha -0.5 = 3 ± 2"
    blocks = [
        Code(line),
        paragraph(Mono(line)),
        Verdict("open", "word", f"see `{line}`"),
        paragraph(*spans(f"`{line}`")),
    ]
    for page in (to_markdown(blocks), to_html(blocks, title="t", draw=lambda _: b"")):
        assert page.count(line) == 4


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("γ = 0.0679, c = 933 shows", "γ{_}={_}0.0679, c{_}={_}933 shows"),
        ("p = 0.083 > 0.05, so", "p{_}={_}0.083{_}>{_}0.05, so"),
        ("95.86 ± 0.57 against 95.65 ± 0.65 %", "95.86{_}±{_}0.57 against 95.65{_}±{_}0.65{_}%"),
        ("a loss of -0.04 pp, τ ≥ -0.5", "a loss of −0.04{_}pp, τ{_}≥{_}−0.5"),
        ("n = 15 seeds", "n{_}={_}15 seeds"),
        ("5 ppm and arch = resnet8", "5 ppm and arch = resnet8"),
    ],
)
def test_no_line_of_the_page_ends_within_a_number(text, whole):
    blocks = everywhere(text)
    page = unescape(to_html(blocks, title="t", draw=lambda _: b""))
    assert page.count(whole.format(_=GAP)) >= len(blocks)
    assert GAP not in to_markdown(blocks)


def test_a_value_is_told_as_finely_as_its_neighbours():
    assert [significant(p) for p in (0.083, 0.08, 0.0999, 1.0, 0.0, None)] == [
        "0.083",
        "0.080",
        "0.10",
        "1.0",
        "0",
        "–",
    ]
    assert significant(12.0) == "12"
    assert significant(3e-5) == "3.0e-05"


@pytest.mark.parametrize(
    ("value", "cell"),
    [(0.06798, "0.0680"), (0.0679340, "0.0679"), (0.1, "0.1"), (0.25, "0.25"), (932.66, "933"), (10.04, "10.0"),
     (1.0, "1"), (0.9999, "1.00"), (123456.7, "123000"), (1.23456e-7, "1.23e-07"), (64, "64"), ("adam", "adam"),
     (0.0, "0")],
)  # fmt: skip
def test_a_rounded_value_of_a_configuration_shows_to_which_digit(value, cell):
    assert config_cells({"gamma": value}, ["gamma"]) == [cell]


def test_a_difference_can_be_seen_in_two_means():
    assert spread_digits(0.02, 0.3) == 3
    assert spread_digits(0.3, 0.0012) == 4
    assert spread_digits(0.0, 0.0) == 4
    assert re.fullmatch(r"0\.066 ± 0\.010", outcome_cell(0.06618, 0.01008))
