"""Which runs a space can ask for is one thing, what a study makes of them another: a check holds for the first."""

from __future__ import annotations

import pytest

from tune_bn.space.loading import load_space
from tune_bn.space.locate import find_space


def runs(*overrides: str) -> str:
    return load_space(find_space("examples/no_torch/space.yaml"), list(overrides)).runs_sha256


@pytest.mark.parametrize(
    "override",
    [
        "budget.trials=3",
        "seeds.confirm=[1,2,3]",
        "seeds.search=[55,66]",
        "scheduler.name=none",
        "sampler.name=random",
        "claim.alpha=0.01",
        "claim.stopping=group_sequential",
        "tracking.uri=http://127.0.0.1:5000",
        "resources.cpu=2",
        "trainer.grace=3s",
    ],
)
def test_how_runs_are_chosen_and_repeated_leaves_them_what_they_are(override: str) -> None:
    assert runs(override) == runs()


@pytest.mark.parametrize(
    "override",
    [
        "trainer.steps=13",
        "trainer.params.lr=0.1",
        "trainer.command=[python,other.py]",
        "search.momentum={uniform: [0.0, 0.8]}",
        "claim.baseline.momentum=0.1",
        "trainer.score.goal=max",
    ],
)
def test_another_run_is_another(override: str) -> None:
    assert runs(override) != runs()


def test_a_claim_that_leaves_everything_out_has_one_too() -> None:
    shipped = load_space(find_space("digits.yaml"))
    assert shipped.runs_sha256 == load_space(find_space("digits.yaml"), ["seeds.select=[77,78,79]"]).runs_sha256
    assert shipped.runs_sha256 != load_space(find_space("digits.yaml"), ["claim.baseline.c=2"]).runs_sha256
