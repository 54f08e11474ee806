"""What a paper needs of a study: table, numbers, figures, methods, checklist and references, as files.

Every number is taken from the verdict, and ``numbers.tex`` says from which of its keys. Prose is put together from what
the study states of itself; nothing is claimed that its records do not hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tune_bn.analysis.plan import claim_by, read_plan
from tune_bn.analysis.verdict import verdict_on_study
from tune_bn.analysis.wording import (
    config_keys,
    correction_words,
    decimals_of_verdict,
    metric_words,
    number_words,
    score_of_verdict,
    signed_words,
    spoken,
    value_words,
    with_unit,
)
from tune_bn.errors import StudyError
from tune_bn.host.version import __version__
from tune_bn.records.energy import energy_words
from tune_bn.records.files import write_text
from tune_bn.records.log import RecordLog
from tune_bn.records.plan import EQUIVALENT, NONINFERIOR, PLAN_FILE, Plan
from tune_bn.records.record import FAILED, STAGES, Record, ranges
from tune_bn.records.verdict import Candidate, Verdict, known
from tune_bn.report.figures.effects import forest
from tune_bn.report.figures.pairs import paired
from tune_bn.report.paper_text import CORRECTION, METHOD, PAPER, REFERENCES, tool_entry

_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "γ": r"$\gamma$",
    "α": r"$\alpha$",
    "±": r"$\pm$",
    "−": "$-$",
    "\N{NO-BREAK SPACE}": "~",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "–": "--",
    "…": r"\dots{}",
    "ρ": r"$\rho$",
    "<": "$<$",
    ">": "$>$",
}


# A minus and no hyphen; no line may end between a number and its percent sign.
_MINUS = re.compile(r"(?<![\w.)])-(?=[\d.])")
_PERCENT = re.compile(r"(?<=\d) (?=%)")


def tex(text: str) -> str:
    """Text as LaTeX prints it. What no font of pdfLaTeX's has is left to its input encoding."""
    kept = _PERCENT.sub("\N{NO-BREAK SPACE}", _MINUS.sub("−", text))
    return "".join(_SPECIAL.get(sign, sign) for sign in kept)


def write_paperkit(study: Path, out: Path) -> list[Path]:
    """Write the kit of a confirmed study into a new or empty folder; the files, in their order.

    Raises:
        StudyError: the verdict is invalid or missing, or the folder cannot be used.
    """
    verdict = verdict_on_study(study)
    if verdict.is_invalid:
        raise StudyError(f"{study.name}: its verdict is invalid ({verdict.problems[0]}); accepted: a valid one")
    plan, records = read_plan(study / PLAN_FILE), RecordLog(study / "records.jsonl").read()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise StudyError(f"{out}: is not empty; accepted: a new or an empty folder")
        methods, checklist = method_words(verdict, plan, records), checklist_words(verdict, plan, records)
        texts = {
            "table.tex": table_tex(verdict),
            "numbers.tex": numbers_tex(verdict),
            "methods.tex": "\n\n".join(tex(part) for part in methods) + "\n",
            "methods.md": "\n\n".join(methods) + "\n",
            "checklist.md": checklist,
            "references.bib": f"{METHOD}\n{tool_entry(plan.versions.get('tune_bn'), plan.commit)}\n{REFERENCES}",
            "paper.tex": PAPER.replace(CORRECTION, _correction_tex(plan)),
        }
        for name, text in texts.items():
            write_text(out / name, text)
        return [*(out / name for name in texts), *_figures(verdict, out)]
    except OSError as error:
        raise StudyError(f"{out}: {error.strerror}; accepted: a folder that can be written") from None


def _figures(verdict: Verdict, out: Path) -> list[Path]:
    written: list[Path] = []
    # Type 42 keeps letters as letters, so that an editor of a journal can change them.
    with mpl.rc_context({"pdf.fonttype": 42, "ps.fonttype": 42}):
        drawn: dict[str, Figure | None] = {"pairs": paired(verdict), "effects": forest(verdict)}
        for name, figure in drawn.items():
            for kind in ("pdf", "png") if figure is not None else ():
                written.append(out / f"{name}.{kind}")
                # No time and no version in the file: equal studies give equal figures.
                metadata = (
                    {"CreationDate": None, "Producer": None, "Creator": None} if kind == "pdf" else {"Software": None}
                )
                figure.savefig(written[-1], dpi=200, bbox_inches="tight", metadata=metadata)  # type: ignore[union-attr]
    return written


