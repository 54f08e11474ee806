"""The verb ``power``: what a confirmation can find, and which design takes the fewest runs to find it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_bn.cli.common import JsonOption, app, looks_of, say
from tune_bn.cli.power_text import power_text
from tune_bn.errors import ConfigError

if TYPE_CHECKING:
    from tune_bn.analysis.recommend import Option
    from tune_bn.analysis.sequential import Design

TABLE_SEEDS = (3, 5, 8, 11, 15, 20, 30)
DEFAULT_SEEDS = 15
PICTURES = (".png", ".svg")


@app.command()
def power(
    effect: Annotated[float, typer.Option(help="True gain to look for, in the unit of the score.")],
    std: Annotated[float, typer.Option(help="Standard deviation of ONE arm over seeds, in the same unit.")],
    rho: Annotated[float, typer.Option(help="Correlation of the two arms over seeds; 0 is the cautious guess.")] = 0.0,
    n: Annotated[
        int | None, typer.Option(help="Seeds of each arm. Default: 15, or the last of --looks.", show_default=False)
    ] = None,
    alpha: Annotated[float, typer.Option(help="Level of the one-sided test.")] = 0.05,
    candidates: Annotated[int, typer.Option(help="Candidates that share the level by Holm's procedure.")] = 1,
    target: Annotated[float, typer.Option("--power", help="Power to plan for.")] = 0.8,
    looks: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Pairs at each look of a group-sequential design. Default: 3, 5, 8, 11, 15 in proportion to --n.",
        ),
    ] = None,
    futility: Annotated[
        str,
        typer.Option(metavar="X", help="Chance to show its gain below which a candidate ends at a look; none: never."),
    ] = "0.05",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw power and pairs of the designs, as .png or .svg.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a confirmation can find, and recommend a design: power, detectable effect, seeds, runs. Starts nothing.

    For the one-sided paired t-test of the verdict, on a fixed number of seeds and
    group-sequentially. --std is that of one arm, as papers print it; the
    differences have std·√(2(1 − rho)). With several candidates the test is the
    first step of Holm's procedure, at alpha / candidates, the strictest that a
    candidate can have to pass.

    --json prints `effect`, `std`, `rho`, `std_of_differences`, `d_z`, `n`,
    `alpha`, `candidates`, `level` (alpha / candidates), `power`, `target_power`,
    `minimum_detectable_effect`, `seeds_needed` (null: more than 1,000,000) and
    `table`, whose rows have `n`, `power` and `minimum_detectable_effect`, all of
    the fixed design; `design`, the group-sequential one of --looks (null where n
    has no room for looks); `options`, the designs that have the target power; and
    `recommended`, one of them. A design has `stopping`, `looks`, `futility`,
    `pairs_at_most`, `power`, `expected_pairs`, `expected_runs` and both
    `…_without_gain`; with several candidates the pairs are those of one, and the
    runs the most that all together take on average. Its `stages` have `n`, the
    bounds `efficacy_t` and `futility_t`, and how many end there, `shown` and
    `futile`, both also `…_without_gain`.
    """
    from tune_bn.analysis.characteristics import detectable
    from tune_bn.analysis.power import minimum_detectable_effect, seeds_needed, std_of_differences, t_test_power
    from tune_bn.analysis.recommend import options, recommended, sequential_option

    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise ConfigError("--plot", str(plot), f"a file that ends in {' or '.join(PICTURES)}")
    stated, bound = None if looks is None else looks_of(looks), _futility(futility)
    if stated and n not in (None, stated[-1]):
        raise ConfigError("--n", n, f"{stated[-1]}, the last of --looks, or no --n")
    n = n if n is not None else stated[-1] if stated else DEFAULT_SEEDS
    with _options():
        test: dict[str, Any] = {"alpha": alpha, "candidates": candidates}
        spread = std_of_differences(std, rho)
        d_z = effect / spread
        # Beyond these the answer is the same.
        gain = min(max(d_z, 1e-100), 1e100)
        needed = seeds_needed(effect, spread, power=target, **test)

        def row(pairs: int) -> dict[str, Any]:
            return {
                "n": pairs,
                "power": t_test_power(effect, spread, pairs, **test),
                "minimum_detectable_effect": minimum_detectable_effect(spread, pairs, power=target, **test),
            }

        asked = row(n)
        rule = _design(stated, n, alpha, bound)
        mine = None if rule is None else sequential_option(gain, rule, candidates=candidates)
        found = options(gain, power=target, futility=bound, **test)
    sizes = sorted({*TABLE_SEEDS, n, *([] if needed is None else [needed])})
    answer = {
        "effect": effect,
        "std": std,
        "rho": rho,
        "std_of_differences": spread,
        "d_z": d_z,
        "n": n,
        "alpha": alpha,
        "candidates": candidates,
        "level": alpha / candidates,
        "power": asked["power"],
        "target_power": target,
        "minimum_detectable_effect": asked["minimum_detectable_effect"],
        "seeds_needed": needed,
        "table": [row(pairs) for pairs in sizes],
        "design": None
        if mine is None or rule is None
        else _described(mine, candidates)
        | {"minimum_detectable_effect": detectable(rule, power=target, candidates=candidates) * spread},
        "options": [_described(option, candidates) for option in found],
        "recommended": _described(recommended(found), candidates) if found else None,
    }
    if plot is not None:
        _draw(plot, n, gain, effect, mine, found, test)
    say(json.dumps(answer, indent=2, ensure_ascii=False) if as_json else power_text(answer))


