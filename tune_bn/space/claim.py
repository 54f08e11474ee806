"""The section ``claim`` of a space file: what the confirmation is to show."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import model_validator

from tune_bn.analysis.claims import NO_LOOKS, claim_of
from tune_bn.analysis.claims import Claim as Claimed
from tune_bn.errors import ConfigError
from tune_bn.records.record import BASELINE
from tune_bn.space.sections import Section, entry

ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""Names of arms are parts of file names."""


class Claim(Section):
    """What the confirmation is to show. It is copied into the plan and locked there."""

    baseline: dict[str, Any] = entry(
        {"gamma": 1.0, "c": 1.0},
        doc="the configuration to beat; keys not named here keep the space's own values",
        accepted="a mapping from keys of `model` and `train` that are no searched nuisance parameter to values",
    )
    about: list[str] | None = entry(
        None,
        doc="with a `trainer` of your own: the keys that the claim is about; any other searched key is tuned for the "
        "baseline too. null: gamma and c, as far as they are searched",
        accepted="null or a list of searched keys or keys of `claim.arms`",
        added=True,
        min_length=1,
    )
    metric: Literal["test_accuracy", "final_test_accuracy"] = entry(
        "test_accuracy",
        doc="`test_accuracy`: weights of the best validation epoch; `final_test_accuracy`: of the last epoch. With a "
        "`trainer` of your own its `trainer.score` says what is compared",
        accepted="test_accuracy | final_test_accuracy",
    )
    kind: Literal["superior", "noninferior", "equivalent"] = entry(
        "superior",
        doc="`superior`: better by more than `margin`; `noninferior`: not worse by `margin` or more; `equivalent`: no "
        "different by `margin` or more (statistics.md)",
        accepted="superior | noninferior | equivalent",
        added=True,
    )
    margin: float | None = entry(
        None,
        doc="the loss, or difference, that would not matter, in the unit of the score (percentage points of an "
        "accuracy), chosen before anything runs; for `superior` the gain that has to be exceeded, null: 0",
        accepted="null or a number ≥ 0; a number > 0 for noninferior and equivalent",
        added=True,
        ge=0,
        le=1e100,
    )
    alpha: float = entry(
        0.05,
        doc="level of the one-sided test, over all candidates together",
        accepted="a number from 1e-8 to below 0.5",
        ge=1e-8,
        lt=0.5,
    )
    alpha_spending: Literal["none", "budget"] = entry(
        "none",
        doc="over all claims on the same test data in the folder of studies (`ledger.jsonl`): `budget`: `alpha` is for "
        "all of them together, and claim number k is planned and tested at alpha·6/(π²k²), so that any number of "
        "studies makes a false claim with probability at most `alpha` (statistics.md)",
        accepted="none | budget",
        added=True,
    )
    correction: Literal["holm", "max_t"] = entry(
        "holm",
        doc="for several comparisons: `holm`, under any dependence; `max_t`: step-down max-t by sign flips, which "
        "knows that candidates share seeds and baseline, and assumes symmetric differences; with five seeds or more, "
        "`stopping: fixed`, and no `equivalent`",
        accepted="holm | max_t",
        added=True,
    )
    candidates: int = entry(
        1,
        doc="configurations that are confirmed, best of the selection first; at most `budget.finalists`",
        accepted="an integer from 1 to 20",
        ge=1,
        le=20,
    )
    rivals: Literal["all", "none"] = entry(
        "all",
        doc="where nuisance parameters are searched: `all`: a candidate has to be better than every tuning of the "
        "baseline that may be its best: the one that the selection ranks first, the other finalists that its race "
        "left, and the baseline at the candidate's own nuisance values; a luckier tuning is no gain (statistics.md). "
        "`none`: than the first alone",
        accepted="all | none",
        added=True,
    )
    arms: dict[str, dict[str, Any]] = entry(
        {},
        doc="configurations that are confirmed as they stand, by name, without a search; then there is no `search`",
        accepted="a mapping from names (letters, digits, '.', '_', '-'; not baseline) to mappings such as "
        "{gamma: 0.1, c: 100}",
    )
    across: dict[str, dict[str, Any]] = entry(
        {},
        doc="settings, by name, in each of which baseline and candidates are confirmed, such as other networks or "
        "learning rates; each candidate meets the baseline of its own setting, and all are corrected together. Without "
        "any, the space itself is the one setting",
        accepted="a mapping from names (letters, digits, '.', '_', '-') to mappings such as {arch: resnet50, lr: 0.01}",
    )
    holds: Literal["any", "all", "pooled"] = entry(
        "any",
        doc="of several settings: `any`: the claim is that some comparison holds, corrected for their number; `all`: "
        "that every setting does, each tested at `alpha`; `pooled`: that the average over these settings does, with "
        "the spread between them beside it; `all` and `pooled` with one candidate, and `stopping: fixed`",
        accepted="any | all | pooled",
        added=True,
    )
    stopping: Literal["fixed", "group_sequential"] = entry(
        "fixed",
        doc="`fixed`: every seed is run, as in the paper; `group_sequential`: the pairs so far are looked at, and a "
        "candidate ends as soon as its gain is shown or has become unlikely",
        accepted="fixed | group_sequential",
    )
    looks: list[int] | None = entry(
        None,
        doc="pairs at each look of `group_sequential`; null: 3, 5, 8, 11, 15 in proportion to the number of seeds",
        accepted="null or 1 to 20 increasing integers, the first ≥ 3, the last the number of `seeds.confirm`",
    )
    futility: float | None = entry(
        0.05,
        doc="`group_sequential`: chance to show its gain at the last look, below which a candidate ends; null: never",
        accepted="null or a number between 0 and 0.5",
        gt=0,
        lt=0.5,
    )
    failed: Literal["invalid", "worst"] = entry(
        "invalid",
        doc="confirmation runs that raise on every try and leave no score: `invalid`: so is the verdict; `worst`: they "
        "have the score that is worst for the claim, the low end of the score's range for a candidate and the high end "
        "for a baseline, and show no loss; with `stopping: fixed`, and a score with a range",
        accepted="invalid | worst",
        added=True,
    )
    diverged: Literal["chance"] = entry(
        "chance",
        doc="score of a run whose loss is not finite: `chance` is 100 / classes; with a `trainer` of your own it is "
        "`diverged` of its `trainer.score`",
        accepted="chance",
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        for key, names in (("arms", self.arms), ("across", self.across)):
            for name in names:
                if name == BASELINE or not ARM_NAME.fullmatch(name):
                    accepted = "a name of up to 40 letters, digits, '.', '_' and '-', other than baseline"
                    raise ConfigError(key, name, accepted)
        return self

    @property
    def stated(self) -> Claimed:
        """Kind and margin, for the statistics."""
        return claim_of(self.kind, self.margin)

    @model_validator(mode="after")
    def _margin_fits(self) -> Self:
        claim = self.stated
        if claim.ceiling is not None and self.stopping != "fixed":
            raise ConfigError("kind", self.kind, f"superior or noninferior with stopping: {self.stopping}; {NO_LOOKS}")
        return self

    @model_validator(mode="after")
    def _looks_where_there_are_any(self) -> Self:
        if self.looks is not None and self.stopping == "fixed":
            raise ConfigError("looks", self.looks, "null, or stopping: group_sequential beside it")
        return self
