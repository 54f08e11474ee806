"""Does a verdict let something pass? What programs ask, in exit statuses and reasons instead of prose."""

from __future__ import annotations

from tune_bn.errors import ConfigError
from tune_bn.records.verdict import SUPPORTED, AnyVerdict, Verdict

PASSED, INVALID_VERDICT, NOT_MET = 0, 1, 3
"""Exit statuses; 2 is bad input, 130 interrupted."""
REQUIREMENTS = (SUPPORTED,)


def required(requirement: str | None) -> str | None:
    """What ``--require`` was given, checked.

    Raises:
        ConfigError: it is not known.
    """
    if requirement is not None and requirement not in REQUIREMENTS:
        raise ConfigError("--require", requirement, ", ".join(REQUIREMENTS))
    return requirement


def unmet(verdict: AnyVerdict, requirement: str | None) -> list[str]:
    """Why a valid verdict does not meet the requirement, one sentence each; empty where it does, or none was made.

    ``supported``: some comparison is. A loss in another setting of the same claim is no plain success, and does not
    pass; a losing candidate beside a better one of the same baseline does not count.
    """
    if required(requirement) is None:
        return []
    reasons = []
    if not verdict.is_supported:
        reasons.append(f"the verdict is {verdict.verdict}")
    if isinstance(verdict, Verdict) and len(verdict.baselines) > 1:
        reasons += [
            f"{arm.arm} is significantly worse than {arm.against}"
            for arm in verdict.candidates
            if arm.worse and not arm.supported
        ]
    return reasons


def exit_status(verdict: AnyVerdict, requirement: str | None = None) -> int:
    """0 for a verdict (that meets the requirement, where there is one), 1 for an invalid one, 3 where it does not.

    Args:
        verdict: of a study or of a table of scores.
        requirement: one of :data:`REQUIREMENTS`, or None.

    Raises:
        ConfigError: the requirement is not known.
    """
    reasons = unmet(verdict, requirement)
    if verdict.is_invalid:
        return INVALID_VERDICT
    return NOT_MET if reasons else PASSED