def letters(index: int) -> str:
    """A, B, …, Z, AA: names of macros have no digits."""
    return (letters(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def _p(value: float | None) -> str:
    if value is None:
        return "--"
    if value < 1e-4:
        power = f"{value:.1e}".split("e")
        return rf"${power[0]} \times 10^{{{int(power[1])}}}$"
    return f"{value:.2g}"


def _interval(ends: Sequence[float | None] | None, decimals: int) -> str:
    if ends is None:
        return "--"
    low, high = (r"\infty" if end is None else signed_words(end, decimals) for end in ends)
    return f"$[{'-' if ends[0] is None else ''}{low}, {high}]$"


def numbers_tex(verdict: Verdict) -> str:
    """A macro for each number, with the key of the verdict that it comes from."""
    lines = [
        f"% Numbers of the study {verdict.study}, plan {verdict.plan_sha256}; tune_bn {__version__}.",
        "% Each macro is followed by its source, a key of verdict.json.",
    ]

    digits = decimals_of_verdict(verdict)

    def macro(name: str, value: str, source: str) -> None:
        lines.append(f"\\newcommand{{\\tbn{name}}}{{{value}}} % {source}")

    digits = decimals_of_verdict(verdict)
    macro("Study", tex(str(verdict.study)), "study")
    macro("Verdict", tex(known(verdict.headline).replace("_", " ")), "headline")
    macro("Seeds", str(verdict.n), "n")
    macro("Alpha", f"{verdict.alpha:g}", "alpha")
    macro("Confidence", f"{100 * known(verdict.ci_confidence):g}\\%", "ci_confidence")
    macro("Margin", number_words(known(verdict.margin)), "margin")
    macro("Candidates", str(len(verdict.candidates)), "candidates")
    if (average := verdict.pooled) is not None:
        for key, number in (("effect", average.effect), ("between", average.between)):
            macro(f"Pooled{key.title()}", signed_words(number, digits), f"pooled.{key}")
        macro("PooledCi", _interval(average.ci, digits), "pooled.ci")
        macro("PooledPValue", _p(average.p_value), "pooled.p_value")
    for index, arm in enumerate(verdict.baselines):
        name = "Base" + ("" if len(verdict.baselines) == 1 else letters(index))
        macro(f"{name}Mean", f"{arm.mean:.{digits}f}", f"baselines[{index}].mean")
        macro(f"{name}Std", f"{arm.std:.{digits}f}", f"baselines[{index}].std")
    for index, arm in enumerate(verdict.candidates):
        name, source = f"Arm{letters(index)}", f"candidates[{index}]"
        macro(name, tex(arm.arm), f"{source}.arm")
        for key, value in (
            ("mean", f"{arm.mean:.{digits}f}"),
            ("std", f"{arm.std:.{digits}f}"),
            ("n", str(arm.n)),
            ("effect", signed_words(known(arm.effect), digits)),
            ("ci", _interval(arm.ci, digits)),
            ("ci_adjusted", _interval(arm.ci_adjusted, digits)),
            ("p_value", _p(arm.p_value)),
            ("p_adjusted", _p(arm.p_adjusted)),
            ("p_two_sided", _p(arm.p_two_sided)),
            ("d_z", "--" if arm.d_z is None else f"{arm.d_z:.2f}"),
            ("outcome", tex(known(arm.outcome).replace("_", " "))),
        ):
            macro(name + key.title().replace("_", ""), value, f"{source}.{key}")
        if (found := arm.over_images) is not None:
            macro(f"{name}OverImages", _interval((found.low, found.high), digits), f"{source}.over_images")
    return "\n".join(lines) + "\n"


def _in_brackets(words: str, unit: str) -> str:
    """``test accuracy (\\%)``; the words alone where there is no unit."""
    return tex(f"{words} ({unit})" if unit else words)


def table_tex(verdict: Verdict) -> str:
    """The arms as a booktabs table; bold where the claim holds."""
    arms = [*verdict.every_tuning, *verdict.candidates]
    keys = config_keys([arm.config for arm in arms])
    several = len(verdict.candidates) > 1
    interval = (
        f"interval at {correction_words(verdict)} step"
        if several
        else f"{100 * known(verdict.ci_confidence):g}\\% interval"
    )
    head = ["arm", *(tex("γ" if key == "gamma" else key) for key in keys)]
    score, digits = score_of_verdict(verdict), decimals_of_verdict(verdict)
    way = "" if score.higher_is_better else ", + is lower"
    head += [_in_brackets(metric_words(known(verdict.metric)), score.unit), "$n$"]
    head += [_in_brackets("effect", f"{score.difference_unit}{way}".removeprefix(", ")), interval]
    head += [f"$p$ ({correction_words(verdict)})" if several else "$p$"]
    lines = [
        "% Needs \\usepackage{booktabs}.",
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        "\\toprule",
        " & ".join(head) + r" \\",
        "\\midrule",
    ]
    for arm in arms:
        cells = [tex(arm.arm)]
        cells += [tex(value_words(arm.config[key])) if key in arm.config else "--" for key in keys]
        spread = f" $\\pm$ {arm.std:.{digits}f}"
        shown = f"{arm.mean:.{digits}f}"
        if isinstance(arm, Candidate):
            shown = f"\\textbf{{{shown}}}" if arm.supported else shown
            cells += [
                shown + spread,
                str(arm.n),
                f"${signed_words(known(arm.effect), digits)}$",
                _interval(arm.ci_adjusted, digits),
            ]
            cells += [_p(arm.p_adjusted)]
        else:
            cells += [shown + spread, str(len(arm.scores)), "", "", ""]
        lines.append(" & ".join(cells) + r" \\")
    if average := verdict.pooled:
        shown = f"${signed_words(average.effect, digits)}$"
        shown = f"\\textbf{{{shown}}}" if average.supported else shown
        cells = ["average", *[""] * (len(keys) + 1), str(average.n), shown, _interval(average.ci, digits)]
        lines += ["\\midrule", " & ".join([*cells, _p(average.p_value)]) + r" \\"]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def method_words(verdict: Verdict, plan: Plan, records: Sequence[Record]) -> list[str]:
    """What was done, a paragraph each, in the words of the study."""
    searched = {r.trial for r in records if r.stage == "search" and r.arm == "candidate"}
    parts, used = [], plan.used_seeds
    if searched:
        parts.append(
            f"Search and selection. {len(searched)} configurations were tried on seed {ranges(used.get('search', ()))} "
            f"and judged on validation images alone; the best met on seeds {ranges(used.get('select', ()))}. The "
            "scores of both stages chose the candidates and are no evidence."
        )
    else:
        parts.append("Arms. All configurations were stated before anything was trained; none was searched.")
    claim, alpha, m = claim_by(plan), plan.alpha, len(plan.candidates)
    score, metric = plan.score, metric_words(plan.metric)
    margin = with_unit(number_words(claim.margin), score.difference_unit_words)
    null = {
        NONINFERIOR: f"that it is worse by {margin} or more (noninferiority)",
        EQUIVALENT: f"that it differs by {margin} or more (equivalence, two one-sided tests)",
    }.get(claim.kind, "that it is no better" + ("" if claim.is_plain else f" by more than {margin}"))
    looks = ""
    if plan.design is not None:
        looks = (
            f" Looks after {', '.join(map(str, plan.design['looks']))} pairs were planned with O'Brien-Fleming "
            "boundaries for the t statistic; p-values and intervals hold at all looks together."
        )
    family = f", {_family_words(plan, m)}" if m > 1 else ""
    if (spent := plan.alpha_spending) is not None:
        family += (
            f"; α is the part of claim {spent.place} in a budget of {spent.total:g} over all claims on the same "
            "test data"
        )
    parts.append(
        f"Confirmation. A plan was locked (SHA-256 {plan.plan_sha256[:16]}) before the first confirmation run. "
        f"Baseline and candidates were trained on the same fresh seeds, {ranges(plan.seeds)}; {metric} was read "
        f"once per run. The null hypothesis of each candidate, {null}, was tested by the one-sided paired t-test over "
        f"seeds at α = {alpha:g}{family}. It assumes differences that are normal and independent over seeds.{looks} "
        f"{_rivals_words(plan)}"
        f"{metric.capitalize()} is better where it is {'higher' if score.higher_is_better else 'lower'}. "
        f"{_diverged_words(plan)}"
    )
    parts.append(f"Result. {verdict.reason}")
    if verdict.covers:
        parts.append(f"Sources of variation. {verdict.covers}")
    return parts


def _rivals_words(plan: Plan) -> str:
    """Why there is more than one baseline; empty where there is one."""
    met = plan.most_opponents
    if met < 2:
        return ""
    return (
        f"Nuisance parameters were tuned for baseline and candidates alike. Each candidate was tested against {met} "
        "tunings of the baseline: those of its finalists that the selection could not tell from the best, and the "
        "baseline at the candidate's own nuisance parameters. Its p-value is the largest of these tests "
        "(intersection-union, which needs no correction), its effect the one over the tuning that was the hardest to "
        "beat, and its interval one of the gain over the best of them. "
    )


def _family_words(plan: Plan, m: int) -> str:
    """How several comparisons become one claim."""
    if plan.holds == "all":
        return f"in each of {m} settings without a correction: the claim is that all of them hold (intersection-union)"
    if plan.holds == "pooled":
        return (
            f"on differences averaged over {m} settings for each seed: the claim is about that average; single "
            "settings are described, adjusted by Holm's procedure"
        )
    by = "step-down max-t over sign flips" if plan.correction == "max_t" else "Holm's procedure"
    return f"adjusted by {by} for {m} comparisons"


def _correction_tex(plan: Plan) -> str:
    """The same with its source, for the paper; nothing where there is one comparison."""
    tunings = ""
    if plan.rivals:
        tunings = " The claim has to hold against every tuning of the baseline \\cite{berger1982multiparameter}."
    if len(plan.candidates) < 2:
        return tunings
    if plan.holds == "all":
        return f"{tunings} Several settings hold together \\cite{{berger1982multiparameter}}."
    by = {"max_t": "step-down max-$t$ \\cite{westfall1993resampling}"}
    holm = "Holm's procedure \\cite{holm1979simple}"
    return f"{tunings} Several comparisons are corrected by {by.get(plan.correction, holm)}."


def _test_words(plan: Plan, m: int) -> str:
    looks = "" if plan.design is None else "group-sequential "
    family = f", {_family_words(plan, m)}" if m > 1 else ""
    one = "Two one-sided" if claim_by(plan).kind == EQUIVALENT else "One-sided"
    return f"{one} {looks}paired t-test{'s' if one != 'One-sided' else ''} over seeds at α = {plan.alpha:g}{family}"


def _diverged_words(plan: Plan) -> str:
    score = plan.score
    worst = " A run that failed on every try counts as the score that is worst for the claim."
    failed = "" if plan.failed is None else worst
    if score.diverged is None:
        return f"A diverged run would have made the verdict invalid.{failed}"
    return f"A diverged run counts as {with_unit(number_words(score.diverged), score.unit)}.{failed}"


def checklist_words(verdict: Verdict, plan: Plan, records: Sequence[Record]) -> str:
    """Questions of the NeurIPS checklist on experiments, answered from the records."""
    done = [record for record in records if record.status != FAILED]
    hours = {stage: sum(r.duration_seconds for r in records if r.stage == stage) / 3600 for stage in STAGES}
    devices = sorted({str(record.environment.get("device_model") or record.device) for record in done})
    retried = len(verdict.retried)
    digits = decimals_of_verdict(verdict)
    arms = [*verdict.every_tuning, *verdict.candidates]
    spread = ", ".join(f"{arm.arm} {arm.std:.{digits}f}" for arm in arms)
    unit = f" ({words})" if (words := plan.score.difference_unit_words) else ""
    versions = ", ".join(f"{name} {value[:16]}" for name, value in sorted(plan.versions.items()))
    runs = {stage: sum(r.stage == stage for r in records) for stage in STAGES}
    answers = [
        ("Claims", f"{spoken(verdict).replace('_', ' ').capitalize()}. {verdict.reason}"),
        ("Experimental setting", f"Plan {plan.plan_sha256}; commit {plan.commit or 'not known'}; {versions}."),
        (
            "Statistical significance",
            f"{_test_words(plan, len(plan.candidates))}; error bars are standard deviations over seeds{unit}: "
            f"{spread}. {verdict.covers or ''}",
        ),
        (
            "Compute resources",
            f"{', '.join(devices) or 'not known'}; runs: {runs['search']} search, {runs['select']} selection, "
            f"{runs['confirm']} confirmation; hours of training: "
            + ", ".join(f"{number_words(hours[stage])} {stage}" for stage in STAGES)
            + f"; mean run {fmean([r.duration_seconds for r in done]) if done else 0:.1f} s. Failed runs are counted. "
            f"{energy_words(records)}",
        ),
        (
            "Failures",
            f"{len(records) - len(done)} failed runs, {len(verdict.diverged)} diverged, {retried} retried.",
        ),
        (
            "Data",
            "; ".join(f"{key}: {_short(value)}" for key, value in (plan.data or {}).items()) or "not recorded",
        ),
        ("Limitations", " ".join(f"{remark}." for remark in verdict.remarks) or "No remarks of the verdict."),
        (
            "For you to answer",
            "Licences of data and code, societal impact, and whether the claim holds beyond these data.",
        ),
    ]
    head = f"# Checklist of {verdict.study}\n\nAnswered from the records by tune_bn {__version__}.\n"
    return head + "".join(f"\n## {title}\n\n{answer.strip()}\n" for title, answer in answers)


def _short(value: Any) -> str:
    words = ", ".join(f"{k} {str(v)[:16]}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
    return words if len(words) <= 200 else f"{words[:200]}…"
