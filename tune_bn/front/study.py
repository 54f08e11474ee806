"""A study's folder, opened: what was run, what it learned, what was planned and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import StudyError
from tune_bn.front.rows import Rows
from tune_bn.front.verdict import Verdict
from tune_bn.records.curves import CurveLog
from tune_bn.records.log import RecordLog
from tune_bn.records.record import STAGES, Record
from tune_bn.records.table import rows_of

if TYPE_CHECKING:
    from tune_bn.front.asking import Asked, Told
    from tune_bn.study.folder import StudyFolder

_SPACE, _PLAN, _RECORDS = "space.yaml", "plan.json", "records.jsonl"


def open_study(path: str | PathLike[str]) -> Study:
    """Open a study for reading. It may be running: what it does later is seen by opening it again.

    Neither torch nor Ray, MLflow or pydantic is loaded, and nothing is written but by :meth:`Study.report`.

    Args:
        path: its folder, such as ``studies/digits-1``.

    Raises:
        StudyError: there is no study.
    """
    folder = Path(path).absolute()
    if not any((folder / name).is_file() for name in (_SPACE, _RECORDS)):
        raise StudyError(f"path: got {str(path)!r}, where no study is; accepted: a folder with {_SPACE} and {_RECORDS}")
    return Study(folder)


class Study:
    """A study's folder; each part is read at its first use and checked as ``tune_bn verify`` checks it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """What the study is called: the name of its folder."""
        return self.path.name

    @cached_property
    def space(self) -> Mapping[str, Any]:
        """The space file as plain values, every default written out.

        Raises:
            SpecError: the file cannot be read.
        """
        from tune_bn.space.file import parse_yaml

        content: Mapping[str, Any] = parse_yaml(self.path / _SPACE)
        return content

    @cached_property
    def records(self) -> Sequence[Record]:
        """Every finished run (configuration × seed), in the order of their ends.

        Raises:
            RecordError: the file is damaged, or a line was edited.
        """
        return tuple(RecordLog(self.path / _RECORDS).read())

    @cached_property
    def runs(self) -> Rows:
        """The records as a table: one row for each run, with columns such as ``stage``, ``arm``, ``seed``, ``status``,
        ``config.gamma`` and ``scores.test_accuracy``. Raises what :attr:`records` raises."""
        return Rows(rows_of(self.records))

    @cached_property
    def curves(self) -> Rows:
        """The learning curves as a table: one row for each run and step (an epoch, of the built-in training loop).

        ``run`` is the key of the run; ``stage``, ``arm``, ``trial`` and ``seed`` say which it is; the columns behind
        ``step`` are the named metrics of the step.

        Raises:
            RecordError: a file is damaged.
        """
        runs = {record.key: record for record in self.records}
        found = []
        for key, points in CurveLog(self.path / "curves.jsonl").read().items():
            about: dict[str, Any] = {"run": key}
            if (record := runs.get(key)) is not None:
                about |= {name: getattr(record, name) for name in ("stage", "arm", "trial", "seed")}
            found += [about | _flat(point) for point in points]
        return Rows(found, ("run", "stage", "arm", "trial", "seed", "step"))

    @cached_property
    def plan(self) -> Mapping[str, Any] | None:
        """The locked plan of the confirmation; None where it has not been locked yet.

        Raises:
            RecordError: it cannot be read. Whether it was changed afterwards is for :attr:`verdict` to say.
        """
        if not (self.path / _PLAN).is_file():
            return None
        from tune_bn.analysis.plan import read_plan

        return read_plan(self.path / _PLAN).to_json()

    @cached_property
    def verdict(self) -> Verdict | None:
        """The verdict, computed anew from plan and records alone, as ``tune_bn verify`` does; None before the plan.

        While the confirmation runs it is invalid, since runs are missing.
        """
        if not all((self.path / name).is_file() for name in (_PLAN, _RECORDS)):
            return None
        from tune_bn.analysis.verdict import verdict_on_study

        return Verdict(verdict_on_study(self.path).to_json())

    def ask(self, *, lease: float = 3600.0, worker: str = "", wait: bool = False, again: bool = False) -> Asked:
        """The next run of a study with ``trainer.ask``, for a loop of your own to train.

        Any number of loops may ask at once, on any machine that shares the folder. See
        :class:`tune_bn.front.asking.Asked`::

            while asked := study.ask(wait=True):
                scores = train(asked.params, asked.seed, asked.steps, test=asked.test)  # None: no test score
                study.tell(asked.run, scores)

        Args:
            lease: seconds until the run is handed out again, where nothing is told of it.
            worker: who asks, in words of yours.
            wait: wait while all runs that are due are with others, so that the answer is false at the end alone.
            again: runs that failed for good are due once more.

        Raises:
            StudyError: it is not such a study.
        """
        from tune_bn.front.asking import WAITING, ask

        while True:
            asked = ask(self._folder, lease=lease, worker=worker, again=again)
            if not (wait and asked.state == WAITING):
                self._forget()
                return asked
            again = False
            time.sleep(min(1.0, asked.retry_after or 1.0))

    def tell(
        self,
        run: str,
        scores: Mapping[str, float] | None = None,
        *,
        curve: Sequence[Mapping[str, float]] = (),
        failed: str | None = None,
        seconds: float | None = None,
        device: str | None = None,
    ) -> Told:
        """What became of a run that was asked for; the arguments are those of :func:`tune_bn.front.asking.tell`.

        Telling the same again changes nothing. The last run of the study brings the verdict and the report.

        Raises:
            StudyError: no such run was handed out; scores are missing, strange or impossible; others were told before.
        """
        from tune_bn.front.asking import tell

        told = tell(self._folder, run, scores, curve=curve, failed=failed, seconds=seconds, device=device)
        self._forget()
        return told

    def renew(self, run: str, lease: float = 3600.0) -> None:
        """Keep a run that still trains for so many seconds from now on.

        Raises:
            StudyError: it is not out.
        """
        from tune_bn.front.asking import renew

        renew(self._folder, run, lease)

    @property
    def _folder(self) -> StudyFolder:
        from tune_bn.study.folder import StudyFolder

        return StudyFolder(self.path)

    def _forget(self) -> None:
        for name in ("records", "runs", "curves", "plan", "verdict"):
            self.__dict__.pop(name, None)

    def report(self) -> Path:
        """Write ``report.html``, ``report.md`` and the plots into the study's folder.

        Returns:
            The page, which holds its pictures and can be sent to others.

        Raises:
            StudyError: the folder cannot be written.
        """
        from tune_bn.report import write_report

        return next(path for path in write_report(self.path) if path.suffix == ".html")

    def __repr__(self) -> str:
        return f"<Study {self.name}: {_counts(self.records)}>"

    def _repr_html_(self) -> str:
        verdict = "" if self.verdict is None else self.verdict._repr_html_()
        return f"<p>study <b>{escape(self.name)}</b>: {escape(_counts(self.records))}</p>{verdict}"


def _counts(records: Sequence[Record]) -> str:
    counts = {stage: sum(record.stage == stage for record in records) for stage in STAGES}
    return ", ".join(f"{count} runs of {stage}" for stage, count in counts.items() if count) or "no runs yet"


def _flat(point: Any) -> dict[str, Any]:
    """A point of a curve with its named metrics as columns of their own."""
    content = asdict(point) if is_dataclass(point) and not isinstance(point, type) else dict(point)
    metrics = content.pop("metrics", {})
    step = content.pop("step", None)
    return {"step": content.pop("epoch", None) if step is None else step, **content, **metrics}
