"""What must be as it was where a study goes on: its data, and from the plan on everything that decides a score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tune_bn.analysis.plan import read_plan
from tune_bn.errors import StudyError, listed
from tune_bn.records.files import read_bytes, write_json, writing
from tune_bn.records.provenance import CLASSES, data_changes
from tune_bn.records.record import FAILED
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder


def require_same(
    folder: StudyFolder,
    space: Space,
    *,
    data: Mapping[str, Any],
    classes: Sequence[str] = (),
    versions: Mapping[str, str],
    commit: str | None,
) -> None:
    """Refuse to go on with a study under circumstances that its runs would not share. Reads the folder alone.

    Args:
        folder: the study, perhaps without any run.
        space: as it would go on.
        data: the identity of the data as it is now; empty: nothing is known of it.
        classes: the names of its classes.
        versions: of code and libraries as they are now.
        commit: of the code as it is now.

    Raises:
        StudyError: the data changed; or a plan is locked, and code, libraries or the kind of device are others.
        RecordError: plan or records cannot be read.
    """
    _require_same_data(folder, space, data, classes)
    if folder.plan_file.exists():
        plan = read_plan(folder.plan_file)
        require_same_code(folder, plan, versions, commit)
        _require_same_device(folder, space, plan)


def device_kind(space: Space) -> str:
    """What a plan calls the kind of device that the runs of a space are given: ``cpu`` or ``gpu``."""
    return "gpu" if space.resources.gpu else "cpu"


def remember_data(folder: StudyFolder, data: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Write ``data.json`` where there is none: which data the study began with, its test images included."""
    if data and not folder.data_file.exists():
        with writing(folder.data_file):
            write_json(folder.data_file, {"data": dict(data), "class_names": list(classes)})


def _require_same_data(folder: StudyFolder, space: Space, data: Mapping[str, Any], classes: Sequence[str]) -> None:
    noted = _noted(folder)
    told: list[Mapping[str, Any]] = [noted["data"]] if isinstance(noted.get("data"), Mapping) else []
    if folder.plan_file.exists():
        told.append(read_plan(folder.plan_file).get("data", {}))
    told += [record.data for record in folder.records.read() if record.status != FAILED and record.data]
    before = next((one for one in told if data_changes(one, data)), None)
    if before is None:
        return
    changes = data_changes(before, data)
    names = noted.get("class_names")
    if CLASSES in before and before[CLASSES] != data.get(CLASSES) and isinstance(names, list):
        gone, new = ([one for one in here if one not in there] for here, there in ((names, classes), (classes, names)))
        changes.append(f"classes gone: {listed(gone) or 'none'}; new: {listed(new) or 'none'}")
    root = f"data.root: {space.data.root}" if space.data.root is not None else f"data.source: {space.data.source}"
    raise StudyError(
        f"{folder.path}: the data is not what this study began with: {'; '.join(changes)}; accepted: that data at "
        f"{root}, or a new study"
    )


def _noted(folder: StudyFolder) -> dict[str, Any]:
    """What ``data.json`` says; nothing where it is missing or spoilt, since the records tell too."""
    try:
        found = json.loads(read_bytes(folder.data_file))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def require_same_code(
    folder: StudyFolder, plan: Mapping[str, Any], versions: Mapping[str, str], commit: str | None
) -> None:
    """Arms that ran under different code cannot be paired, so nothing is spent on a confirmation that would mix."""
    now = dict(versions) | {"commit": commit or "none"}
    then = dict(plan["versions"]) | {"commit": plan["commit"] or "none"}
    changed = [
        f"{key} {then.get(key)} (now {now.get(key)})" for key in sorted(now | then) if now.get(key) != then.get(key)
    ]
    if changed:
        raise StudyError(
            f"{folder.plan_file}: it was locked under {', '.join(changed)}; accepted: the same code and "
            "libraries, or a new study"
        )


def _require_same_device(folder: StudyFolder, space: Space, plan: Mapping[str, Any]) -> None:
    locked = plan.get("device_kind", device_kind(space))
    if locked != device_kind(space):
        accepted = "0" if locked == "cpu" else "more than 0"
        raise StudyError(
            f"resources.gpu: got {space.resources.gpu:g}, but {folder.plan_file} was locked for runs on a "
            f"{locked.upper()}, and the runs of a pair must be alike; accepted: {accepted}, or a new study"
        )
