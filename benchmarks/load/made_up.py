"""Studies that were never trained: plans and records as the stages write them, for what reads many of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tune_bn.analysis.plan import plan_from, seal
from tune_bn.records.plan import Plan
from tune_bn.records.record import BASELINE, CANDIDATE, COMPLETED, CONFIRM, PRUNED, SEARCH, SELECT, Record
from tune_bn.space.space import Space

COMMIT, VERSIONS = "0" * 40, {"torch": "2.15.0", "tune_bn": "0.1.0"}
_STARTED = "2026-01-01T00:00:00+00:00"


def plan_of(study: str, space: Space) -> Plan:
    """The locked plan of a study whose trial 0 won."""
    config = {"gamma": 0.1, "c": 100.0}
    content = seal(
        {
            "schema_version": 1,
            "study": study,
            "space_sha256": space.sha256,
            "created_at": _STARTED,
            "baseline": {"arm": BASELINE, "trial": None, "config": space.baseline},
            "candidates": [
                {
                    "arm": f"{CANDIDATE}-1",
                    "trial": 0,
                    "config": config,
                    "selection": {"val_accuracy_mean": 96.0, "n": len(space.seeds.select)},
                }
            ],
            "metric": space.claim.metric,
            "direction": "maximize",
            "test": "paired_t_greater",
            "alpha": space.claim.alpha,
            "correction": "holm",
            "stopping": "fixed",
            "seeds": space.seeds.confirm,
            "used_seeds": {"search": space.seeds.search, "select": space.seeds.select},
            "diverged": {"rule": "chance", "score": 10.0},
            "commit": COMMIT,
            "versions": VERSIONS,
        }
    )
    return plan_from(content)


def records_of(study: str, space: Space, plan: Plan, *, trials: int | None = None) -> Iterator[Record]:
    """Records of every stage in the order of a study, ``trials`` of the search, most of them stopped early."""
    rng = np.random.default_rng(0)
    epochs = space.train.epochs

    def made(stage: str, arm: str, trial: int | None, seed: int, config: Mapping[str, Any], **more: Any) -> Record:
        accuracy = round(95 + float(rng.normal()) + (0.7 if arm != BASELINE else 0.0), 3)
        scores = {"val_accuracy": accuracy, "best_epoch": 3.0}
        if stage == CONFIRM:
            scores["test_accuracy"] = accuracy - 0.5
        fields = {
            "status": COMPLETED,
            "reason": f"reached epoch {epochs}",
            "epochs": epochs,
            **more,
        }
        return Record(
            study=study,
            stage=stage,
            arm=arm,
            trial=trial,
            seed=seed,
            config=config,
            epochs_planned=epochs,
            scores=scores,
            attempts=1,
            started_at=_STARTED,
            duration_seconds=1.4,
            device="cpu",
            versions=VERSIONS,
            commit=COMMIT,
            space_sha256=space.sha256,
            **fields,
        )

    candidate = plan.candidates[0].config
    for trial in range(space.budget.trials if trials is None else trials):
        drawn = {"gamma": float(10 ** rng.uniform(-2, 0)), "c": float(10 ** rng.uniform(0, 3))}
        stopped = trial % 4 != 0
        early = {"status": PRUNED, "reason": "stopped by asha after epoch 3", "epochs": 3} if stopped else {}
        for seed in space.seeds.search:
            yield made(SEARCH, CANDIDATE, trial, seed, drawn if trial else candidate, **early)
    for seed in space.seeds.select:
        yield made(SELECT, CANDIDATE, 0, seed, candidate)
    for seed in plan.seeds:
        for arm in plan.arms:
            yield made(CONFIRM, arm.arm, arm.trial, seed, arm.config, plan_sha256=plan.plan_sha256)
