"""A study in Python, from the search to the scores: ``python examples/digits.py [FOLDER]``.

Six runs of the embedded digits, in half a minute or two; five epochs show nothing about γ.
"""

from __future__ import annotations

import sys

import tune_bn

SMALL = {
    "budget.trials": 2,
    "budget.finalists": 1,
    "train.epochs": 2,
    "seeds.select": [201],
    "seeds.confirm": {"from": 1, "to": 3},
    "scheduler.name": "none",
}


def main(output: str) -> None:
    study = tune_bn.search("digits.yaml", overrides=SMALL, study="example", output=output, on_event=print)
    print(study)
    for run in study.runs.where(stage="confirm"):
        print(run["arm"], run["seed"], run["scores.test_accuracy"])
    print(f"{len(study.curves)} points of learning curves; the report: {study.report()}")

    # The same scores as anybody's table of scores.
    confirmed = study.runs.where(stage="confirm")
    table = [{"arm": run["arm"], "seed": run["seed"], "accuracy": run["scores.test_accuracy"]} for run in confirmed]
    print(tune_bn.verify_scores(table, baseline="baseline", score="accuracy", goal="max"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "studies")
