"""What must be as it was where a study goes on: its data, and from the plan on everything that decides a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tune_bn.analysis.plan import read_plan
from tune_bn.errors import StudyError, listed
from tune_bn.protocols.trainer import Trainer, data_remarks_of
from tune_bn.records.data_file import REMARKS, read_data_file
from tune_bn.records.files import write_json, writing
from tune_bn.records.plan import Plan
from tune_bn.records.provenance import data_changes
from tune_bn.records.record import FAILED
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder


def require_same(
    folder: StudyFolder,
    space: Space,
    trainer: Trainer,
    *,
    commit: str | None,
) -> None:
    """Refuse to go on with a study under circumstances that its runs would not share. Reads the folder alone.

    Args:
        folder: the study, perhaps without any run.
        space: as it would go on.
        trainer: knows data, code and libraries as they are now.
        commit: of the code as it is now.

    Raises:
        StudyError: the data changed; or a plan is locked, and code, libraries or the kind of device are others.
        RecordError: plan or records cannot be read.
    """
    _require_same_data(folder, trainer)
    if folder.plan_file.exists():
        plan = read_plan(folder.plan_file)
        require_same_code(folder, plan, trainer.versions(), commit)
        _require_same_device(folder, space, plan)


def device_kind(space: Space) -> str:
    """What a plan calls the kind of device that the runs of a space are given: ``cpu`` or ``gpu``."""
    return "gpu" if space.resources.gpu else "cpu"


def remember_data(folder: StudyFolder, trainer: Trainer) -> None:
    """Write ``data.json`` where there is none: which data the study began with, that of the test included."""
    if trainer.data and not folder.data_file.exists():
        names = {f"{_NAMES_OF.get(key, key)}_names": list(names) for key, names in trainer.data_names.items()}
        remarks = {REMARKS: list(found)} if (found := data_remarks_of(trainer)) else {}
        with writing(folder.data_file):
            write_json(folder.data_file, {"data": dict(trainer.data), **names, **remarks})


_NAMES_OF = {"classes": "class"}


def _require_same_data(folder: StudyFolder, trainer: Trainer) -> None:
    noted, data = read_data_file(folder.path), trainer.data
    told: list[Mapping[str, Any]] = [noted["data"]] if isinstance(noted.get("data"), Mapping) else []
    if folder.plan_file.exists():
        told.append(read_plan(folder.plan_file).data or {})
    told += [record.data for record in folder.records.read() if record.status != FAILED and record.data]
    before = next((one for one in told if data_changes(one, data)), None)
    if before is None:
        return
    changes = data_changes(before, data)
    for key, now in trainer.data_names.items():
        then = noted.get(f"{_NAMES_OF.get(key, key)}_names")
        if key in before and before[key] != data.get(key) and isinstance(then, list):
            gone, new = ([one for one in here if one not in there] for here, there in ((then, now), (now, then)))
            changes.append(f"{key} gone: {listed(gone) or 'none'}; new: {listed(new) or 'none'}")
    raise StudyError(
        f"{folder.path}: the data is not what this study began with: {'; '.join(changes)}; accepted: that data at "
        f"{trainer.data_words}, or a new study"
    )


def code_changes(plan: Plan, versions: Mapping[str, str], commit: str | None) -> list[str]:
    """What of code and libraries is other than when a plan was locked: then, and now."""
    now = dict(versions) | {"commit": commit or "none"}
    then = dict(plan.versions) | {"commit": plan.commit or "none"}
    return [
        f"{key} {then.get(key)} (now {now.get(key)})" for key in sorted(now | then) if now.get(key) != then.get(key)
    ]


def require_same_code(folder: StudyFolder, plan: Plan, versions: Mapping[str, str], commit: str | None) -> None:
    """Arms that ran under different code cannot be paired, so nothing is spent on a confirmation that would mix."""
    changed = code_changes(plan, versions, commit)
    if changed:
        raise StudyError(
            f"{folder.plan_file}: it was locked under {', '.join(changed)}; accepted: the same code and "
            "libraries, or a new study"
        )


def _require_same_device(folder: StudyFolder, space: Space, plan: Plan) -> None:
    locked = plan.device_kind or device_kind(space)
    if locked != device_kind(space):
        accepted = "0" if locked == "cpu" else "more than 0"
        raise StudyError(
            f"resources.gpu: got {space.resources.gpu:g}, but {folder.plan_file} was locked for runs on a "
            f"{locked.upper()}, and the runs of a pair must be alike; accepted: {accepted}, or a new study"
        )
