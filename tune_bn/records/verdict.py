"""``verdict.json``: what the confirmation of a study says, computed from its plan and records alone.

The types of :class:`Verdict` say what each key holds, in the order in which the file has them; :func:`verdict_from` is
its one reader and :meth:`Verdict.to_json` its one writer. A verdict on a table of scores
(:mod:`tune_bn.records.score_verdict`) shares :class:`AnyVerdict`, and its arms :class:`Compared`.

Older verdicts lack keys, and stay as they are until the study is verified anew: what may be missing has a default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar

from tune_bn.records.plan import POOLED
from tune_bn.records.reading import Check, MoreKeys, ReadBy, Refused, as_json, from_json
from tune_bn.records.score import Score, score_from
from tune_bn.records.verdict_details import (
    Described,
    Divergence,
    Ends,
    Look,
    Opponent,
    OtherTests,
    OverImages,
    RanksOfSettings,
    Shrinkage,
)

Value = TypeVar("Value")

SUPPORTED, NOT_SUPPORTED, INVALID = "supported", "not_supported", "invalid"
WORDS = (SUPPORTED, NOT_SUPPORTED, INVALID)
VERDICT_FILE = "verdict.json"

_WORD = Check(lambda value: isinstance(value, str) and value in WORDS, f"{SUPPORTED}, {NOT_SUPPORTED} or {INVALID}")


def _are_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(type(score) in (int, float) for score in value.values())


_SCORES = Check(_are_scores, "an object with a number for each seed")


def known(value: Value | None) -> Value:
    """A number of an arm that a test has judged, which has it; of an older verdict, or another arm, it may be missing.

    Raises:
        ValueError: it is.
    """
    if value is None:
        raise ValueError("a number of a comparison that was not tested")
    return value


@dataclass(frozen=True, kw_only=True)
class Finding(MoreKeys):
    """What a comparison says within its family, by :func:`tune_bn.analysis.family.findings_of`.

    What is not tested has no p-values and no bounds, and is neither supported nor worse.
    """

    ci_low: float | None = None
    """The lower end of ``ci``."""
    ci: Ends | None = None
    """Two-sided at 1 − 2·alpha: it belongs to the one-sided test at alpha."""
    p_value: float | None = None
    """One-sided, for the claim; not adjusted, as the next two."""
    p_two_sided: float | None = None
    p_worse: float | None = None
    """One-sided, for a loss."""
    p_adjusted: float | None = None
    """``p_value`` after the correction for the family."""
    supported: bool = False
    p_worse_adjusted: float | None = None
    worse: bool = False
    ci_adjusted: Ends | None = None
    """The interval that says what ``supported`` and ``worse`` say."""
    adjusted_levels: tuple[float, float] | None = None
    """The one-sided levels of its ends."""
    simultaneous_low: float | None = None
    """Lower bound that holds for the whole family at once; None where it is open, or none is computed."""
    outcome: str | None = None
    """``supported``, ``worse``, ``undecided`` or ``not_tested``; None in an invalid verdict."""


@dataclass(frozen=True, kw_only=True)
class Arm(MoreKeys):
    """An arm with its scores."""

    arm: str
    """Its name."""
    scores: Annotated[Mapping[str, float], _SCORES]
    """By seed, or pair, in the order in which they were planned, or of the table."""
    mean: float | None = None
    """None without a score, as the next one with fewer than two."""
    std: float | None = None
    """Standard deviation over the seeds (ddof = 1)."""


@dataclass(frozen=True, kw_only=True)
class StudyArm(Arm):
    """A baseline of a study."""

    trial: int | None = None
    """Of the search; None where it is stated."""
    config: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        return json_of(self, _ARM)


@dataclass(frozen=True, kw_only=True)
class Compared(Arm, Finding):
    """An arm that is compared with another. In an invalid verdict nothing but its scores is known."""

    n: int | None = None
    """Pairs that the comparison is of."""
    effect: float | None = None
    """Mean gain: positive is better, whatever the goal."""
    difference: float | None = None
    """Mean of the arm minus that of the baseline, where the score is stated."""
    std_difference: float | None = None
    d_z: float | None = None
    """``effect / std_difference``."""
    correlation: float | None = None
    """Of the two arms over the pairs."""
    not_tested: str | None = None
    """Why there is no test of it, in a valid verdict."""


@dataclass(frozen=True, kw_only=True)
class Candidate(Compared, StudyArm):
    """A candidate of a study."""

    against: str | None = None
    """The baseline that it is compared with; older verdicts may have but one, and do not say it. Of several opponents
    the one that is the hardest to beat, of which all that follows is."""
    opponents: tuple[Opponent, ...] = ()
    """Each of them, where there are several."""
    t: float | None = None
    minimum_detectable_effect: float | None = None
    """The true gain that the planned seeds find with power 0.8, if the differences spread as these do."""
    sensitivity: OtherTests | None = None
    effect_adjusted: float | None = None
    """The median-unbiased gain of one that ended early."""
    decision: str | None = None
    """Of the last look; None in a fixed design."""
    looks: tuple[Look, ...] = ()
    over_images: OverImages | None = None
    """None where not all its test images are known."""
    shrinkage: Shrinkage | None = None
    """None where it was not searched in this setting."""
    divergence: Divergence | None = None

    def to_json(self, *, states_score: bool = False) -> dict[str, Any]:
        """As the file has it; ``difference`` stands there where the plan states its score."""
        if self.p_value is None:
            keys = [*_ARM, "against", *_UNTESTED, *(["difference"] if states_score else [])]
        else:
            keys = [*_ARM, "against", *_TESTED]
            if not states_score:
                keys.remove("difference")
        return json_of(self, [*keys, *(["opponents"] if self.opponents else [])])


@dataclass(frozen=True, kw_only=True)
class Average(Finding):
    """A claim about the average over settings, by :func:`tune_bn.analysis.pooled.pooled`. It is always tested."""

    n: int
    """Seeds, each averaged over the settings."""
    settings: int
    """How many."""
    effect: float
    std_difference: float
    t: float
    between: float
    """Standard deviation of the true effects over settings."""
    least: tuple[str, float]
    """The setting with the lowest effect, and it."""
    most: tuple[str, float]
    over_settings: RanksOfSettings | None = None
    """None with fewer than five settings that differ from the null."""

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        return json_of(self, [*_AVERAGE, *(item.name for item in fields(Finding))])


@dataclass(frozen=True, kw_only=True)
class BundleClaim(MoreKeys):
    """What the bundle said of itself that a verdict was computed from."""

    file: str
    headline: Any
    """As it stands there, as the next ones: whoever packed it may have written anything."""
    plan_sha256: Any
    data: Any


@dataclass(frozen=True, kw_only=True)
class AnyVerdict(MoreKeys):
    """What a verdict on a study and one on a table of scores have in common."""

    schema_version: int = 1
    verdict: Annotated[str, _WORD]
    headline: str | None = None
    """It in a few words that count the arms that are worse."""
    reason: str = ""
    """It in a sentence."""
    problems: tuple[str, ...] = ()
    """Every broken rule of an invalid one."""
    remarks: tuple[str, ...] = ()
    """What is no broken rule, and has to be known."""
    metric: str | None = None
    """Name of the score; None where the plan cannot be read, as all that it states."""
    test: str | None = None
    alpha: float | None = None
    """Family-wise level of the one-sided tests."""
    correction: str | None = None
    kind: str | None = None
    """Of the claim; None: superior by any margin."""
    margin: float | None = None
    n: int | None = None
    """Planned seeds, or pairs of the table."""
    candidates: tuple[Compared, ...] = ()
    worse: tuple[str, ...] = ()
    """Arms that are significantly worse than what they are compared with."""
    ci_confidence: float | None = None
    """Of every ``ci``; older verdicts have none, and say nothing of losses."""
    selection: str | None = None
    """What the choice of the arms means for the verdict."""

    @property
    def is_invalid(self) -> bool:
        """Whether a rule was broken, so that nothing can be concluded."""
        return self.verdict == INVALID

    @property
    def is_supported(self) -> bool:
        """Whether what was claimed is shown."""
        return self.verdict == SUPPORTED

    @property
    def first_baseline(self) -> Arm | None:
        """What the arms are compared with; the first of several baselines."""
        return None

    @property
    def stated_score(self) -> Score | None:
        """What the runs are scored by, where that is stated."""
        return None

    @property
    def average(self) -> Average | None:
        """What a claim about the average over settings is about."""
        return None

    @property
    def together(self) -> str | None:
        """How the comparisons of several settings hold together; None: not at all."""
        return None


@dataclass(frozen=True, kw_only=True)
class Verdict(AnyVerdict):
    """The verdict on a study."""

    study: str | None = None
    stopping: str | None = None
    design: Mapping[str, Any] | None = None
    """As the plan states it."""
    score: Annotated[Score | None, ReadBy(score_from)] = None
    """What the plan states; earlier plans state none, and are about accuracy."""
    holds: str | None = None
    """Which comparisons the claim asks for: any, all, or their average."""
    seeds: tuple[int, ...] = ()
    plan_sha256: str | None = None
    space_sha256: str | None = None
    baselines: tuple[StudyArm, ...] = ()
    """One, or one for each setting; none where the plan cannot be read."""
    rivals: tuple[StudyArm, ...] = ()
    """Other tunings of the baseline that candidates have to be better than as well."""
    candidates: tuple[Candidate, ...] = ()
    pooled: Average | None = None
    """Where ``holds`` says so; None in an invalid verdict."""
    diverged: tuple[str, ...] = ()
    """Keys of runs that diverged and were scored by the plan's rule."""
    retried: tuple[str, ...] = ()
    imputed: Mapping[str, Sequence[int]] | None = None
    """By arm the seeds that have the score that is worst for the claim; None where the plan has no such rule."""
    covers: str | None = None
    """Which sources of variation the test captures."""
    other_outcomes: Mapping[str, Mapping[str, Described]] | None = None
    """By arm and name what is described beside the score."""
    seal: str | None = None
    """What is known of the time stamps of the plan."""
    bundle: BundleClaim | None = None
    """Where it was computed from a bundle."""

    def arm_against(self, candidate: Candidate) -> StudyArm:
        """The baseline or rival that a candidate of a plan that could be read is compared with."""
        return next((arm for arm in self.every_tuning if arm.arm == candidate.against), self.baselines[0])

    @property
    def every_tuning(self) -> tuple[StudyArm, ...]:
        """All that a candidate may be compared with: the baselines, then their rivals."""
        return (*self.baselines, *self.rivals)

    @property
    def baseline(self) -> StudyArm | None:
        """The first baseline."""
        return self.baselines[0] if self.baselines else None

    @property
    def first_baseline(self) -> Arm | None:
        return self.baseline

    @property
    def stated_score(self) -> Score | None:
        return self.score

    @property
    def average(self) -> Average | None:
        return self.pooled

    @property
    def together(self) -> str | None:
        return self.holds

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        content: dict[str, Any] = {}
        for key in _VERDICT:
            value = getattr(self, key)
            if value is None and (key in _WHERE_STATED or (key == "pooled" and self.holds != POOLED)):
                continue
            if key == "rivals" and not value:
                continue
            content[key] = as_json(value)
        if self.score is not None:
            content["score"] = dict(sorted(self.score.to_json().items()))
        content["candidates"] = [arm.to_json(states_score=self.score is not None) for arm in self.candidates]
        return content


