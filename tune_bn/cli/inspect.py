"""The verb that looks inside the BN layers: inspect."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tune_bn.cli.common import (
    DEFAULT_SPACE,
    STUDIES,
    JsonOption,
    SetOption,
    app,
    existing_study,
    say,
    shown,
)
from tune_bn.errors import StudyError
from tune_bn.front.surroundings import naming
from tune_bn.host.process import sign_of_life
from tune_bn.records.commands import study_command
from tune_bn.study.folder import require_writable


@app.command()
def inspect(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="A study: the stored diagnostics of its confirmed arms.")
    ] = None,
    arm: Annotated[str | None, typer.Option(help="With STUDY: one arm, such as candidate-1.")] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="With STUDY: any run of its records; trained again here if need be."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights to look at: a state dict, wherever in a file; a checkpoint of a study.")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(help="Space file with network and data. Default: digits.yaml; for a study's file, the study's."),
    ] = None,
    gamma: Annotated[
        float | None,
        typer.Option(help="Initial γ; default: the space's. With --checkpoint: the run's, where the file lacks it."),
    ] = None,
    c: Annotated[
        float | None, typer.Option(help="Divisor of γ's learning rate; default, and with --checkpoint: as for --gamma.")
    ] = None,
    set_: SetOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the initial weights; default: 0.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="With STUDY: folder of all studies. Without: folder for diagnostics.json, diagnostics.md, layers.png."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Print every layer of a deep network.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look inside the BN layers: γ and its drift, the reach of activations, gradients at the first step.

    With STUDY: what its confirmation stored, or one run of its records. With --checkpoint: the weights in a file.
    Else: a network before its first step, with its gradients for γ = 1 beside those for --gamma.
    """
    own = {"--checkpoint": checkpoint, "--space": space, "--gamma": gamma, "--c": c, "--set": set_, "--seed": seed}
    of_study = {"--arm": arm, "--run": run}
    if study is not None:
        _refuse(own, "without STUDY, which has its own")
        if arm is not None:
            _refuse({"--run": run}, "without --arm")
        _of_study(study, arm, run, STUDIES if output is None else output, every=every, as_json=as_json)
        return
    _refuse(of_study, "with STUDY")
    given = {key: value for key, value in (("gamma", gamma), ("c", c)) if value is not None}
    if space is None and checkpoint is not None:
        space = _space_beside(checkpoint)
    _of_space(space or DEFAULT_SPACE, set_ or [], given, checkpoint, seed, output, every=every, as_json=as_json)


def _space_beside(checkpoint: Path) -> str | None:
    """The space file of the study in whose folder a checkpoint lies; None where it lies in none."""
    folders = [folder / "space.yaml" for folder in checkpoint.absolute().parents[1:3]]
    return next((shown(file) for file in folders if file.is_file()), None)


def _refuse(options: dict[str, Any], accepted: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise StudyError(f"{name}: got {str(value)!r}; accepted: {accepted}")


def _of_study(name: str, arm: str | None, run: str | None, output: Path, *, every: bool, as_json: bool) -> None:
    folder = existing_study(name, output)

    from tune_bn.cli.inspection import FEW_ARMS, as_text, of_arms, of_run
    from tune_bn.records.diagnostics import to_json
    from tune_bn.report.figures.layers import picture_of

    if run is not None:
        with naming(str(folder.space_file)):
            found = [of_run(folder, run, _tell)]
    else:
        found = of_arms(folder, arm)
    if as_json:
        contents = [to_json(one) for one in found]
        _print_json(contents if arm is None and run is None else contents[0])
        return
    say(as_text(found, every=every))
    pictures = [folder.plots / picture_of(one.arm or one.run or "") for one in found]
    drawn = [shown(path) for path in pictures if path.exists()]
    if len(drawn) > FEW_ARMS:
        drawn = [shown(folder.plots / picture_of("ARM"))]
    say(
        "\n"
        + (
            "\n".join(f"picture: {path}" for path in drawn)
            or f"pictures: {study_command('report', folder.path)} draws them"
        )
    )


def _of_space(
    name: str,
    overrides: list[str],
    given: dict[str, Any],
    checkpoint: Path | None,
    seed: int | None,
    output: Path | None,
    *,
    every: bool,
    as_json: bool,
) -> None:
    from tune_bn.space.loading import load_space, source_words
    from tune_bn.space.locate import find_space

    path = find_space(name)
    loaded = load_space(path, overrides)
    if output is not None:
        require_writable(output)

    from tune_bn.cli.inspection import as_text, of_checkpoint, of_first_step
    from tune_bn.records.diagnostics import to_json

    # A γ by stage has no option of its own.
    for key, place, value in (("gamma", "model.gamma", loaded.model.gamma), ("c", "train.c", loaded.train.c)):
        if any(override.partition("=")[0].strip() == place for override in overrides):
            given.setdefault(key, value)

    sign_of_life(f"{loaded.model.arch}: loading the data, and trying the network …")
    with naming(source_words(path, overrides)):
        if checkpoint is not None:
            found = of_checkpoint(loaded, given, checkpoint, seed, _tell)
        else:
            found = of_first_step(loaded, given, seed or 0)
    if as_json:
        _print_json(to_json(found))
    else:
        say(as_text([found], every=every))
    if output is not None:
        from tune_bn.report.layers_page import write_files

        for written in write_files(found, output):
            _tell(f"wrote {shown(written.absolute())}")


def _print_json(content: Any) -> None:
    say(json.dumps(content, indent=2, ensure_ascii=False))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
