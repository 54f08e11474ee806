"""The verb ``power``: what a confirmation can find."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from tune_bn.cli.common import JsonOption, app, say
from tune_bn.cli.score_text import number, table
from tune_bn.errors import ConfigError

TABLE_SEEDS = (3, 5, 8, 11, 15, 20, 30)


@app.command()
def power(
    effect: Annotated[float, typer.Option(help="True gain to look for, in the unit of the score.")],
    std: Annotated[float, typer.Option(help="Standard deviation of ONE arm over seeds, in the same unit.")],
    rho: Annotated[float, typer.Option(help="Correlation of the two arms over seeds; 0 is the cautious guess.")] = 0.0,
    n: Annotated[int, typer.Option(help="Seeds of each arm.")] = 15,
    alpha: Annotated[float, typer.Option(help="Level of the one-sided test.")] = 0.05,
    candidates: Annotated[int, typer.Option(help="Candidates that share the level by Holm's procedure.")] = 1,
    target: Annotated[float, typer.Option("--power", help="Power to plan for.")] = 0.8,
    as_json: JsonOption = False,
) -> None:
    """Say what a confirmation can find: power, minimum detectable effect, seeds needed. Starts nothing.

    For the one-sided paired t-test of the verdict. --std is that of one arm, as
    papers print it; the differences have std·√(2(1 − rho)). With several
    candidates the test is the first step of Holm's procedure, at alpha /
    candidates, the strictest that a candidate can have to pass.

    --json prints `effect`, `std`, `rho`, `std_of_differences`, `d_z`, `n`,
    `alpha`, `candidates`, `level` (alpha / candidates), `power`, `target_power`,
    `minimum_detectable_effect`, `seeds_needed` (null: more than 1,000,000) and
    `table`, whose rows have `n`, `power` and `minimum_detectable_effect`.
    """
    from tune_bn.analysis.power import minimum_detectable_effect, seeds_needed, std_of_differences, t_test_power

    with _options():
        test: dict[str, Any] = {"alpha": alpha, "candidates": candidates}
        spread = std_of_differences(std, rho)
        needed = seeds_needed(effect, spread, power=target, **test)

        def row(pairs: int) -> dict[str, Any]:
            return {
                "n": pairs,
                "power": t_test_power(effect, spread, pairs, **test),
                "minimum_detectable_effect": minimum_detectable_effect(spread, pairs, power=target, **test),
            }

        asked = row(n)
    sizes = sorted({*TABLE_SEEDS, n, *([] if needed is None else [needed])})
    answer = {
        "effect": effect,
        "std": std,
        "rho": rho,
        "std_of_differences": spread,
        "d_z": effect / spread,
        "n": n,
        "alpha": alpha,
        "candidates": candidates,
        "level": alpha / candidates,
        "power": asked["power"],
        "target_power": target,
        "minimum_detectable_effect": asked["minimum_detectable_effect"],
        "seeds_needed": needed,
        "table": [row(pairs) for pairs in sizes],
    }
    say(json.dumps(answer, indent=2, ensure_ascii=False) if as_json else _power_text(answer))


@contextmanager
def _options() -> Iterator[None]:
    """Name the option in errors about an argument."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"--{error.key.replace('_', '-')}", error.value, error.accepted) from None


def _power_text(answer: Mapping[str, Any]) -> str:
    m, target = answer["candidates"], answer["target_power"]
    level = f"α = {answer['alpha']:g}"
    if m > 1:
        level += f" / {m} = {number(answer['level'])} (the first Holm step of {m} candidates)"
    needed = answer["seeds_needed"]
    rows = [
        [str(row["n"]), _power_words(row["power"]), number(row["minimum_detectable_effect"])] for row in answer["table"]
    ]
    return "\n".join(
        [
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
    )


def _power_words(value: float) -> str:
    return "> 0.999" if value > 0.999 else f"{value:.3f}"
