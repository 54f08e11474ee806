"""What a claim says of an effect: better by a margin, not worse by one, or no different by one.

With the effect μ, the mean difference candidate − baseline in gains, and a margin δ in the unit of the score:

    superior      null  μ ≤ δ               supported: μ > δ            δ ≥ 0, mostly 0
    noninferior   null  μ ≤ −δ              supported: μ > −δ           δ > 0
    equivalent    null  μ ≤ −δ or μ ≥ δ     supported: −δ < μ < δ       δ > 0

Each one-sided test is the t-test of :mod:`tune_bn.analysis.paired` moved by the margin: t = (effect − μ₀)/se. That of
equivalence is the two one-sided tests of Schuirmann (J. Pharmacokinet. Biopharm. 15, 1987): both must reject at α, so
p is the larger of the two, and the interval at 1 − 2α lies within ±δ exactly where p ≤ α. A margin is chosen before
the scores are seen, as the loss, or the difference, that would not matter; chosen afterwards it shows nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tune_bn.errors import ConfigError
from tune_bn.records.plan import EQUIVALENT, KINDS, NONINFERIOR, SUPERIOR
from tune_bn.records.verdict import AnyVerdict, Compared

BETTER, WORSE, UNDECIDED, NOT_TESTED = "supported", "worse", "undecided", "not_tested"
"""What becomes of one comparison; the last where its differences have no spread, so that no test can judge them."""
MIXED = "mixed"
"""What becomes of several of which some are better and some are worse."""


NO_LOOKS = "equivalence is tested at a fixed number of pairs alone"


@dataclass(frozen=True)
class Claim:
    """A kind and its margin; :func:`claim_of` checks them."""

    kind: str = SUPERIOR
    margin: float = 0.0

    @property
    def null(self) -> float:
        """The effect that has to be exceeded."""
        return self.margin if self.kind == SUPERIOR else -self.margin

    @property
    def ceiling(self) -> float | None:
        """The effect that must not be reached; None: none."""
        return self.margin if self.kind == EQUIVALENT else None

    @property
    def is_plain(self) -> bool:
        """Whether it asks for any gain at all, as every claim did before there were kinds."""
        return self.kind == SUPERIOR and self.margin == 0


PLAIN = Claim()


def claim_of(kind: str | None = None, margin: float | None = None) -> Claim:
    """The claim of a kind with a margin.

    Args:
        kind: None: superior.
        margin: in the unit of the score; None: 0, for a superior claim alone.

    Raises:
        ConfigError: the kind is not known, or the margin does not go with it.
    """
    kind = SUPERIOR if kind is None else kind
    if kind not in KINDS:
        raise ConfigError("kind", kind, " | ".join(KINDS))
    if kind == SUPERIOR:
        if margin is not None and not 0 <= margin < 1e300:
            raise ConfigError("margin", margin, "a number ≥ 0, the gain that has to be exceeded")
        return Claim(kind, 0.0 if margin is None else float(margin))
    if margin is None or not 0 < margin < 1e300:
        what = "loss" if kind == NONINFERIOR else "difference"
        raise ConfigError(
            "margin", margin, f"a number > 0 for kind {kind}, the {what} that would not matter, in the score's unit"
        )
    return Claim(kind, float(margin))


def claim_in(verdict: AnyVerdict) -> Claim:
    """The claim of a verdict; one that says nothing of its kind is plain."""
    return Claim(verdict.kind or SUPERIOR, float(verdict.margin or 0.0))


OUTCOMES = {BETTER: "supported", WORSE: "worse", UNDECIDED: "not supported", NOT_TESTED: "not tested"}
"""The same for people; undecided is what no test has shown."""


def outcome_by(*, supported: bool, worse: bool) -> str:
    """What became of one comparison that was tested: a clear loss is more than a gain that was not shown."""
    return BETTER if supported else WORSE if worse else UNDECIDED


def outcome_of(arm: Compared) -> str:
    """What became of one comparison, by name; verdicts of before the key do not state it."""
    return NOT_TESTED if arm.not_tested else outcome_by(supported=arm.supported, worse=arm.worse)


def outcome(verdict: AnyVerdict) -> str:
    """``supported``, ``mixed`` (supported, and worse elsewhere), ``worse``, ``not_supported`` or ``invalid``."""
    if not verdict.worse and not (verdict.average is not None and verdict.average.worse):
        return verdict.verdict
    return MIXED if verdict.verdict == BETTER else WORSE


def agreeing(bound: float, *, rejected: bool, null: float = 0.0) -> float:
    """A lower bound on the side of ``null`` on which its test puts it, where rounding has put it on the other.

    A rejected null is below the bound, or at it where p equals the level; one that stands is above.
    """
    return max(bound, null) if rejected else min(bound, _below(null))


def _below(null: float) -> float:
    # A subnormal number is lost where others compute with it.
    return -2.2250738585072014e-308 if null == 0 else math.nextafter(null, -math.inf)
