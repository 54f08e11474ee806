"""Studies as Ray jobs: what `tune_bn search --job` does, and `tune_bn head resume`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from tune_bn.cli.common import STUDIES, OutputOption, exit_by, say
from tune_bn.cli.head import head_app
from tune_bn.errors import RunnerError, TrackingError
from tune_bn.front.surroundings import naming
from tune_bn.records.commands import study_command
from tune_bn.study.folder import StudyFolder

if TYPE_CHECKING:
    from tune_bn.space.space import Space

WATCH_SECONDS = 30.0


def carry_out_as_job(
    open_folder: Callable[[], StudyFolder],
    space: Space,
    source: str,
    going_on: StudyFolder | None = None,
    require: str | None = None,
) -> None:
    """Check at the door, begin the study, submit its driver, and follow its log; exits with the driver's status.

    The end of this process, by Ctrl-C or a lost connection, does not end the job.
    """
    from tune_bn.data.dataset import load_dataset
    from tune_bn.front.surroundings import check_surroundings
    from tune_bn.observers.console.observer import ConsoleObserver
    from tune_bn.service.jobs import JobServer

    with naming(source):
        check_surroundings(space)
    server = JobServer()
    if going_on is not None:
        going_on.forget_stop()
    # The job finds the images decoded: what is wrong with one is said here, before there is a study.
    with naming(source), ConsoleObserver() as console:
        if space.trainer is None:
            load_dataset(space.data, progress=console.decoding)
    folder = open_folder()
    job = server.submit(folder)
    name = folder.name
    lines = [
        f"study {name} runs as the job {job.submission_id}; it goes on if this connection ends",
        f"on this machine: {study_command('status', folder.path)} | {study_command('logs', folder.path, '-f')} | "
        f"{study_command('stop', folder.path)}"
        " (from yours: ray exec CLUSTER.yaml 'tune_bn status')",
    ]
    if space.tracking.uri is not None and space.tracking.uri.startswith("http://127.0.0.1:"):
        port = space.tracking.uri.rpartition(":")[2].rstrip("/")
        lines.append(
            f"MLflow: http://127.0.0.1:{port} on this machine (from yours: ray attach CLUSTER.yaml -p {port}, "
            "and then the same address)"
        )
    for line in lines:
        say(line)
    try:
        status = server.follow(job, show)
    except KeyboardInterrupt:
        follow, end = study_command("logs", folder.path, "-f"), study_command("stop", folder.path)
        typer.echo(f"the study goes on; {follow} follows it, {end} ends it", err=True)
        status = 130
    if status == 0 and require is not None:
        from tune_bn.analysis.verdict import verdict_on_study

        # The job itself ends well: Ray would count any other status as its failure.
        exit_by(verdict_on_study(folder.path), require)
    raise typer.Exit(status)


def setting_for_job(given: str | None) -> str | None:
    """The setting by which a job tracks its runs as this shell would: a job has the environment of the head's Ray.

    Args:
        given: ``tracking.uri`` of the space.

    Raises:
        TrackingError: the URI of the environment is not acceptable, or has a password, which would be written down.
    """
    from tune_bn.observers.mlflow.uri import VARIABLE, check_tracking_uri, for_mlflow, named_uri, shown

    named = named_uri(given)
    if named is None or named.place != VARIABLE:
        return None
    check_tracking_uri(named.uri, VARIABLE)
    if shown(named.uri) != named.uri:
        raise TrackingError(
            f"{VARIABLE}: got {shown(named.uri)!r}, whose password would be written into the study's space.yaml for "
            "the job; accepted: a URI without one, and a login in ~/.mlflow/credentials of the head, or tracking.uri"
        )
    return f"tracking.uri={json.dumps(for_mlflow(named.uri))}"


def show(text: str) -> None:
    """Pass on a part of a log as it came."""
    sys.stdout.write(text)
    sys.stdout.flush()


@head_app.command()
def resume(
    output: OutputOption = STUDIES,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every half minute, until Ctrl-C.")] = False,
) -> None:
    """Submit the studies again that ran as jobs and whose driver, or head, was killed."""
    from tune_bn.service.jobs import JobServer, resume_interrupted

    told: set[str] = set()
    while True:
        try:
            lines = resume_interrupted(output, JobServer())
        except RunnerError:
            # The head's services may be there before its Ray is, and while it is started again.
            if not watch:
                raise
            lines = []
        for line in lines:
            if line not in told:
                say(line)
        if not watch:
            return
        told = set(lines)
        time.sleep(WATCH_SECONDS)
