"""The command line. Verbs only; :mod:`tune_bn.front.wiring` puts the parts together.

Exit status: 0 done, 1 the verdict is invalid, 2 bad input, 3 not supported beside --require supported, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Annotated, Any, NoReturn

import typer
from typer.main import get_command

from tune_bn.cli import ask, check, doctor, head, inspect, paper, proof, statistics, studies, tools, verify
from tune_bn.cli.common import DEFAULT_SPACE, app
from tune_bn.errors import TuneBNError
from tune_bn.host.extras import missing_extra
from tune_bn.host.process import (
    exit_status,
    hear_of_limit_on_time,
    leave_first_process,
    let_signals_in,
    open_standard_streams,
    out_of_processes,
    settle_environment,
    without_empty_caches,
)
from tune_bn.host.version import __version__

__all__ = [
    "DEFAULT_SPACE",
    "app",
    "ask",
    "check",
    "doctor",
    "head",
    "inspect",
    "main",
    "paper",
    "proof",
    "statistics",
    "studies",
    "tools",
    "verify",
]


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


@cache
def _command() -> Any:
    """All verbs with their options, made once in a process of many calls: it takes longer than most verbs do."""
    return get_command(app)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: errors that tune_bn raises on purpose become one line and exit status 2."""
    let_signals_in()
    hear_of_limit_on_time()
    leave_first_process()
    open_standard_streams()
    sys.exit(exit_status(_run(arguments)))


def _run(arguments: list[str] | None) -> int:
    try:
        os.getcwd()
    except OSError as error:
        # Libraries that look for it end the process in words of their own.
        print(
            f"error: current folder: {error.strerror}; accepted: a folder that is there (cd into it)", file=sys.stderr
        )
        return 2
    settle_environment()
    try:
        with without_empty_caches():
            _command()(args=arguments, prog_name="tune_bn")
    except TuneBNError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        if (missing := missing_extra(error, "this verb")) is None:
            raise
        print(f"error: {missing}", file=sys.stderr)
        return 2
    except (RuntimeError, BlockingIOError) as error:
        if (said := out_of_processes(error)) is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        return 2
    except SystemExit as end:
        # Click ends without a word. Where a verb was told to stop it has said what that means.
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
