"""The verbs for those who check a claim: bundle, replicate, gate, paperkit."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tune_bn.cli.common import (
    STUDIES,
    AddressOption,
    JsonOption,
    OutputOption,
    SetOption,
    StudyArgument,
    app,
    carry_out,
    existing_study,
    print_verdict,
    say,
    shown,
    study_name,
)
from tune_bn.errors import ConfigError, StudyError
from tune_bn.records.commands import study_command

if TYPE_CHECKING:
    from tune_bn.records.verdict import Verdict
    from tune_bn.space.space import Space

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle.zip, as `tune_bn bundle` wrote it.")]


@app.command()
def bundle(
    study: StudyArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="The file to write.")],
    output: OutputOption = STUDIES,
    weights: Annotated[
        bool, typer.Option("--weights", help="With the weights of the confirmed runs, where the study kept them.")
    ] = False,
) -> None:
    """Write a confirmed study as one file that others can verify and replicate.

    It holds plan, records, curves, results of single test images, space, report,
    environment, and what the code differed by from its commit, each with its hash; no
    images, no weights unless asked for, no address of a tracking server.
    `tune_bn verify OUT.zip` checks it, and so does `python -m tune_bn.analysis OUT.zip`
    where only numpy and scipy are.
    """
    from tune_bn.records.bundle import environment_bytes, is_bundle, write_bundle
    from tune_bn.space.file import dump_yaml

    if not is_bundle(out):
        raise StudyError(f"OUT.zip: got {out}; accepted: a name that ends in .zip")
    folder = existing_study(study, output)
    content = folder.space().to_dict()
    # An address may hold a password, and nobody needs it to check the claim.
    content["tracking"] = {**content["tracking"], "uri": None}
    extra = {"space.yaml": dump_yaml(content).encode(), "environment.json": environment_bytes()}
    sha256 = write_bundle(folder.path, out, extra, weights=weights)
    say(f"bundle:  {out} ({out.stat().st_size:,} bytes)")
    say(f"sha256:  {sha256}")
    say(f"verify:  {shlex.join(['tune_bn', 'verify', str(out)])}")


@app.command()
def seal(
    study: StudyArgument,
    output: OutputOption = STUDIES,
    reply: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The authority's reply, to be checked and kept with the study.")
    ] = None,
    authority: Annotated[
        Path | None, typer.Option("--ca", metavar="PEM", help="The authority's certificates, beside --reply.")
    ] = None,
) -> None:
    """Make it public since when the plan has existed, by your own means. Nothing is sent.

    Prints the plan's hash as a text to post and as a signed git tag, and writes
    seal.tsq, a request for a time stamp (RFC 3161) that you send. --reply with --ca
    checks what came back by `openssl ts` and keeps it; verify and the bundle show it.
    """
    from tune_bn.analysis.plan import plan_problem, read_plan
    from tune_bn.records.files import writing
    from tune_bn.records.seal import REPLY, REQUEST, request_of, seal_words, take_reply

    folder = existing_study(study, output)
    plan = read_plan(folder.plan_file)
    problem = plan_problem(plan)
    if problem is not None:
        raise StudyError(f"{folder.plan_file}: {problem}; accepted: the plan as it was locked")
    if (reply is None) != (authority is None):
        raise StudyError("--reply: got one of --reply and --ca; accepted: both, or neither")
    if reply is not None and authority is not None:
        for option, path in (("--reply", reply), ("--ca", authority)):
            if not path.is_file():
                raise StudyError(f"{option}: got {path}, which is no file; accepted: a file")
        when = take_reply(folder.path, folder.plan_file, reply, authority)
        say(f"sealed:  {when:%Y-%m-%d %H:%M:%S} UTC, kept as {shown(folder.path / REPLY)}")
        return
    sha256, request = plan.plan_sha256, folder.path / REQUEST
    with writing(request):
        request.write_bytes(request_of(folder.plan_file.read_bytes()))
    say(f"plan:    {sha256}")
    say(f"post:    The plan of {folder.name} has plan_sha256 {sha256}; locked {plan.created_at}.")
    say(f"tag:     git tag -s plan-{folder.name} -m 'plan_sha256 {sha256}'")
    say(f"stamp:   curl -H 'Content-Type: application/timestamp-query' --data-binary @{shown(request)} URL > reply.tsr")
    say(f"keep:    {study_command('seal', folder.path, '--reply', 'reply.tsr', '--ca', 'CA.pem')}")
    known = seal_words(folder.path, folder.plan_file)
    if known is not None:
        say(f"seal:    {known}")


@app.command()
def gate(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study, its folder, or a bundle.zip.")],
    require: Annotated[str, typer.Option("--require", metavar="WHAT", help="supported.")] = "supported",
    output: OutputOption = STUDIES,
) -> None:
    """Say as JSON and by the exit status whether a verdict lets something pass.

    The verdict is computed anew from plan and records. Exit status: 0 it passes, 1
    the verdict is invalid, 2 bad input, 3 it is valid and does not meet --require.
    """
    from tune_bn.analysis.gate import exit_status, unmet
    from tune_bn.analysis.verdict import verdict_on_study
    from tune_bn.cli.bundles import verdict_on_bundle
    from tune_bn.records.bundle import is_bundle
    from tune_bn.records.verdict import json_of

    verdict = (
        verdict_on_bundle(Path(study)) if is_bundle(study) else verdict_on_study(existing_study(study, output).path)
    )
    status = exit_status(verdict, require)
    answer = {
        "passed": status == 0,
        "status": status,
        "required": require,
        "reasons": verdict.problems or unmet(verdict, require),
        "remarks": verdict.remarks,
        **json_of(
            verdict,
            ("study", "verdict", "headline", "reason", "kind", "margin", "worse", "covers", "plan_sha256"),
        ),
        "candidates": [
            json_of(arm, ("arm", "against", "outcome", "effect", "p_adjusted", "ci_adjusted", "n"))
            for arm in verdict.candidates
        ],
    }
    say(json.dumps(answer, indent=2, ensure_ascii=False))
    if status:
        raise typer.Exit(status)


@app.command()
def replicate(
    path: BundleArgument,
    seeds: Annotated[str, typer.Option(metavar="N-N", help="Fresh seeds, such as 101-105, or 7,8,9.")],
    study: Annotated[str | None, typer.Option(help="Name of the new study. Default: replication-N.")] = None,
    output: OutputOption = STUDIES,
    address: AddressOption = None,
    set_: SetOption = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the code that the bundle's space names, which you have read.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the supported arms of a bundle and their baseline anew, on other seeds.

    A new study with a plan of its own tests the same claim. Replicated: it is
    supported there. Not replicated: the interval of the new runs lies wholly below
    that of the claim. Else inconclusive. --set names where the data lies here, such
    as data.root=PATH. Exit status: 0 replicated, 1 the new verdict is invalid, 2 bad
    input, 3 not replicated or inconclusive.
    """
    from tune_bn.analysis.bundles import replication, verify_bundle
    from tune_bn.analysis.plan import read_plan
    from tune_bn.cli.bundles import require_same_space
    from tune_bn.records.bundle import unpacked
    from tune_bn.study.continuity import code_changes
    from tune_bn.study.folder import StudyFolder, new_study, require_writable

    before = verify_bundle(path)
    space = _space_of(path, before, _seeds(seeds), set_ or [], trust=trust)
    require_same_space(path, before)
    require_writable(output)
    if study is not None:
        StudyFolder(output / study_name(study)).check_new()

    def opening() -> StudyFolder:
        folder = new_study(output, "replication") if study is None else StudyFolder(output / study)
        return folder.created(space)

    place = output if study is None else output / study
    folder, after = carry_out(opening, space, str(path), address, place, studies_dir=output)
    found = replication(before, after)
    with unpacked(path) as bundle:
        claimed = read_plan(bundle / "plan.json")
    plan = read_plan(folder.plan_file)
    other_data, other_code = plan.data != claimed.data, code_changes(claimed, plan.versions, plan.commit)
    found |= {"other_data": other_data, "other_code": other_code}
    if as_json:
        say(json.dumps(found | {"study": folder.name, "verdict": after.verdict}, indent=2, ensure_ascii=False))
    else:
        print_verdict(folder, after)
        from tune_bn.analysis.wording import (
            decimals_of_verdict,
            interval_words,
            score_of_verdict,
            signed_words,
            with_unit,
        )

        unit, decimals = score_of_verdict(after).difference_unit, decimals_of_verdict(after)
        say(f"replication: {found['outcome']}")
        for arm in found["candidates"]:
            smaller = ", though smaller than it was" if arm["smaller"] else ""
            then, now = (
                f"{with_unit(signed_words(effect, decimals), unit)} ({interval_words(ends or (None, None), decimals)})"
                for effect, ends in ((arm["effect"], arm["interval"]), (arm["new_effect"], arm["new_interval"]))
            )
            say(f"- {arm['arm']}: {arm['outcome']}{smaller}; then {then}, now {now}")
        say(f"rule: {found['rule']}")
        if other_data:
            say("note: the data differ from those of the claim, so this says whether it holds on other data")
        if other_code:
            say(f"note: the runs of the claim were of other code: {', '.join(other_code)}")
    if after.is_invalid or found["outcome"] != "replicated":
        raise typer.Exit(1 if after.is_invalid else 3)


