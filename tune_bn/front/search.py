"""``tune_bn search`` for Python: the whole way from a space file to a verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import Interrupted, SpecError, StudyError
from tune_bn.front.study import Study, open_study
from tune_bn.records.commands import IN_PROCESS

if TYPE_CHECKING:
    from tune_bn.observers.events import Event
    from tune_bn.space.space import Space
    from tune_bn.study.folder import StudyFolder

Overrides = Mapping[str, Any] | Iterable[str]


def search(
    space: str | PathLike[str] | Mapping[str, Any] | None = None,
    *,
    overrides: Overrides = (),
    study: str | None = None,
    output: str | PathLike[str] = "studies",
    address: str | None = None,
    local: bool = False,
    resume: bool = False,
    unchecked: bool = False,
    on_event: Callable[[Event], object] | None = None,
) -> Study:
    """Search, select, confirm, verify and report, as ``tune_bn search`` does; returns the study when it has a verdict.

    It works in a script and in a notebook, whose event loop it leaves alone. Progress is printed, or told to
    ``on_event``. In the main thread Ctrl-C, or a notebook's *interrupt*, stops the study cleanly; in another thread no
    signal is touched, and ``tune_bn stop STUDY`` does so. Finished runs are kept; ``resume=True`` goes on.

    Args:
        space: a path, a name such as ``digits.yaml`` of the spaces that the package brings, or the content of a space
            file as a mapping. None, beside ``resume``: the one that the study was begun with.
        overrides: other values for its keys, ``{"budget.trials": 8}``, or as on the command line,
            ``["budget.trials=8"]``.
        study: the name of the study; None: the space's name and a number.
        output: the folder of all studies.
        address: the Ray cluster to run on, ``"auto"`` or ``HOST[:PORT]``; None: this machine.
        local: without Ray: one run after the other in this process, for debugging and where no Ray starts.
        resume: go on with ``study``.
        unchecked: take a trainer of your own that ``tune_bn check`` has not passed; the report says so.
        on_event: called with an :class:`tune_bn.observers.events.Event` for each line of progress, such as ``print``.

    Raises:
        MissingExtra: torch, MLflow, or Ray where it is needed, is not installed.
        Interrupted: the study was stopped; the message says how to go on.
        TuneBNError: the space, the data or an argument is not acceptable; or the study cannot be run.
    """
    from tune_bn.host.extras import require

    if local and address is not None:
        raise StudyError(f"local: got True beside address={address!r}; accepted: one of the two")
    address = IN_PROCESS if local else address
    require("tune_bn.search", "train", *([] if local else ["ray"]), "mlflow")

    from tune_bn.host.process import settle_environment
    from tune_bn.study.folder import StudyFolder, new_study, require_writable

    settle_environment()
    folder_of_all = Path(fspath(output))
    going_on = _to_resume(study, folder_of_all) if resume else None
    loaded, source = _loaded(space, overrides, going_on)
    if loaded.trainer is not None and going_on is None:
        from tune_bn.front.checked import require_checked

        require_checked(loaded, source, folder_of_all, unchecked=unchecked)
    opening: Callable[[], StudyFolder]
    place: Path
    if going_on is not None:
        going_on.check_resume(loaded)
        opening, place = partial(going_on.resumed, loaded), going_on.path
    elif study is not None:
        from tune_bn.front.which_study import study_name

        folder = StudyFolder(folder_of_all / study_name(study, "study"))
        require_writable(folder_of_all)
        folder.check_new()
        opening, place = partial(folder.created, loaded), folder.path
    else:
        opening, place = lambda: new_study(folder_of_all, loaded.name).created(loaded), folder_of_all
    return _carried_out(opening, loaded, source, address, place, folder_of_all, going_on, on_event)


def begin_study(
    space: str | PathLike[str] | Mapping[str, Any],
    study: str,
    *,
    overrides: Overrides = (),
    output: str | PathLike[str] = "studies",
) -> Study:
    """Begin a study whose runs loops of your own ask for, or open it where it is there: ``trainer: {ask: true, …}``.

    Args:
        space: as for :func:`search`.
        study: its name.
        overrides: as for :func:`search`.
        output: the folder of all studies.

    Raises:
        TuneBNError: the space is not acceptable, or the study was begun with another one.
    """
    from tune_bn.front.which_study import study_name
    from tune_bn.study.folder import StudyFolder, require_writable
    from tune_bn.trainers.ask import ask_trainer

    loaded, source = _loaded(space, overrides, None)
    ask_trainer(loaded)
    folder = StudyFolder(Path(fspath(output)) / study_name(study, "study"))
    if not folder.exists:
        require_writable(Path(fspath(output)))
        try:
            return open_study(folder.created(loaded).path)
        except StudyError:
            # Another loop, which began it at the same moment.
            if not folder.exists:
                raise
    if folder.space().sha256 != loaded.sha256:
        raise StudyError(f"study: got {study!r}, which was begun with another space than {source}; accepted: its own")
    return open_study(folder.path)


def _carried_out(
    opening: Callable[[], StudyFolder],
    space: Space,
    source: str,
    address: str | None,
    place: Path,
    output: Path,
    going_on: StudyFolder | None,
    on_event: Callable[[Event], object] | None,
) -> Study:
    from rich.console import Console

    from tune_bn.front.carrying_out import carry_out
    from tune_bn.observers.console.observer import ConsoleObserver
    from tune_bn.observers.events import EventObserver

    begun: list[StudyFolder] = [] if going_on is None else [going_on]

    def open_folder() -> StudyFolder:
        begun.append(opening())
        if space.trainer is not None and going_on is None:
            from tune_bn.front.checked import keep_with_study

            keep_with_study(space, output, begun[-1])
        return begun[-1]

    if on_event is not None:
        console: ConsoleObserver = EventObserver(on_event)
    else:
        # Plain lines in a notebook: each of rich's would be a piece of HTML.
        console = ConsoleObserver(Console(force_terminal=sys.stdout.isatty(), force_jupyter=False, highlight=False))
    try:
        folder, _ = carry_out(
            open_folder,
            space,
            source,
            address,
            place,
            console=console,
            studies_dir=output if going_on is None else going_on.path.parent,
            going_on=going_on,
        )
    except Interrupted as error:
        if not begun:
            raise Interrupted(f"{error}; nothing was begun") from None
        name, kept = begun[-1].name, "nothing that finished is lost"
        where = "" if output == Path("studies") else f", output={str(output)!r}"
        where += ", local=True" if address == IN_PROCESS else ""
        raise Interrupted(f"{error}; {kept}. To go on: tune_bn.search(study={name!r}{where}, resume=True)") from None
    found = open_study(folder.path)
    if isinstance(console, EventObserver) and found.verdict is not None:
        console.concluded(str(found.verdict))
    return found


def _to_resume(study: str | None, output: Path) -> StudyFolder:
    from tune_bn.front.which_study import existing_study

    if study is None:
        raise StudyError("study: missing beside resume=True; accepted: the name of the study to go on with")
    return existing_study(study, output, "study")


def _loaded(space: Any, overrides: Overrides, going_on: StudyFolder | None) -> tuple[Space, str]:
    """The space with its overrides, and what errors about it call it."""
    from tune_bn.space.loading import load_space, parse_space, source_words, with_override
    from tune_bn.space.locate import find_space

    settings = _settings(overrides)
    if isinstance(space, Mapping):
        content: Any = json.loads(json.dumps(dict(space), default=_plain))
        for setting in settings:
            content = with_override(content, setting)
        return parse_space(content, "space"), "space"
    if space is None:
        if going_on is None:
            raise SpecError("space: missing; accepted: a path, a name such as 'digits.yaml', or a mapping")
        path = going_on.space_file
    else:
        path = find_space(fspath(space))
    return load_space(path, settings), source_words(path, settings)


def _settings(overrides: Overrides) -> Sequence[str]:
    if isinstance(overrides, str):
        raise SpecError(f"overrides: got {overrides!r}; accepted: a mapping, or a list of KEY=VALUE")
    if not isinstance(overrides, Mapping):
        return list(overrides)
    settings = []
    for key, value in overrides.items():
        try:
            # JSON is YAML, as the space file is read.
            settings.append(f"{key}={json.dumps(value, ensure_ascii=False, default=_plain)}")
        except (TypeError, ValueError) as error:
            raise SpecError(f"overrides: {key}: got {value!r} ({error}); accepted: what a space file holds") from None
    return settings


def _plain(value: Any) -> Any:
    """Numbers of numpy and paths as a space file has them."""
    if callable(item := getattr(value, "item", None)):
        return item()
    if isinstance(value, PathLike):
        return fspath(value)
    raise TypeError(f"{type(value).__name__} is no value of a space file")
