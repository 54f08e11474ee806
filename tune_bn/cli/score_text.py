"""A verdict on scores as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tune_bn.records.score_verdict import ScoreVerdict
    from tune_bn.records.verdict import AnyVerdict, Arm


def verdict_text(verdict: ScoreVerdict) -> str:
    """The verdict, its reason, the goal and every remark; then the arms as a table."""
    lines = [f"verdict: {verdict.headline}", verdict.reason]
    remarks = [f"remark: {remark}" for remark in verdict.remarks]
    if verdict.is_invalid:
        return "\n".join([*lines, *(f"- {problem}" for problem in verdict.problems[1:]), *remarks])
    several = len(verdict.candidates) > 1
    baseline = verdict.baseline
    arms = arms_table(verdict, [] if baseline is None else [baseline])
    tables = [*arms, *_beside(verdict, several)]
    what = f"against {verdict.threshold:g}" if baseline is None else "over the baseline"
    return "\n".join([*lines, f"{_goal(verdict)} A gain is {what}.", *remarks, "", *tables, "", str(verdict.selection)])


def arms_table(verdict: AnyVerdict, baselines: Sequence[Arm]) -> list[str]:
    """Every arm by its name: score, gain, lower bound, p-values, and what was found."""
    from tune_bn.analysis.claims import OUTCOMES, outcome_of
    from tune_bn.analysis.score_words import arm_words
    from tune_bn.analysis.wording import correction_words
    from tune_bn.errors import listed
    from tune_bn.records.verdict import known

    several = len(verdict.candidates) > 1
    head = ["arm", "n", "mean ± std", "gain", f"≥ ({100 * (1 - known(verdict.alpha)):g} %)", "p"]
    head += [*([f"p ({correction_words(verdict)})"] if several else []), "p two-sided", "verdict"]
    rows = [[listed([arm.arm]), str(len(arm.scores)), arm_words(arm), *[""] * (len(head) - 3)] for arm in baselines]
    for arm in verdict.candidates:
        adjusted = [p_words(arm.p_adjusted)] if several else []
        rows.append(
            [
                listed([arm.arm]),
                str(arm.n),
                arm_words(arm),
                number(arm.effect),
                number(arm.ci_low),
                p_words(arm.p_value),
                *adjusted,
                p_words(arm.p_two_sided),
                OUTCOMES[outcome_of(arm)] + (", worse" if arm.supported and arm.worse else ""),
            ]
        )
    return table(head, rows)


def _goal(verdict: ScoreVerdict) -> str:
    from tune_bn.analysis.goals import MIN
    from tune_bn.errors import listed

    way = "lower" if verdict.goal == MIN else "higher"
    stated = verdict.goal_from == "stated"
    why = "" if stated else f", as for anything called {listed([str(verdict.metric)])} (else --goal min)"
    return f"goal: a {way} {verdict.metric} is better{why}."


def _beside(verdict: ScoreVerdict, several: bool) -> list[str]:
    """The same scores under other methods."""
    from tune_bn.analysis.score_words import FOLDS, LOOKS, UNPAIRED
    from tune_bn.analysis.untested import tested
    from tune_bn.errors import listed
    from tune_bn.records.verdict import known
    from tune_bn.records.verdict_details import OtherTests, RankTests

    arms, mode = tested(verdict.candidates), verdict.mode
    adjusted = ", not adjusted" if several else ""
    if mode == FOLDS:
        rows = [[listed([arm.arm]), p_words(arm.uncorrected_p_value)] for arm in arms]
        return ["", "The plain paired t-test, which takes the folds for independent runs:", *table(["arm", "p"], rows)]
    if mode == LOOKS:
        rows = [
            [
                listed([arm.arm]),
                str(look.n),
                number(look.effect),
                number(look.t),
                number(look.efficacy),
                p_words(look.p_value),
                look.decision,
            ]
            for arm in arms
            for look in arm.looks
        ]
        return ["", "Look by look:", *table(["arm", "pairs", "gain", "t", "boundary", "p", "decision"], rows)]
    by_ranks = [(listed([arm.arm]), arm.sensitivity) for arm in arms if isinstance(arm.sensitivity, RankTests)]
    if mode == UNPAIRED:
        rows = [
            [
                name,
                p_words(given.rank_sum.p_value),
                number(given.hodges_lehmann.estimate),
                interval((given.hodges_lehmann.low, given.hodges_lehmann.high)),
            ]
            for name, given in by_ranks
        ]
        head = ["arm", "rank-sum p", "shift", f"{100 * (1 - 2 * known(verdict.alpha)):g} % interval"]
        return ["", f"Other methods{adjusted}; the shift is Hodges and Lehmann's:", *table(head, rows)]
    also = [(arm, arm.sensitivity) for arm in arms if isinstance(arm.sensitivity, OtherTests)]
    confidence = f"{100 * also[0][1].confidence:g} %"
    doubted = any(arm.doubt for arm in arms)
    columns = ["arm", "Wilcoxon p", "sign-flip p", f"t interval ({confidence})", "bootstrap interval"]
    rows = [
        [
            listed([arm.arm]),
            p_words(given.wilcoxon.p_value),
            p_words(given.sign_flip.p_value),
            interval(given.t_interval),
            interval(given.bootstrap_interval),
            *([p_words(arm.welch.p_value) if arm.welch else "–"] if doubted else []),
        ]
        for arm, given in also
    ]
    title = f"The same differences under other methods; p one-sided{adjusted}:"
    return ["", title, *table([*columns, *(["Welch p (no pairs)"] if doubted else [])], rows)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two spaces apart; the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width) for index, (cell, width) in enumerate(cells)
        ).rstrip()
        for cells in (list(zip(row, widths, strict=True)) for row in (head, *rows))
    ]


def number(value: float | None) -> str:
    """Three digits; a dash where there is none."""
    return "–" if value is None else f"{value:.3g}"


def p_words(value: float | None) -> str:
    """Two digits; a dash where there is none."""
    return "–" if value is None else f"{value:.2g}"


def interval(ends: Sequence[float | None]) -> str:
    """``0.1 to 0.9``."""
    low, high = (number(end) for end in ends)
    return f"{low} to {high}"
