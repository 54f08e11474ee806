"""``tune_bn check``: is the trainer of a space fit for a study?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tune_bn.cli.common import DEFAULT_SPACE, STUDIES, OutputOption, SetOption, SpaceOption, app, say
from tune_bn.front.surroundings import naming

if TYPE_CHECKING:
    from tune_bn.space.space import Space
    from tune_bn.trainers.checked import Finding


@app.command()
def check(space: SpaceOption = DEFAULT_SPACE, set_: SetOption = None, output: OutputOption = STUDIES) -> None:
    """Try the trainer of a space in a few short runs, against the ways to a wrong verdict in silence.

    A line for each: is the test set sealed, does the seed decide, is every searched
    key in effect, does a run that was ended go on exactly, do runs stay apart, does
    the test look at its checkpoint. Then what a study would cost, and every command
    line. Exit status 1 where something is wrong. `tune_bn search` asks for it where
    the trainer is a command or a function of your own.
    """
    from tune_bn.cli.validate import planned
    from tune_bn.front.surroundings import check_surroundings
    from tune_bn.host.machine import usable_cores
    from tune_bn.protocols.trainer import Place
    from tune_bn.space.loading import load_space, source_words
    from tune_bn.space.locate import find_space
    from tune_bn.trainers.check import Checker
    from tune_bn.trainers.checked import check_file, forecast_hours, keep
    from tune_bn.trainers.choose import trainer_of

    path = find_space(space)
    loaded, source = load_space(path, set_ or []), source_words(path, set_ or [])
    with naming(source):
        check_surroundings(loaded)
        trainer = trainer_of(loaded)
    place = Place(_device(loaded), threads=max(1, round(loaded.resources.cpu)))
    runs = planned(loaded).runs
    with tempfile.TemporaryDirectory(prefix="tune_bn-check-") as folder:
        log = check_file(output, loaded, trainer).with_suffix(".log")
        log.unlink(missing_ok=True)
        checked = Checker(loaded, trainer, place, Path(folder) / "runs", _tell, log).run()
    kept = keep(output, loaded, trainer, checked)
    if checked.seconds_per_step == checked.seconds_per_step:
        steps = trainer.steps(loaded.run_config(loaded.baseline))
        whole = checked.seconds_to_start + steps * checked.seconds_per_step
        say(
            f"cost       {checked.seconds_per_step:.3g} s a step and {checked.seconds_to_start:.3g} s to start on "
            f"{place.device}: {whole:.3g} s a run of {steps} steps"
        )
        at_once = loaded.resources.max_concurrent or max(1, int(usable_cores() / loaded.resources.cpu))
        hours = forecast_hours(loaded, trainer, checked, runs, at_once)
        say(f"in all     at most {runs} runs, {hours:.3g} h with {at_once} at a time, without early stopping")
    for line in checked.commands:
        say(f"command    {line}")
    say(f"kept in    {kept}")
    if not checked.ok:
        raise typer.Exit(1)


def _tell(finding: Finding) -> None:
    say(f"{finding.trap:<27}{finding.verdict:<11}{finding.words}")


def _device(space: Space) -> str:
    if not space.resources.gpu:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
