"""A short table of the committed results, for the README; nothing in it is typed by hand.

python -m benchmarks.statistics.summary
"""

from __future__ import annotations

from statistics import fmean

from benchmarks.results import RESULTS, markdown, mean_words, rate_words, read
from benchmarks.statistics.calibration import STOPPINGS
from benchmarks.statistics.sample_efficiency import GRID_RUNS
from tune_bn.paper import tables as paper
from tune_bn.records.files import write_text

Rows = list[dict[str, str]]
SHOWN = (("tpe", "24 trials"), ("tpe", "34 trials"), ("tpe", "resnet.yaml"))


def summary(efficiency: Rows, calibration: Rows, power: Rows) -> str:
    """The table as Markdown, from the rows of the three benchmarks."""
    lines = [("question", "answer", "n")]
    for surrogate in dict.fromkeys(row["surrogate"] for row in efficiency):
        for sampler, budget in SHOWN:
            mine = [
                r for r in efficiency if (r["surrogate"], r["sampler"], r["budget"]) == (surrogate, sampler, budget)
            ]
            runs = fmean(float(row["runs"]) for row in mine)
            regret = mean_words([float(row["regret"]) for row in mine])
            answer = f"{runs:.0f} runs ({GRID_RUNS / runs:.1f} × fewer than {GRID_RUNS}); regret {regret} points"
            lines.append((f"Runs of a whole study, {surrogate}, {sampler}, {budget}", answer, f"{len(mine)} studies"))
    null = [row for row in calibration if float(row["gain"]) == 0]
    for stopping in STOPPINGS:
        for candidates in ("1", "3", "6"):
            rows = [r for r in null if (r["pipeline"], r["candidates"]) == (stopping, candidates)]
            lines.append(_rate(f"50 equal configurations, {stopping}, {candidates} confirmed: supported", rows))
    lines.append(
        _rate("the naive pipeline: the winner on its own 15 seeds", [r for r in null if r["pipeline"] == "naive"])
    )
    for rho in dict.fromkeys(row["rho"] for row in power):
        mine = [row for row in power if row["rho"] == rho]
        lost, pairs = (fmean(float(row[key]) for row in mine) for key in ("power_lost", "mean_pairs"))
        saved = 100 * (1 - pairs / len(paper.SEEDS))
        lines.append(
            (
                f"Stopping early on the {len(mine)} cells of Table 1.a, ρ = {float(rho):g}",
                f"{saved:.1f} % of the pairs saved, {lost:.4f} of the power lost on average",
                f"{int(mine[0]['studies']):,} studies a cell",
            )
        )
    return markdown(lines)


def _rate(question: str, rows: Rows) -> tuple[str, str, str]:
    """Both levels of one pipeline. On disk both ρ draw the same replicates, so they are no more studies than one is."""
    answers, counts = [], []
    for level in ("decisions", "whole"):
        mine = [row for row in rows if row["level"] == level and (level == "decisions" or float(row["rho"]) == 0.5)]
        hits, n = (sum(int(row[key]) for row in mine) for key in ("supported", "studies"))
        answers.append(f"{rate_words(hits, n)} {'vectorized' if level == 'decisions' else 'on disk'}")
        counts.append(f"{n:,}")
    return question, "; ".join(answers), "; ".join(counts)


def main() -> None:
    """Write ``summary.md``."""
    text = summary(*map(read, ("sample_efficiency", "calibration", "power"))) + "\n"
    write_text(RESULTS / "summary.md", text)
    print(text)


if __name__ == "__main__":
    main()