def _futility(text: str) -> float | None:
    """``--futility`` as a number, or None for ``none``."""
    if text in ("none", "null"):
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 0.5:
        raise ConfigError("--futility", text, "none, or a number between 0 and 0.5")
    return value


def _design(stated: list[int] | None, n: int, alpha: float, futility: float | None) -> Design | None:
    """The design of ``--looks``, or the default looks for n seeds; None where these have no room for any."""
    from tune_bn.analysis.sequential import default_looks, design

    if stated is not None:
        return design(stated, alpha, futility=futility)
    try:
        found = design(default_looks(n), alpha, futility=futility)
    except ConfigError:
        return None
    return found if len(found.looks) > 1 else None


def _described(option: Option, candidates: int) -> dict[str, Any]:
    """A design for JSON."""
    from tune_bn.analysis.characteristics import efficacy_bounds

    rule, number = option.rule, option.looks
    bounds = [None] * number if rule is None else efficacy_bounds(rule, candidates=candidates)
    futile = [*(() if rule is None else rule.futility_t or ()), *[None] * number][:number]
    return {
        "stopping": "fixed" if rule is None else "group_sequential",
        "looks": None if rule is None else list(rule.looks),
        "futility": None if rule is None else rule.futility,
        "pairs_at_most": option.pairs,
        "power": option.gain.power,
        "expected_pairs": option.gain.expected_pairs,
        "expected_pairs_without_gain": option.none.expected_pairs,
        "expected_runs": option.gain.expected_runs(candidates),
        "expected_runs_without_gain": option.none.expected_runs(candidates),
        "stages": [
            {
                "n": stage.n,
                "efficacy_t": efficacy,
                "futility_t": low,
                "shown": stage.shown,
                "futile": stage.futile,
                "shown_without_gain": other.shown,
                "futile_without_gain": other.futile,
            }
            for stage, other, efficacy, low in zip(option.gain.stages, option.none.stages, bounds, futile, strict=True)
        ],
    }


def _draw(
    path: Path, n: int, d_z: float, effect: float, mine: Option | None, found: list[Option], test: dict[str, Any]
) -> None:
    """The designs as a picture, beside the fixed one on n seeds."""
    from tune_bn.analysis.recommend import fixed_option, recommended
    from tune_bn.report.designs import designs

    best = recommended(found) if found else None
    shown = [fixed_option(d_z, n, **test), *([] if mine is None else [mine])]
    if best is not None and (best.rule is None or mine is None or best.rule != mine.rule):
        shown += [] if best.rule is None and best.pairs == n else [best]
    figure = designs(shown, d_z=d_z, unit=effect / d_z, candidates=test["candidates"], alpha=test["alpha"])
    from tune_bn.report.figures.canvas import save, svg_of

    try:
        if path.suffix.lower() == ".svg":
            path.write_bytes(svg_of(figure))
        else:
            save(figure, path)
    except OSError as error:
        raise ConfigError("--plot", str(path), f"a file that can be written ({error.strerror})") from None


@contextmanager
def _options() -> Iterator[None]:
    """Name the option in errors about an argument."""
    try:
        yield
    except ConfigError as error:
        if error.key.startswith("--"):
            raise
        raise ConfigError(f"--{error.key.replace('_', '-')}", error.value, error.accepted) from None
