"""The verbs beside studies: train one run, open the MLflow UI."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from tune_bn.cli.common import DEFAULT_SPACE, STUDIES, OutputOption, SetOption, SpaceOption, app, naming, say
from tune_bn.errors import TrackingError
from tune_bn.process import unread


@app.command()
def train(
    space: SpaceOption = DEFAULT_SPACE,
    gamma: Annotated[float | None, typer.Option(help="Initial γ; default: the space's.")] = None,
    c: Annotated[float | None, typer.Option(help="Divisor of γ's learning rate; default: the space's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    set_: SetOption = None,
) -> None:
    """Train one run in this process and print its curve, on validation data. For debugging; nothing is recorded."""
    from tune_bn.console.observer import ConsoleObserver
    from tune_bn.spaces import find_space
    from tune_bn.spec import load_space, source_words
    from tune_bn.train_command import train_once

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
    output: OutputOption = STUDIES,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    uri: Annotated[
        str | None,
        typer.Option(help="Tracking store to show. Default: $MLFLOW_TRACKING_URI, else the one beside the studies."),
    ] = None,
) -> None:
    """Open the MLflow UI on the store of the studies. Ends with Ctrl-C."""
    from tune_bn.tracking.mlflow_uri import (
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
        if not (output / "mlflow.db").exists():
            raise TrackingError(
                f"--output: {output} has no mlflow.db; accepted: a folder of studies that ran, or --uri"
            )
        store = default_tracking_uri(output)
    else:
        check_tracking_uri(named.uri, named.place)
        store = for_mlflow(named.uri)
    if named is not None and named.place == VARIABLE and is_server(store):
        say(f"{VARIABLE}: the studies are tracked by the server {shown(store)}, which has its own page at that address")
        return
    # MLflow opens on its view of language-model traces; experiments with training runs are one page further.
    page = f"http://{host}:{port}/#/experiments"
    source = "" if named is None else f", named by {named.place},"
    typer.echo(f"MLflow UI of {shown(store)}{source} on {page} (Ctrl-C ends it)", err=True)
    artifacts = (output.absolute() / "mlartifacts").as_uri()
    # Its job service would start a pool of processes that nothing here uses.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # The server takes its store from its command line; a client's address would mean something else in it.
    os.environ.pop(VARIABLE, None)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--artifacts-destination", artifacts, "--workers", "1"]
    # uvicorn, which MLflow starts, looks for modules in the current folder first: there may be a numpy.py.
    os.chdir("/")
    os.execv(sys.executable, [*command, "--host", host, "--port", str(port)])
