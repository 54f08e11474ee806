"""A study from the checks at the door to its verdict: what :func:`tune_bn.search` shares with the verbs that train."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import Interrupted, StudyError
from tune_bn.front.runners import Runners
from tune_bn.front.surroundings import check_surroundings, naming
from tune_bn.host.process import sign_of_life, without_empty_caches
from tune_bn.protocols.stop_request import INTERRUPTED, StopRequest
from tune_bn.records.commands import IN_PROCESS, search_command
from tune_bn.study.driver import JOB_VARIABLE, DriverState, raised_limits, read_driver_state, used_up
from tune_bn.study.folder import StudyFolder, require_writable

if TYPE_CHECKING:
    from tune_bn.observers.console.observer import ConsoleObserver
    from tune_bn.records.verdict import Verdict
    from tune_bn.space.space import Space


def carry_out(
    open_folder: Callable[[], StudyFolder],
    space: Space,
    source: str,
    address: str | None,
    place: Path,
    *,
    studies_dir: Path | None = None,
    going_on: StudyFolder | None = None,
    console: ConsoleObserver | None = None,
    ray_init: Mapping[str, Any] | None = None,
    **stages: Any,
) -> tuple[StudyFolder, Verdict]:
    """Check at the door and run: the study's folder and its verdict.

    Args:
        open_folder: makes or opens the study's folder, once all is known to be good.
        space: what is asked.
        source: what errors call the space.
        address: see :class:`tune_bn.front.runners.Runners`, and there ``ray_init``.
        place: the study's folder, or where it will be made.
        studies_dir: the folder of all studies; None: what ``place`` says.
        going_on: the study that is gone on with; one that is finished is told so, and runs nothing.
        console: who is told of progress; None: lines on standard output.
        stages: further arguments of :func:`tune_bn.front.wiring.run_study`.

    Raises:
        Interrupted: it was told to stop, for the reason that it gives; what had finished is kept.
        TuneBNError: the study cannot be run.
    """
    from tune_bn.host.extras import require

    require("a study", "train", *([] if address == IN_PROCESS else ["ray"]), "mlflow")

    from tune_bn.observers.mlflow.uri import check_store

    if going_on is not None:
        if (known := finished(going_on)) is not None:
            return going_on, known
        require_budget(going_on, space)
        if not os.environ.get(JOB_VARIABLE):
            going_on.forget_stop()
    begun: list[StudyFolder] = []

    def opening() -> StudyFolder:
        begun.append(open_folder())
        return begun[-1]

    stop = StopRequest()
    try:
        with stop.on_signals(), without_empty_caches():
            require_writable(place)
            sign_of_life(f"{source}: looking at data, networks, and where runs are tracked …")
            from tune_bn.observers.console.observer import ConsoleObserver

            with naming(source), console or ConsoleObserver() as told:
                check_store(space.tracking.uri, studies_dir or (place.parent if StudyFolder(place).exists else place))
                runners = Runners(space, address, told, ray_init)
                try:
                    remarks: list[str] = []

                    def begin() -> None:
                        runners.begin()
                        # Ray has taken signals for itself.
                        stop.listen()
                        stop.check()

                    # A study that goes on is first compared with what it began with.
                    meanwhile = begin if going_on is None else None
                    for remark in check_surroundings(space, remarks.append, meanwhile=meanwhile):
                        print(f"data  {remark}", file=sys.stderr, flush=True)

                    from tune_bn.front.wiring import run_study

                    stages |= {"going_on": going_on, "remarks": remarks, "stop": stop}
                    verdict = run_study(opening, space, runners=runners, console=told, **stages)
                finally:
                    runners.leave()
    except (Interrupted, KeyboardInterrupt) as error:
        raise Interrupted(stop.reason or str(error) or INTERRUPTED) from None
    return begun[-1], verdict


def finished(folder: StudyFolder) -> Verdict | None:
    """The verdict of a study that has nothing left to run, which is said; None where it goes on."""
    from tune_bn.study.done import final_verdict

    if folder.is_locked or (verdict := final_verdict(folder)) is None:
        return None
    print(f"{folder.name} is finished: nothing is left to run", flush=True)
    return verdict


def require_budget(folder: StudyFolder, space: Space) -> None:
    """Refuse to go on with a study whose driver would stop at once, before anything is started for it."""
    state = read_driver_state(folder) or DriverState()
    if reason := used_up(state, space.budget, space.resources):
        options = raised_limits(state, space.budget, space.resources)
        raise StudyError(f"{folder.name}: {reason}; accepted: more, as in {search_command(folder.path, *options)}")
