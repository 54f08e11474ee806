"""The verbs beside studies: train one run, open the MLflow UI."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tune_bn.cli.common import (
    DEFAULT_SPACE,
    STUDIES,
    OutputOption,
    SetOption,
    SpaceOption,
    app,
    existing_study,
    say,
)
from tune_bn.errors import TrackingError
from tune_bn.front.surroundings import naming
from tune_bn.host.process import unread

UI_PORT = 5000


@app.command()
def train(
    space: SpaceOption = DEFAULT_SPACE,
    gamma: Annotated[float | None, typer.Option(help="Initial γ; default: the space's.")] = None,
    c: Annotated[float | None, typer.Option(help="Divisor of γ's learning rate; default: the space's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    set_: SetOption = None,
) -> None:
    """Train one run in this process and print its curve, on validation data. For debugging; nothing is recorded."""
    from tune_bn.cli.train import train_once
    from tune_bn.observers.console.observer import ConsoleObserver
    from tune_bn.space.loading import load_space, source_words
    from tune_bn.space.locate import find_space

    path = find_space(space)
    loaded = load_space(path, set_ or [])
    given = {key: value for key, value in (("gamma", gamma), ("c", c)) if value is not None}
    if seed in loaded.seeds.confirm:
        typer.echo(
            f"remark: {seed} is one of seeds.confirm, on which a study is to confirm what was chosen without it; to "
            "try things out, another --seed",
            err=True,
        )
    with naming(source_words(path, set_ or [])), ConsoleObserver() as console:
        for line in train_once(loaded, given, seed, console.decoding):
            say(line)
            # Nothing else comes of it.
            if unread():
                return


@app.command()
def ui(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="The study whose runs are shown; default: the last one.")
    ] = None,
    output: OutputOption = STUDIES,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port to listen on. Default: 5000, or the next one that is free."),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(help="Tracking store to show. Default: $MLFLOW_TRACKING_URI, else the one beside the studies."),
    ] = None,
    open_: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the page in a browser. Default: where there is a screen."),
    ] = None,
) -> None:
    """Open the MLflow UI on the runs of a study. Ends with Ctrl-C.

    Where a server tracks them, such as that of a cluster's head, say where its page is and how to log in.
    """
    from tune_bn.cli.open_page import can_open, open_later
    from tune_bn.host.ports import address_of, foreign, free_port, problem
    from tune_bn.observers.mlflow.compat import SERVER, apply
    from tune_bn.observers.mlflow.uri import (
        VARIABLE,
        NamedUri,
        check_tracking_uri,
        default_tracking_uri,
        for_mlflow,
        is_server,
        named_uri,
        shown,
    )

    named = named_uri(None) if uri is None else NamedUri(uri, "--uri")
    if named is None:
        elsewhere = _servers(output)
        if not (output / "mlflow.db").exists():
            for line in elsewhere:
                say(line)
            return
        for line in elsewhere:
            typer.echo(line, err=True)
        store = default_tracking_uri(output)
    else:
        check_tracking_uri(named.uri, named.place)
        store = for_mlflow(named.uri)
    if named is not None and is_server(store):
        say(
            f"{named.place}: the studies are tracked by the server {shown(store)}, which has its own page at that "
            "address"
        )
        return
    if reason := foreign(host):
        raise TrackingError(f"--host: {host!r} is {reason}; accepted: an address of this machine, such as 127.0.0.1")
    if port is None:
        port = free_port(host, UI_PORT)
        if port != UI_PORT:
            typer.echo(f"--port: {UI_PORT} is {problem(host, UI_PORT)}; {port} is free", err=True)
    address = address_of(host, port)
    if reason := problem(host, port):
        raise TrackingError(
            f"--port: {address} is {reason}; accepted: a free port, such as {free_port(host, port + 1)}"
        )
    # MLflow opens on its view of language-model traces; experiments with training runs are one page further.
    page = f"http://{address}/{_page(store, study, output)}"
    source = "" if named is None else f", named by {named.place},"
    typer.echo(f"MLflow UI of {shown(store)}{source} on {page} (Ctrl-C ends it)", err=True)
    artifacts = (output.absolute() / "mlartifacts").as_uri()
    apply(SERVER)
    # What its libraries say to its developers is nothing that who looks at runs can act on.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    # The server takes its store from its command line; a client's address would mean something else in it.
    os.environ.pop(VARIABLE, None)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--artifacts-destination", artifacts, "--workers", "1"]
    # A line for every request would bury the address.
    command += ["--uvicorn-opts", "--log-level warning"]
    if can_open() if open_ is None else open_:
        open_later(host, port, page)
    # uvicorn, which MLflow starts, looks for modules in the current folder first: there may be a numpy.py.
    os.chdir("/")
    os.execv(sys.executable, [*command, "--host", host, "--port", str(port)])


def _page(store: str, study: str | None, output: Path) -> str:
    """The page of a study's runs in a store; that of the experiments where no study is named and none is known.

    Raises:
        StudyError: there is no such study, or the store does not have it.
    """
    from tune_bn.errors import StudyError
    from tune_bn.observers.mlflow.compat import experiment_of
    from tune_bn.observers.mlflow.uri import shown, sqlite_path
    from tune_bn.observers.mlflow.view import page_of
    from tune_bn.records.identity import identity_of
    from tune_bn.study.folder import last_written, list_studies

    database = sqlite_path(store)
    if study is None:
        folders = sorted(list_studies(output), key=last_written, reverse=True)
    else:
        folders = [existing_study(study, output)]
    if database is None:
        return "#/experiments"
    for folder in folders:
        study_id = identity_of(folder.path).study_id
        if (found := experiment_of(database, study_id)) is not None:
            return page_of(found[0], study_id, saved=found[1])
    if study is not None:
        raise StudyError(
            f"STUDY: got {study}, of which {shown(store)} has no run; accepted: a study that was tracked there, or "
            "--uri of the store that has it"
        )
    return "#/experiments"


def _servers(output: Path) -> list[str]:
    """Where the pages of servers are that track studies of this machine: the head's, those that the studies name.

    Raises:
        TrackingError: there is none, and nothing else to show.
    """
    from tune_bn.errors import ServiceError, TuneBNError
    from tune_bn.observers.mlflow.uri import is_server, shown
    from tune_bn.service.head import Head, default_state, tunnel_to
    from tune_bn.service.neighbours import other_heads
    from tune_bn.study.folder import list_studies

    head, lines, nothing = Head(default_state()), list[str](), not (output / "mlflow.db").exists()
    found = f"--output: {output} has no mlflow.db"
    try:
        settings = head.settings()
    except ServiceError:
        settings = None
        if nothing and head.settings_file.exists():
            raise
    if settings is not None and head.supervisor.is_running():
        return ["the head's own server has its page at the address below", *head.directions(settings)]
    if settings is not None and nothing:
        # Whatever the studies name: it is that server which tracked them.
        raise TrackingError(
            f"{found}, and the head's MLflow does not run; accepted: tune_bn head start, which then says where it is, "
            "or --uri"
        )
    for other in other_heads():
        if other.mlflow is not None:
            lines.append(f"MLflow of the head that {other.user} keeps: {other.mlflow} on this machine")
            lines.append(f"from yours: {tunnel_to(other.mlflow)}, and then the same address")
            lines.append(f"user and password: {other.user} has them, or adds a user for you")
    uris = set[str]()
    for folder in list_studies(output):
        with suppress(TuneBNError):
            uri = folder.space().tracking.uri
            if uri is not None and is_server(uri):
                uris.add(shown(uri))
    named = [uri for uri in sorted(uris) if not any(uri in line for line in lines)]
    lines += [f"studies in {output} are tracked by the server {uri}, which has its own page there" for uri in named]
    if lines or not nothing:
        return lines
    raise TrackingError(f"{found}; accepted: a folder of studies that ran, or --uri")
