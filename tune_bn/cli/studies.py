"""The verbs of a study: validate, search, confirm, report, status."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tune_bn.cli.common import (
    DEFAULT_SPACE,
    STUDIES,
    AddressOption,
    JsonOption,
    LocalOption,
    OutputOption,
    RequireOption,
    SetOption,
    SpaceOption,
    StudyArgument,
    app,
    existing_study,
    latest_study,
    place_of,
    resume_line,
    run,
    say,
    say_words,
    shown,
    study_name,
)
from tune_bn.cli.jobs import carry_out_as_job, setting_for_job
from tune_bn.errors import StudyError
from tune_bn.front.surroundings import naming
from tune_bn.host.process import is_suspended, sign_of_life, unread
from tune_bn.records.commands import study_command
from tune_bn.study.folder import StudyFolder, closed_studies, list_studies, new_study, require_writable


@app.command()
def validate(
    space: SpaceOption = DEFAULT_SPACE,
    set_: SetOption = None,
    trials: Annotated[int | None, typer.Option(help="As for search: short for --set budget.trials=N.")] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Read every image as well; say which cannot be used or occur twice.")
    ] = False,
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Time a few training steps on this machine. Default: where that takes less than ten seconds, and no "
            "study in --output says how long such runs take.",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = STUDIES,
) -> None:
    """Check a space file and its data; say what a search would cost. Starts nothing.

    How long runs take is known from studies in --output whose runs cost the same,
    else from a few steps that are timed here, else guessed. With --data every image
    that the space uses is decoded, as a search does before it starts, and kept for
    that search in the cache of decoded images.
    """
    from tune_bn.cli.validate import describe, describe_images
    from tune_bn.observers.console.observer import ConsoleObserver
    from tune_bn.space.loading import load_space, source_words
    from tune_bn.space.locate import find_space

    path = find_space(space)
    overrides = [*(set_ or []), *([] if trials is None else [f"budget.trials={trials}"])]
    loaded = load_space(path, overrides)
    sign_of_life(f"{path}: looking at the data, trying the networks, timing a few steps …")
    with naming(source_words(path, overrides)):
        images: list[str] = []
        if data:
            # First: the door stops at what it sees in passing, and here every image that cannot be used is to be named.
            with ConsoleObserver() as console:
                images.append(describe_images(loaded, console.decoding))
        say_words("\n".join([describe(loaded, path, output=output, measure=measure, read=data), *images]), 11)


@app.command()
def search(
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            help="Space file: a path, or a name in search_spaces/ or in the package. Default: digits.yaml; with "
            "--resume the study's own.",
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Trials of the search; short for --set budget.trials=N.")] = None,
    set_: SetOption = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study. Default: the space's name and a number.")
    ] = None,
    output: OutputOption = STUDIES,
    address: AddressOption = None,
    local: LocalOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that was interrupted.")] = False,
    job: Annotated[
        bool,
        typer.Option("--job", help="On the head of a cluster: run as a Ray job, which outlives this connection."),
    ] = False,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(metavar="STUDY", help="Begin with the best of another study's search; may be given again."),
    ] = None,
    require: RequireOption = None,
    unchecked: Annotated[
        bool,
        typer.Option("--unchecked", help="Take a trainer of your own that `tune_bn check` has not passed; it is told."),
    ] = False,
) -> None:
    """Search, select, confirm, verify and report: the whole way from a space file to a verdict.

    --warm-start takes a name in --output or a folder. At most 5 configurations of
    each study become the first start points, as far as they lie in this space:
    first those that its selection kept longest, by their mean over the selection
    seeds, then others that ran to their end, by their mean over the search seeds.
    The new study's space.yaml keeps them: a resume needs no other study. It
    confirms on fresh seeds: none that such a study searched, selected or confirms on.
    """
    from tune_bn.space.loading import load_space, source_words
    from tune_bn.space.locate import find_space
    from tune_bn.study.done import final_verdict
    from tune_bn.study.known_seeds import remark
    from tune_bn.study.warm_start import warm_started

    address = place_of(local, address, job)
    overrides = [*(set_ or []), *([] if trials is None else [f"budget.trials={trials}"])]
    known: StudyFolder | None = None
    if resume and space is None:
        known = existing_study(study, output) if study is not None else latest_study(output, None)
    path = find_space(space or DEFAULT_SPACE) if known is None else known.space_file
    loaded, source = load_space(path, overrides), source_words(path, overrides)
    if job and (tracked := setting_for_job(loaded.tracking.uri)):
        loaded = load_space(path, [*overrides, tracked])
    told: list[str] = []
    if loaded.trainer is not None and not resume:
        from tune_bn.front.checked import require_checked

        if remarked := require_checked(loaded, source, output, unchecked=unchecked):
            told.append(remarked)
    if warm_start:
        if resume:
            raise StudyError(
                f"--warm-start: got {warm_start[0]!r} beside --resume; accepted: --resume alone; the study's own "
                "space.yaml holds the start points"
            )
        others = [existing_study(name, output, "--warm-start") for name in warm_start]
        loaded, warm = warm_started(loaded, source, others)
        told += warm

    opening: Callable[[], StudyFolder]
    going_on: StudyFolder | None = None

    def beginning(folder: StudyFolder) -> StudyFolder:
        folder.created(loaded)
        if loaded.trainer is not None:
            from tune_bn.front.checked import keep_with_study

            keep_with_study(loaded, output, folder)
        used = remark(loaded, list_studies(output))
        for line in [*told, *([used] if used else [])]:
            typer.echo(line, err=True)
        return folder

    if job and address not in (None, "auto"):
        raise StudyError(f"--address: got {address!r} beside --job; accepted: auto, on the head of the cluster")
    if resume:
        folder = known or (existing_study(study, output) if study is not None else latest_study(output, loaded.name))
        folder.check_resume(loaded)
        if study is None:
            of = "that space" if known is None else "all"
            typer.echo(f"goes on with {folder.name}, the newest of {of}", err=True)
        opening, place, going_on = partial(folder.resumed, loaded), folder.path, folder
    elif study is not None:
        folder = StudyFolder(output / study_name(study))
        require_writable(output)
        folder.check_new()
        opening, place = partial(beginning, folder), folder.path
    else:
        opening, place = lambda: beginning(new_study(output, loaded.name)), output
    if job and (going_on is None or final_verdict(going_on) is None):
        require_writable(place)
        if going_on is not None:
            from tune_bn.front.carrying_out import require_budget

            require_budget(going_on, loaded)
        carry_out_as_job(opening, loaded, source, going_on, require)
    else:
        # A named study of this moment has no folder yet, so its place does not tell where its store will be.
        studies_dir = output if going_on is None else going_on.path.parent
        run(opening, loaded, source, address, place, going_on=going_on, studies_dir=studies_dir, require=require)


@app.command()
def confirm(
    study: StudyArgument,
    set_: SetOption = None,
    output: OutputOption = STUDIES,
    address: AddressOption = None,
    local: LocalOption = False,
    require: RequireOption = None,
) -> None:
    """Select and confirm with the trials that the search has so far, then verify and report.

    --set takes keys of budget, resources and tracking, on which no result depends. A study that has its plan confirms
    on the seeds of the plan and on no others. More seeds are a new study, which begins with the best of this one:
    search --space SPACE --warm-start STUDY --set 'seeds.confirm={from: 16, to: 45}'.
    """
    from tune_bn.space.loading import load_space, source_words

    folder = existing_study(study, output)
    settings = set_ or []
    space, source = load_space(folder.space_file, settings), source_words(folder.space_file, settings)
    folder.check_resume(space, "STUDY")
    if folder.is_locked:
        raise StudyError(
            f"STUDY: got {folder.name}, which a driver works on, and it selects and confirms by itself; accepted: a "
            f"study that does not run, after {study_command('stop', folder.path)}"
        )

    from tune_bn.study.study import Study

    stages = {"going_on": folder, "stages": Study.confirm}
    place = place_of(local, address)
    opening = partial(folder.resumed, space) if settings else lambda: folder
    run(opening, space, source, place, folder.path, require=require, **stages)


@app.command()
def report(study: StudyArgument, output: OutputOption = STUDIES) -> None:
    """Write report.md, report.html and the plots again, from the study's folder."""
    from tune_bn.report import write_report

    for path in write_report(existing_study(study, output).path):
        say(shown(path))


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="One study; default: all.")] = None,
    output: OutputOption = STUDIES,
    watch: Annotated[bool, typer.Option("--watch", help="Keep the view up to date, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the studies: state, progress, best so far, device-hours, cost, time left, verdict.

    Device-hours are those for which runs held GPUs, or CPU cores where they have no
    GPU, failed attempts included. The cost is an estimate from
    resources.price_per_device_hour of the space file. On the head of a cluster,
    without --output, the studies of its other users follow, as far as you may read
    them; their names are paths that the other verbs take.
    """
    from tune_bn.cli.status import View, table
    from tune_bn.cli.status import watch as keep_watching

    if watch and as_json:
        raise StudyError("--watch: got it beside --json; accepted: one of the two")

    def look() -> View:
        if study is not None:
            return View([existing_study(study, output)])
        if everybody:
            found = studies_of_everybody(output)
            return View(found.folders, found.names, found.remark)
        return View(list_studies(output), remark=closed_words(closed_studies(output)))

    from tune_bn.service.neighbours import closed_words, on_a_head, studies_of_everybody

    everybody = study is None and output == STUDIES and on_a_head()
    if watch:
        with suppress(KeyboardInterrupt):
            keep_watching(look, output)
        return
    view = look()
    rows = view.rows()
    if as_json:
        say(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        say(table([view.named(row) for row in rows], output))
    if view.remark:
        typer.echo(view.remark, err=True)


@app.command("watch")
def watch_study(study: StudyArgument, output: OutputOption = STUDIES) -> None:
    """Watch one study on one screen: its trials as they learn, the landscape, the race, the pairs and their looks.

    It reads the study's files alone: beside a running study, over ssh, or long
    afterwards. Into a pipe or a file it prints the screen once. Ctrl-C ends it, and
    nothing of the study.
    """
    from tune_bn.cli.watch import watch

    with suppress(KeyboardInterrupt):
        watch(lambda: existing_study(study, output))


@app.command()
def logs(
    study: StudyArgument,
    output: OutputOption = STUDIES,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the study runs, until Ctrl-C.")] = False,
) -> None:
    """Print what the drivers of a study told, with the times (UTC)."""
    folder = existing_study(study, output)
    with suppress(KeyboardInterrupt):
        for line in folder.log_lines(follow=follow):
            say(line)
            if unread():
                return


@app.command()
def stop(
    study: StudyArgument,
    output: OutputOption = STUDIES,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the driver to end.")] = 120,
) -> None:
    """Stop a running study cleanly, wherever its driver runs. What had finished is kept; --resume goes on.

    A study that ran as a job and whose driver was killed, or has not begun yet, is
    told to stop too: no driver of it begins again until somebody resumes it.
    """
    from tune_bn.service.jobs import at_work, may_begin_again
    from tune_bn.study.driver import FINISHED, STOPPED, WORKING, read_driver_state

    folder = existing_study(study, output)
    expected = may_begin_again(folder)
    folder.request_stop(expected=expected)
    begins = at_work(folder) if expected else lambda: False
    deadline = time.monotonic() + timeout
    while folder.is_locked or begins():
        driver = read_driver_state(folder)
        if driver is not None and driver.host == socket.gethostname() and is_suspended(driver.pid):
            raise StudyError(
                f"{folder.name}: its driver was told to stop, but is suspended (as by Ctrl-Z), and stops once it goes "
                f"on; accepted: fg in its shell, or kill -CONT {driver.pid}"
            )
        if time.monotonic() > deadline:
            names = study_command("status", folder.path, "--json")
            raise StudyError(
                f"{folder.name}: its driver was told to stop and has not ended after {timeout:g} s; accepted: more "
                f"patience (--timeout), or the end of its driver, which is shown by {names}"
            )
        time.sleep(0.2)
    to_go_on = resume_line(folder.path, None)
    if folder.stop_file.exists() and may_begin_again(folder):
        say(f"{folder.name} does not run, and no driver of it begins again by itself. To go on: {to_go_on}")
        return
    state = read_driver_state(folder)
    outcome = WORKING if state is None else state.state
    if outcome == FINISHED:
        say(f"{folder.name} came to its end before it could be stopped")
    elif outcome == STOPPED:
        say(f"{folder.name} stopped. To go on: {to_go_on}")
    elif state is not None and state.ended and outcome == WORKING:
        say(f"{folder.name} stopped: its driver was killed while it ended. To go on: {to_go_on}")
    else:
        if outcome == WORKING and (problem := folder.writing_problem()):
            raise StudyError(
                f"{folder.name}: its driver has ended, and could not write how ({problem}); what finished is kept; "
                f"accepted: a disk with room, then {to_go_on}"
            )
        how = "was killed" if outcome == WORKING else f"ended by itself ({outcome})"
        raise StudyError(
            f"{folder.name}: its driver {how} before it could be stopped; "
            f"{study_command('logs', folder.path)} says more; "
            f"accepted: {to_go_on}"
        )


@app.command()
def export(
    study: StudyArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, .csv or .parquet.")],
    output: OutputOption = STUDIES,
) -> None:
    """Write the records of a study as a table: one row per run, columns such as config.gamma, scores.val_accuracy."""
    from tune_bn.records.table import write_table

    count = write_table(existing_study(study, output).records.read(), file)
    say(f"{count} runs written to {file}")
