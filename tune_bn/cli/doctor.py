"""The verb ``doctor``: what of this machine works."""

from __future__ import annotations

import json

import typer

from tune_bn.cli.common import STUDIES, JsonOption, OutputOption, app, say


@app.command()
def doctor(output: OutputOption = STUDIES, as_json: JsonOption = False) -> None:
    """Say what of this machine works, what a search would use, and what to do about the rest.

    Looks at Python, torch and its device, Ray, MLflow, shared memory, open files,
    disk and cores; starts no Ray and no server. Exit status: 0 a search would run
    here, 1 it would not.
    """
    from tune_bn.host import doctor

    findings = doctor.examine(output)
    say(json.dumps(doctor.as_json(findings), indent=2, ensure_ascii=False) if as_json else doctor.text(findings))
    if not doctor.works(findings):
        raise typer.Exit(1)
