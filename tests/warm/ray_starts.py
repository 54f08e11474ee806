"""How a Ray of the tests gets its processes from the warm server: its workers, and the two agents of each node."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

JOB = "ffffffff"
"""No job: workers that Ray starts before anybody asks for them have this, and learn whose they are by their first task.

Ray reads it when it is loaded, so one name must do for all."""


def patch(stand_in: str) -> None:
    """Let every Ray that this process starts have its workers and agents forked by the server of ``stand_in``."""
    from ray._private import services

    start_raylet = services.start_raylet
    python = services._build_python_executable_command_memory_profileable

    def agent(component: str, *given: Any, **named: Any) -> list[str]:
        return [sys.executable, "-S", "-E", stand_in]

    def warm(*given: Any, **named: Any) -> Any:
        # What sets a worker up, in Ray, is a script of its own, which then becomes the worker.
        (set_up,) = [value for value in given if isinstance(value, str) and value.endswith("setup_worker.py")]
        services._build_python_executable_command_memory_profileable = agent
        try:
            return start_raylet(*(stand_in if value == set_up else value for value in given), **named)
        finally:
            services._build_python_executable_command_memory_profileable = python

    services.start_raylet = warm


@contextlib.contextmanager
def own_chance() -> Iterator[None]:
    """Load modules of Ray without a draw from its generator of random names, which all that is forked would share.

    It takes its state from the system when it is first asked, in each process for itself unless that was before the
    fork. Two workers that draw the same name for an object end each other.
    """
    import ray.actor

    drawn = ray.actor.ActorClassID

    class FromTheSystem:
        @staticmethod
        def from_random() -> Any:
            return drawn(os.urandom(drawn.size()))

    ray.actor.ActorClassID = FromTheSystem  # type: ignore[misc]
    try:
        yield
    finally:
        ray.actor.ActorClassID = drawn  # type: ignore[misc]


def set_up(arguments: list[str]) -> list[str]:
    """In the forked process, what Ray does before it runs the script: the runtime environment, and its arguments."""
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.utils import update_envs

    if not arguments[0].endswith("default_worker.py"):
        # An agent ends with its parent, by whom it was started.
        os.environ["RAY_RAYLET_PID"] = str(os.getppid())
        return arguments
    rest = []
    for argument in arguments:
        if argument.startswith("--serialized-runtime-env-context="):
            context = RuntimeEnvContext.deserialize(argument.partition("=")[2])
            update_envs(context.env_vars)
        elif not argument.startswith("--language="):
            rest.append(argument)
    return rest
