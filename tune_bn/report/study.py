"""What the report knows of a study: the files in its folder, and its trials summed up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from tune_bn.analysis.early_order import EARLY_ORDER_FILE, Look, read_looks
from tune_bn.analysis.plan import read_plan
from tune_bn.analysis.verdict import RECORDS_FILE
from tune_bn.errors import RecordError, SpecError, StudyError
from tune_bn.records.curves import CurveLog, Point
from tune_bn.records.data_file import data_remarks
from tune_bn.records.diagnostics import Diagnostics, read_diagnostics
from tune_bn.records.files import read_bytes
from tune_bn.records.log import RecordLog
from tune_bn.records.plan import PLAN_FILE, Plan
from tune_bn.records.reading import Refused
from tune_bn.records.record import COMPLETED, DIVERGED, FAILED, PRUNED, STAGES, Record
from tune_bn.records.score import Score, accuracy, read_score
from tune_bn.records.verdict import VERDICT_FILE, Verdict, verdict_from
from tune_bn.space.file import parse_yaml

SPACE_FILE = "space.yaml"
CURVES_FILE = "curves.jsonl"
DIAGNOSTICS = "diagnostics"

Curve = Sequence[Point]
T = TypeVar("T")


@dataclass(frozen=True)
class StudyFiles:
    """The content of a study folder; what is not there yet is None or empty."""

    folder: Path
    space: Mapping[str, Any]
    records: Sequence[Record]
    plan: Plan | None
    verdict: Verdict | None
    curves: Mapping[str, Curve]
    diagnostics: Mapping[str, Diagnostics] = field(default_factory=dict)
    """By arm of the plan, in its order."""
    early_order: Sequence[Look] = ()
    """The looks at an early order, where the grace of the search was automatic."""
    problems: Sequence[str] = ()
    """Files that could not be read, one line each."""
    score: Score = field(default_factory=accuracy)
    """What its runs are scored by."""
    data_remarks: Sequence[str] = ()
    """What was found in its data that a reader must know."""

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def trials(self) -> Mapping[str, Sequence[Trial]]:
        """The trials of each stage, in the order of their first run."""
        return {stage: trials_of(self.records, stage, self.score) for stage in STAGES}

    @property
    def metric(self) -> str:
        """The planned metric, or what it will be called."""
        if self.plan is not None:
            return self.plan.metric
        stated = None if self.verdict is None else self.verdict.metric
        return stated or self.score.test

    @property
    def baseline_config(self) -> Mapping[str, Any]:
        """Configuration of the baseline: the planned one, else the one in the space file's claim."""
        if self.plan is not None:
            config: Mapping[str, Any] = self.plan.baseline.config
            return config
        claim = self.space.get("claim")
        declared = claim.get("baseline") if isinstance(claim, dict) else None
        return declared if isinstance(declared, dict) else {}

    def declared(self, key: str) -> Mapping[str, Any]:
        """How the space says that a key is searched, ``{log_uniform: [0.01, 1]}``; empty where it does not."""
        search = self.space.get("search")
        declared = search.get(key) if isinstance(search, dict) else None
        return declared if isinstance(declared, dict) else {}

    def is_logarithmic(self, key: str) -> bool:
        """Whether a number is to be seen by its logarithm: γ and c, and where the space searches it so."""
        return key.partition(".")[0] in ("gamma", "c") or any(kind.startswith("log_") for kind in self.declared(key))


@dataclass(frozen=True)
class Trial:
    """One configuration in one stage, over its seeds."""

    stage: str
    arm: str
    number: int | None
    config: Mapping[str, Any]
    status: str
    """The worst of its runs: failed, diverged, pruned, completed."""
    scores: tuple[float, ...] = field(default=())
    """Validation score of each run."""
    runs: tuple[str, ...] = ()
    """Keys of its runs."""

    @property
    def score(self) -> float | None:
        """Mean over the seeds; None where a run has no score."""
        return fmean(self.scores) if self.scores else None


def load(folder: Path) -> StudyFiles:
    """Read a study folder. A damaged file is named in ``problems``; the report is written from the others.

    Raises:
        StudyError: there is no such folder, or it holds no study.
    """
    if not any((folder / name).is_file() for name in (SPACE_FILE, RECORDS_FILE)):
        raise StudyError(f"{folder}: no study here; accepted: a folder with {SPACE_FILE} and {RECORDS_FILE}")
    problems: list[str] = []

    def attempt(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except RecordError as error:
            problems.append(str(error).replace(f"{folder}/", ""))
            return otherwise

    plan_file = folder / PLAN_FILE
    plan = attempt(lambda: read_plan(plan_file), None) if plan_file.is_file() else None
    looks_file = folder / EARLY_ORDER_FILE
    return StudyFiles(
        folder=folder,
        space=attempt(lambda: _read_space(folder / SPACE_FILE), {}),
        records=attempt(RecordLog(folder / RECORDS_FILE).read, []),
        plan=plan,
        verdict=_read_verdict(folder / VERDICT_FILE),
        curves=attempt(CurveLog(folder / CURVES_FILE).read, {}),
        diagnostics={
            arm: found
            for arm, path in _diagnostics_files(folder, plan)
            if (found := attempt(partial(read_diagnostics, path), None)) is not None
        },
        early_order=attempt(lambda: read_looks(looks_file), []) if looks_file.is_file() else [],
        problems=problems,
        score=attempt(lambda: read_score(folder), accuracy()) if plan is None else plan.score,
        data_remarks=data_remarks(folder),
    )


def _diagnostics_files(folder: Path, plan: Plan | None) -> list[tuple[str, Path]]:
    arms = [] if plan is None else [arm.arm for arm in plan.arms]
    files = [(arm, folder / DIAGNOSTICS / f"{arm}.json") for arm in arms]
    return [(arm, path) for arm, path in files if path.is_file()]


def trials_of(records: Sequence[Record], stage: str, score: Score | None = None) -> list[Trial]:
    """The trials of a stage in the order of their first run. A run that was retried counts as its last attempt.

    Args:
        score: what they are scored by; None: accuracy.
    """
    runs: dict[tuple[str, int | None], dict[int, Record]] = {}
    for record in records:
        if record.stage == stage:
            seeds = runs.setdefault((record.arm, record.trial), {})
            if record.status != FAILED or record.seed not in seeds:
                seeds[record.seed] = record
    own = score or accuracy()
    return [_trial(stage, arm, number, list(seeds.values()), own) for (arm, number), seeds in runs.items()]


def _trial(stage: str, arm: str, number: int | None, runs: Sequence[Record], score: Score) -> Trial:
    statuses = {run.status for run in runs}
    worst = next(status for status in (FAILED, DIVERGED, PRUNED, COMPLETED) if status in statuses)
    scores = [run.scores.get(score.validation) for run in runs]
    known = tuple(float(score) for score in scores if score is not None)
    keys = tuple(run.key for run in runs)
    return Trial(stage, arm, number, runs[0].config, worst, known if len(known) == len(scores) else (), keys)


def _read_space(path: Path) -> Mapping[str, Any]:
    try:
        space = parse_yaml(path)
    except SpecError:
        if not os.path.lexists(path):
            return {}
        raise RecordError(f"{path}: cannot be read; accepted: the YAML that the study was started with") from None
    return space if isinstance(space, dict) else {}


def _read_verdict(path: Path) -> Verdict | None:
    try:
        return verdict_from(json.loads(read_bytes(path)))
    except FileNotFoundError:
        return None
    except Refused as error:
        raise RecordError(f"{path}: {error}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not JSON ({error}); accepted: the file that `tune_bn verify` writes") from None
