"""The verbs of a cluster's head: the services beside the studies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tune_bn.cli.common import app, say

if TYPE_CHECKING:
    from tune_bn.service.head import Head

head_app = typer.Typer(help="The services on the head of a cluster: MLflow behind a password, and its database.")
app.add_typer(head_app, name="head", no_args_is_help=True)

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        help="Folder of the services. Default: $TUNE_BN_HEAD_STATE, or tune_bn/head in $XDG_STATE_HOME.",
    ),
]


@head_app.command()
def start(
    state: StateOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; at first 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on; at first 5000.")] = None,
    artifacts: Annotated[
        str | None, typer.Option(help="URI below which artifacts lie, such as s3://…; at first a folder of --state.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="TUNE_BN_HEAD_STORE",
            help="URI of a database that is there already; at first a PostgreSQL in --state. One with a password "
            "belongs in the environment, where no list of processes shows it.",
        ),
    ] = None,
    allowed_hosts: Annotated[
        str | None, typer.Option(help="Host headers to answer to besides localhost, with commas between them.")
    ] = None,
) -> None:
    """Start what does not run, wait until MLflow answers, and say where it is. Options are kept for the next start."""
    names = None if allowed_hosts is None else tuple(name.strip() for name in allowed_hosts.split(",") if name.strip())
    _head(state).start(Path.home(), say, host=host, port=port, artifacts=artifacts, store=store, allowed_hosts=names)


@head_app.command()
def stop(state: StateOption = None) -> None:
    """Stop the services. What they keep stays."""
    say("stopped" if _head(state).stop() else "nothing runs")


@head_app.command()
def status(state: StateOption = None) -> None:
    """Say what runs, and where MLflow is; exits with 1 where nothing runs."""
    lines = _head(state).status()
    for line in lines or ["nothing runs"]:
        say(line)
    if not lines:
        raise typer.Exit(1)


@head_app.command()
def password(state: StateOption = None) -> None:
    """Give MLflow's administrator a new password, and this user's studies with it."""
    head = _head(state)
    head.change_password(Path.home())
    say(f"the new password is in {head.password_file}")


@head_app.command()
def ports(
    port: Annotated[list[int], typer.Argument(metavar="PORT...", min=1, max=65535, help="Ports of this machine.")],
    host: Annotated[str, typer.Option(help="Address that is to listen on them; 0.0.0.0 is any.")] = "0.0.0.0",
) -> None:
    """Say at once which ports are taken, and by whom, before `ray start` fails over one; exits with 2 then.

    The cluster files ask so: Ray itself needs a minute, and names no port.
    """
    from tune_bn.errors import ServiceError
    from tune_bn.host.ports import foreign, problem

    if reason := foreign(host):
        raise ServiceError(f"--host: {host!r} is {reason}; accepted: an address of this machine, 0.0.0.0 for any")
    # What `ray stop` ended may need a moment to let go.
    deadline = time.monotonic() + 3
    while taken := [f"{number} is {reason}" for number in dict.fromkeys(port) if (reason := problem(host, number))]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    if taken:
        raise ServiceError(
            f"PORT: {'; '.join(taken)}; accepted: free ports: end what holds them, or give `ray start` and this check "
            "others in the cluster file"
        )


def _head(state: Path | None) -> Head:
    from tune_bn.service.head import Head, default_state

    return Head(default_state() if state is None else state)
