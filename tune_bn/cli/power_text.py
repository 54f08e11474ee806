"""What the verb ``power`` says, as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tune_bn.cli.score_text import number, table


def power_text(answer: Mapping[str, Any]) -> str:
    """The fixed design, the group-sequential one beside it, and the designs for the wished power."""
    return "\n".join([*_fixed(answer), *_sequential(answer), *_choice(answer)])


def _fixed(answer: Mapping[str, Any]) -> list[str]:
    m, target = answer["candidates"], answer["target_power"]
    level = f"α = {answer['alpha']:g}"
    if m > 1:
        level += f" / {m} = {number(answer['level'])} (the first Holm step of {m} candidates)"
    needed = answer["seeds_needed"]
    rows = [
        [str(row["n"]), _power_words(row["power"]), number(row["minimum_detectable_effect"])] for row in answer["table"]
    ]
    return [
        f"One-sided paired t-test at {level}.",
        f"One arm has a standard deviation of {answer['std']:g} over seeds; with correlation ρ = {answer['rho']:g} "
        f"the differences have {number(answer['std_of_differences'])}.",
        "",
        f"{answer['n']} seeds find a true gain of {answer['effect']:g} (d_z = {number(answer['d_z'])}) "
        f"with power {_power_words(answer['power'])}.",
        f"{answer['n']} seeds find a gain from {number(answer['minimum_detectable_effect'])} on "
        f"with power {target:g}: the minimum detectable effect.",
        f"A gain of {answer['effect']:g} needs "
        f"{'more than 1,000,000' if needed is None else needed} seeds for power {target:g}.",
        "",
        *table(["seeds", "power", f"minimum effect (power {target:g})"], rows),
    ]


def _sequential(answer: Mapping[str, Any]) -> list[str]:
    design = answer["design"]
    if design is None:
        return []
    of_one = " of a candidate" if answer["candidates"] > 1 else ""
    rows = [
        [
            str(stage["n"]),
            number(stage["efficacy_t"]),
            "–" if stage["futility_t"] is None else number(stage["futility_t"]),
            *(f"{100 * stage[key]:.1f} %" for key in ("shown", "futile", "shown_without_gain", "futile_without_gain")),
        ]
        for stage in design["stages"]
    ]
    head = ["pairs", "shown, t ≥", "futile, t <", "gain: shown", "ends without", "no gain: shown", "ends without"]
    return [
        "",
        f"Group-sequential, looks at {_listed(design['looks'])} pairs: power {_power_words(design['power'])}, and "
        f"power {answer['target_power']:g} for a gain from {number(design['minimum_detectable_effect'])} on.",
        f"On average it takes {design['expected_pairs']:.1f} pairs{of_one} with the gain, "
        f"{design['expected_pairs_without_gain']:.1f} without any. Where it ends:",
        "",
        *table(head, rows),
    ]


def _choice(answer: Mapping[str, Any]) -> list[str]:
    found, best, m = answer["options"], answer["recommended"], answer["candidates"]
    if not found:
        return []
    runs = "runs" if m == 1 else f"runs of {m} (at most)"
    head = ["design", "seeds at most", "power", "pairs, gain", "no gain", f"{runs}, gain", "no gain"]
    rows = [
        [
            _name(design) + (" *" if design == best else ""),
            str(design["pairs_at_most"]),
            _power_words(design["power"]),
            *(f"{design[key]:.1f}" for key in ("expected_pairs", "expected_pairs_without_gain")),
            *(f"{design[key]:.1f}" for key in ("expected_runs", "expected_runs_without_gain")),
        ]
        for design in found
    ]
    return [
        "",
        f"Designs that find a gain of {answer['effect']:g} with power {answer['target_power']:g}; "
        "pairs and runs are means:",
        "",
        *table(head, rows),
        "",
        f"* recommended: {_recommendation(best, found)}",
        *_caution(best, answer["level"]),
    ]


def _caution(best: Mapping[str, Any], level: float) -> list[str]:
    n = best["pairs_at_most"]
    if 0.5**n <= level:
        return []
    return [
        f"With {n} pairs no test free of assumptions on the distribution can go below p = 1/2^{n} = {0.5**n:g}: this "
        f"rests on normal differences alone. From {math.ceil(-math.log2(level))} pairs on it need not."
    ]


def _recommendation(best: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    fixed = found[0]
    if best["stopping"] == "fixed":
        why = "looks would save nothing" if len(found) > 1 else "looks are computed for 4 to 10,000 pairs at α ≤ 0.3"
        return f"`claim.stopping: fixed` with {best['pairs_at_most']} seeds in `seeds.confirm`; {why}."
    saved, without = (
        f"{100 * (1 - best[key] / fixed[key]):.0f} %" for key in ("expected_runs", "expected_runs_without_gain")
    )
    futility = (
        "" if best["futility"] == 0.05 else f", futility: {'null' if best['futility'] is None else best['futility']}"
    )
    return (
        f"{best['pairs_at_most']} seeds in `seeds.confirm` and "
        f"`claim: {{stopping: group_sequential, looks: {best['looks']}{futility}}}`.\n"
        f"It saves {saved} of the runs of the fixed design with the gain, {without} without any."
    )


def _name(design: Mapping[str, Any]) -> str:
    return "fixed" if design["looks"] is None else f"looks {', '.join(map(str, design['looks']))}"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f"{' and ' if len(numbers) > 1 else ''}{numbers[-1]}"


def _power_words(value: float) -> str:
    return "> 0.999" if value > 0.999 else f"{value:.3f}"
