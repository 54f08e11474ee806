"""Section on the looks of a group-sequential confirmation."""

from __future__ import annotations

from collections.abc import Iterator

from tune_bn.analysis.wording import decimals_of_verdict, number_words, score_of_verdict
from tune_bn.report.blocks import Block, Heading, Picture, first_of, paragraph, table
from tune_bn.report.cells import NONE, heading_with, number, significant
from tune_bn.report.figures.looks import DECISIONS, boundaries, has_arrows
from tune_bn.report.study import StudyFiles


def looks(study: StudyFiles) -> Iterator[Block]:
    """The boundaries of a group-sequential confirmation and what each look decided."""
    verdict = study.verdict
    if verdict is None or not verdict.design:
        return
    design = verdict.design
    yield Heading("Looks")
    futility = design.get("futility_t") or []
    rows = [
        [
            str(n),
            significant(spent),
            number_words(t),
            significant(p_value),
            number_words(futility[k]) if k < len(futility) else NONE,
        ]
        for k, (n, spent, t, p_value) in enumerate(
            zip(design["looks"], design["spent"], design["efficacy"], design["nominal_p"], strict=True)
        )
    ]
    yield paragraph(
        "The confirmation was planned to stop a candidate at one of these looks, as soon as its gain is shown or has "
        "become unlikely. All looks together reject with probability α where there is no effect."
    )
    yield table(
        "Boundaries", ["pairs", "level spent", "shown where t ≥", "as p of a fixed t-test", "futile where t <"], rows
    )
    figure = boundaries(verdict)
    if figure is not None:
        ends = ", or stops for futility below the dotted one" if futility else ""
        first, top = design["looks"][0], number_words(design["efficacy"][0])
        yield Picture(
            "looks.png",
            "Boundaries and paths",
            "Each line is a candidate: its paired t-test at each look, higher is better. It ends with its gain shown "
            f"at the black boundary{ends}. The boundary is that of a single "
            "candidate; of several, Holm's correction asks more. "
            f"The scale is that of the fixed test's p-value, because the boundary in t, {top} at {first} pairs, would "
            "lie far outside; the numbers beside the boundaries are t."
            f"{' An arrow marks a point beyond the picture.' if has_arrows(verdict) else ''}",
            figure,
            result=first_of(
                [
                    f"{arm.arm}: {DECISIONS[arm.looks[-1].decision]} at {arm.looks[-1].n} pairs"
                    for arm in verdict.candidates
                    if arm.looks
                ]
            ),
        )
    yield table(
        "Looks by candidate",
        [
            "candidate",
            "pairs",
            heading_with("effect", score_of_verdict(verdict).difference_unit),
            "t",
            "p at this look",
            "repeated p",
            "decision",
        ],
        [
            [
                arm.arm,
                str(look.n),
                number(look.effect, f"+.{decimals_of_verdict(verdict)}f"),
                number(look.t, ".2f"),
                significant(look.nominal_p),
                significant(look.p_value),
                DECISIONS[look.decision],
            ]
            for arm in verdict.candidates
            for look in arm.looks
        ],
    )
