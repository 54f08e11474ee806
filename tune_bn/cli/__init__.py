"""The command line. Verbs only; :mod:`tune_bn.wiring` puts the parts together.

Exit status: 0 done, 1 the verdict is invalid, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from tune_bn import __version__
from tune_bn.cli import head, inspect, paper, statistics, studies, tools, verify
from tune_bn.cli.common import DEFAULT_SPACE, app
from tune_bn.errors import TuneBNError
from tune_bn.stop_request import unblock_signals

__all__ = ["DEFAULT_SPACE", "app", "head", "inspect", "main", "paper", "statistics", "studies", "tools", "verify"]

SILENCE = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""For Ray, MLflow and the processes that they start: nobody is told that, and how, they are used."""


def _version(value: bool) -> None:
    if value:
        typer.echo(f"tune_bn {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See the application's help."""


def _open_standard_streams() -> None:
    """Where a stream was closed, as some job starters do, the next file that is opened would be taken for it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, os.O_RDWR)
            if file != number:
                os.dup2(file, number)
                os.close(file)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: errors that tune_bn raises on purpose become one line and exit status 2."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # γ and ± are no reason to end with a traceback on a terminal that lacks them.
            stream.reconfigure(errors="backslashreplace")
    try:
        os.getcwd()
    except OSError as error:
        # Libraries that look for it end the process in words of their own.
        print(
            f"error: current folder: {error.strerror}; accepted: a folder that is there (cd into it)", file=sys.stderr
        )
        sys.exit(2)
    unblock_signals()
    for name, value in SILENCE.items():
        os.environ.setdefault(name, value)
    try:
        app(args=arguments, prog_name="tune_bn")
    except TuneBNError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
