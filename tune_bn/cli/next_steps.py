"""What may be done with a verdict: in a few words, and as lines to be typed."""

from __future__ import annotations

import shlex

from tune_bn.records.commands import in_output, new_study_command, study_command
from tune_bn.records.verdict import Verdict
from tune_bn.study.folder import StudyFolder

USUAL_POWER = 0.8


def next_steps(folder: StudyFolder, verdict: Verdict) -> list[str]:
    """What may be done with a verdict: in a few words, and as a line to be typed."""
    if verdict.is_invalid:
        return [f"what the driver said: {study_command('logs', folder.path)}"]
    ui = shlex.join(["tune_bn", "ui", *in_output(folder.path)])
    steps = [f"the curves of every run, in MLflow: {ui}"]
    if folder.diagnostics.is_dir():
        steps.insert(0, f"inside the BN layers: {study_command('inspect', folder.path)}")
    steps += _used(verdict)
    seeds = verdict.seeds
    if seeds and not verdict.is_supported and not verdict.worse and _may_hold(verdict):
        count = 2 * len(seeds)
        fresh = f"seeds.confirm={{from: {max(seeds) + 1}, to: {max(seeds) + count}}}"
        line = new_study_command(folder.path, fresh)
        steps.append(f"a new study from its best, on {count} fresh seeds{_finding(verdict, count)}: {line}")
    return steps


def _used(verdict: Verdict) -> list[str]:
    """How what was supported comes into other training code, where it is one γ and one c."""
    good = [arm for arm in verdict.candidates if arm.supported]
    config = good[0].config if len(good) == 1 and not verdict.worse else {}
    numbers = {key: value for key, value in config.items() if type(value) in (int, float)}
    if "gamma" not in numbers or set(config) - {"gamma", "c"}:
        return []
    gamma, c = (shown_number(numbers.get(key, 1)) for key in ("gamma", "c"))
    return [
        f"in your training code: tune_bn.scale_batchnorm(model, gamma={gamma}), and an optimizer on "
        f"tune_bn.parameter_groups(model, lr=…, c={c}) (docs/own-script.md)"
    ]


def shown_number(value: float) -> str:
    """As Python reads it, to six digits: more of them decide nothing."""
    return f"{value:.6g}"


def _finding(verdict: Verdict, count: int) -> str:
    """What so many seeds would find of the gain that was seen, where one candidate is simply to be better."""
    from tune_bn.analysis.claims import claim_in
    from tune_bn.analysis.power import seeds_needed, t_test_power

    alone = verdict.candidates[0] if len(verdict.candidates) == 1 else None
    if alone is None or not claim_in(verdict).is_plain or verdict.stopping != "fixed" or verdict.alpha is None:
        return ""
    if not alone.effect or not alone.std_difference or alone.effect < 0:
        return ""
    power = t_test_power(alone.effect, alone.std_difference, count, alpha=verdict.alpha)
    words = f" (were the true gain as large as the one seen, they would find it with power {power:.2f}"
    needed = seeds_needed(alone.effect, alone.std_difference, alpha=verdict.alpha)
    if power >= USUAL_POWER:
        return f"{words})"
    return f"{words}; {'far more' if needed is None else needed} with {USUAL_POWER})"


def _may_hold(verdict: Verdict) -> bool:
    """Whether a comparison lies where it is claimed to be, so that more seeds of the same may show it."""
    from tune_bn.analysis.claims import claim_in

    claim = claim_in(verdict)
    effects = [arm.effect for arm in verdict.candidates if arm.effect is not None]
    return any(claim.null < effect and (claim.ceiling is None or effect < claim.ceiling) for effect in effects)