def _seeds(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:\s*-\s*(\d{1,18}))?\s*", part, re.ASCII)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 0 <= last - first < 10_000:
            raise ConfigError("--seeds", text, "seeds such as 101-105 or 7,8,9")
        found += range(first, last + 1)
    if len(set(found)) != len(found) or len(found) < 2:
        raise ConfigError("--seeds", text, "two or more seeds, each once")
    return found


_PLACES = ("data.root=", "resources.", "tracking.")
"""What may be otherwise here without being another claim."""


def _space_of(path: Path, before: Verdict, seeds: list[int], overrides: list[str], *, trust: bool = False) -> Space:
    """The space of a study that tests the supported arms of a bundle again, and nothing else."""
    from tune_bn.analysis.plan import read_plan
    from tune_bn.records.bundle import unpacked
    from tune_bn.space.file import parse_yaml
    from tune_bn.space.loading import parse_space, with_override

    if not before.is_supported:
        raise StudyError(f"{path}: its verdict is {before.verdict}; accepted: a bundle whose claim is supported")
    with unpacked(path) as folder:
        plan, content = read_plan(folder / "plan.json"), parse_yaml(folder / "space.yaml")
    if len(before.baselines) > 1:
        raise StudyError(f"{path}: its claim has {len(before.baselines)} settings; accepted: one with one setting")
    used = {*plan.seeds}.union(*plan.used_seeds.values())
    again = sorted(used.intersection(seeds))
    if again:
        first = max(used) + 1
        raise ConfigError(
            "--seeds", again[0], f"seeds that the claim has not used, such as {first}-{first + len(seeds) - 1}"
        )
    shown = [arm for arm in before.candidates if arm.supported]
    # Of several tunings of the baseline the one that was the hardest to beat, which the interval is about.
    baseline = before.arm_against(shown[0])
    networks = [content.get("model") or {}, *(arm.config for arm in (baseline, *before.candidates))]
    own = [str(one["arch"]) for one in networks if ":" in str(one.get("arch", ""))]
    named = [str(content["trainer"])] if content.get("trainer") else own
    if named and not trust:
        # A stranger's file must not choose what is run here.
        raise StudyError(
            f"{path}: its space names code to run ({named[0][:120]}); accepted: --trust beside it, once you have "
            "read that code"
        )
    content = {key: value for key, value in content.items() if key not in ("search", "sampler", "tracking")}
    arms = {arm.arm: arm.config for arm in shown if before.arm_against(arm) is baseline}
    claim = {**content.get("claim", {}), "baseline": baseline.config, "arms": arms, "across": {}}
    # The level is that at which the claim was tested, whichever of how many it was.
    claim |= {"stopping": "fixed", "looks": None, "alpha": plan.alpha, "alpha_spending": "none"}
    earlier = sorted(used)
    spare = [max(used.union(seeds)) + step for step in (1, 2)]
    content |= {
        "claim": claim,
        "seeds": {"search": spare[:1], "select": spare[1:], "confirm": seeds, "earlier": earlier},
    }
    for override in overrides:
        # Another length, or another margin, would be another claim.
        if not override.startswith(_PLACES):
            raise ConfigError("--set", override, ", ".join(f"{place}…" for place in _PLACES))
        content = with_override(content, override)
    return parse_space(content, f"{path}: space.yaml")


@app.command()
def paperkit(
    study: StudyArgument,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; new or empty.")],
    output: OutputOption = STUDIES,
) -> None:
    """Write what a paper needs of a study: tables, numbers, figures, methods, checklist.

    table.tex (booktabs), numbers.tex (a macro for each number, with its source),
    figures as PDF with text that can be edited and as PNG, methods.tex and .md,
    checklist.md, references.bib, and paper.tex, which shows how they fit together.
    """
    from tune_bn.report.paperkit import write_paperkit

    for written in write_paperkit(existing_study(study, output).path, out):
        say(shown(written))