_ARM = ("arm", "trial", "config", "scores", "mean", "std")
_BOUNDS = ("ci_low", "ci", "p_value", "p_two_sided", "p_worse", "p_adjusted")
_LEVELS = ("ci_adjusted", "adjusted_levels", "simultaneous_low")
# In the orders in which the first verdicts had them: a study that is verified again has its file byte for byte.
_TESTED = (
    *("n", "effect", "difference", "std_difference", "t", "d_z", "correlation", "minimum_detectable_effect"),
    *("sensitivity", "effect_adjusted", "decision", "looks", "not_tested"),
    *(*_BOUNDS, "supported", "p_worse_adjusted", "worse", *_LEVELS, "outcome"),
    *("over_images", "shrinkage", "divergence"),
)
_UNTESTED = (
    *("n", "effect", "std_difference", "t", "d_z", "correlation", "minimum_detectable_effect", "sensitivity"),
    *("decision", "effect_adjusted", "looks", *_BOUNDS, "p_worse_adjusted", *_LEVELS),
    *("supported", "worse", "outcome", "not_tested", "over_images", "shrinkage", "divergence"),
)
_AVERAGE = ("n", "settings", "effect", "std_difference", "t", "between", "least", "most", "over_settings")
_VERDICT = (
    *("schema_version", "study", "verdict", "headline", "reason", "problems"),
    *("metric", "test", "alpha", "correction", "stopping", "design", "score", "kind", "margin", "holds"),
    *("ci_confidence", "n", "seeds", "plan_sha256", "space_sha256", "baseline", "baselines", "rivals"),
    *("candidates", "pooled"),
    *("worse", "diverged", "retried", "imputed", "remarks", "selection", "covers", "other_outcomes", "seal", "bundle"),
)
_WHERE_STATED = ("score", "kind", "margin", "holds", "imputed", "bundle")


def json_of(row: Any, keys: Sequence[str]) -> dict[str, Any]:
    """These keys of a dataclass, also where they hold nothing."""
    return {key: as_json(getattr(row, key)) for key in keys}


def verdict_from(content: Any) -> Verdict:
    """JSON as a verdict, of this version or an earlier one; keys of later ones are passed over.

    Raises:
        Refused: it is no object, lacks what every verdict has, or a key holds another type.
    """
    if not isinstance(content, dict) or "verdict" not in content:
        raise Refused("verdict", None, _WORD.accepted)
    if content.get("baselines") is None and content.get("baseline") is not None:
        content = content | {"baselines": [content["baseline"]]}
    return from_json(Verdict, content)
