"""What a space names outside itself: its trainer's part, its data, and where runs are tracked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tune_bn.errors import DataError, MethodError, RunnerError, TrackingError

if TYPE_CHECKING:
    from tune_bn.protocols.trainer import Door
    from tune_bn.space.space import Space
    from tune_bn.training.config import RunConfig


def check_surroundings(
    space: Space,
    remark: Callable[[str], None] | None = None,
    *,
    single: RunConfig | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Sequence[str]:
    """Check what the space names outside itself, its trainer's part and the tracking store, without starting anything.

    The door of every verb that trains or looks into a network: what one accepts, all accept.

    Args:
        space: what is asked.
        remark: told, in a line each, what is accepted but should be known.
        single: a run that is asked for by itself, and need not be one of the study's.
        meanwhile: begins what goes on by itself, once what is seen at once is good, and before what takes seconds.

    Returns:
        Remarks on the data, a line each.

    Raises:
        DataError: the data is missing or does not fit.
        MethodError: a network does not exist, cannot be treated as asked, or cannot be trained on the images.
        TrackingError: the tracking URI is not one that MLflow takes, or what is to be tracked cannot be.
    """
    return checked_door(space, remark or (lambda line: None), single, meanwhile)[1]


def checked_door(
    space: Space,
    remark: Callable[[str], None],
    single: RunConfig | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> tuple[Door, Sequence[str]]:
    """The door of the space's trainer, after :func:`check_surroundings`, and what that returns."""
    from tune_bn.observers.mlflow.system import check_system_metrics
    from tune_bn.observers.mlflow.uri import check_tracking_uri, named_uri
    from tune_bn.trainers.door import door_of

    if (tracked := named_uri(space.tracking.uri)) is not None:
        check_tracking_uri(tracked.uri, tracked.place)
    if space.tracking.system_metrics:
        for line in check_system_metrics(space.resources.gpu):
            remark(line)
    door = door_of(space, meanwhile)
    return door, door.check(remark, single=single)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Name the space file in errors about its keys: who finds a value wrong does not know where it was written."""
    try:
        yield
    except (DataError, MethodError, RunnerError, TrackingError) as error:
        if str(error).startswith(("model.", "data.", "train.", "resources.", "tracking.", "search.", "claim.")):
            raise type(error)(f"{source}: {error}{_module_beside(source, str(error))}") from None
        raise


def _module_beside(source: str, problem: str) -> str:
    """Where a module that was not found lies beside the space file: it is looked for in the current folder."""
    folder = Path(source.partition(" with ")[0]).parent
    found = re.search(r"there is no module (\w+)", problem)
    if found is None or folder.resolve() == Path.cwd():
        return ""
    names = [name for name in (f"{found[1]}.py", found[1]) if (folder / name).exists()]
    return (
        f"; {folder / names[0]} is one: type the line in that folder (cd {shlex.quote(str(folder))})" if names else ""
    )
