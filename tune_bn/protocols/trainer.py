"""The contract between a study and whatever trains its runs.

A study has one :class:`Trainer`. It says what a run is scored by, what decides its result beside configuration and
seed, and how many steps it has. It is pickled and sent to the workers. There :meth:`Trainer.open` gives a
:class:`Session`, which holds what all runs of a worker share (images on a device, recorded steps, warm imports), and a
session starts each :class:`Run`. A run goes on step by step and tells named metrics; it can be saved, and go on
elsewhere as if it had never been interrupted.

Nothing here loads anything but the standard library. :mod:`tune_bn.testing.trainer` holds the tests that every
trainer must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tune_bn.records.curves import Point
from tune_bn.records.diagnostics import Diagnostics
from tune_bn.records.record import COMPLETED, DIVERGED, FAILED, PRUNED
from tune_bn.records.score import Score

__all__ = [
    "COMPLETED",
    "DIVERGED",
    "FAILED",
    "PRUNED",
    "Described",
    "Door",
    "Place",
    "Point",
    "PreemptedError",
    "Run",
    "RunResult",
    "Score",
    "Session",
    "Trainer",
    "data_remarks_of",
]


@dataclass(frozen=True)
class RunResult:
    """What became of one seed of a task."""

    seed: int
    status: str
    """As in :class:`tune_bn.records.record.Record`."""
    reason: str
    epochs: int
    """Steps that were done; the built-in trainer's steps are epochs, and records keep that word."""
    scores: Mapping[str, float]
    """Finite: the validation score as :attr:`Score.at` counts it, the test score where it was asked for, and whatever
    else the trainer wants recorded. Empty for a failed run."""
    curve: tuple[Point, ...]
    attempts: int
    started_at: str
    duration_seconds: float
    device: str
    versions: Mapping[str, str]
    diagnostics: Diagnostics | None = None
    """Of its BN layers, where they were asked for."""
    lost: bool = False
    """It failed because its worker was lost, which is no fault of the run."""
    setup_seconds: float = 0.0
    """What warming up and recording its training step took, which ``duration_seconds`` leaves out; about 0 for a run
    that found a step that was recorded already."""
    test: Mapping[str, Any] = field(default_factory=dict)
    """As in :class:`tune_bn.records.record.Record`; empty where the trainer knows nothing of single test images."""
    right: bytes = b""
    """Which test images it got right, as :mod:`tune_bn.records.per_image` keeps them; their hash is in ``test``."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """On what it ran, as far as that may decide a score; see :data:`tune_bn.records.provenance.FACTS`."""


class PreemptedError(Exception):
    """A run gives its task back, for no fault of its own: it begins again from its last saved state, and no failure is
    counted."""


@dataclass(frozen=True)
class Place:
    """Where a worker trains."""

    device: str = "cpu"
    """``cpu``, ``cuda`` or ``cuda:0``, as torch names it."""
    threads: int | None = None
    """Cores that a run may use; None: as this process is set up."""
    gpus: tuple[str, ...] = ()
    """Names of the GPUs that the worker holds, as ``CUDA_VISIBLE_DEVICES`` has them; the variable is set already."""
    share: float = 1.0
    """Part of each GPU that is the worker's."""


@dataclass(frozen=True)
class Described:
    """What a trainer says of its part of a space, in words for people."""

    what: Sequence[str]
    """Lines on what is trained and on which data, each with its heading in the first eleven columns."""
    run: str = ""
    """What one run is, such as ``3 epochs, batch 20, fp32``; empty: nobody can say how long it takes."""
    remarks: Sequence[str] = ()
    """Further lines on a run."""
    not_tried: Sequence[str] = ()
    """What a search will need of it and :meth:`Door.read` tries, but not :meth:`Door.check`."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one full run on the resources of one trial."""

    low: float
    high: float
    source: str
    """Where the numbers come from, in words."""


class Door(Protocol):
    """A trainer's part of a space, looked at by every verb before anything is started."""

    def check(self, remark: Callable[[str], None], *, single: Any = None) -> Sequence[str]:
        """Check what the space names outside itself, and that each of its configurations can be trained.

        Args:
            remark: told, in a line each, what is accepted but should be known.
            single: a configuration that is asked for by itself, and need not be one of the study's.

        Returns:
            Remarks on the data, a line each.

        Raises:
            TuneBNError: something is missing, or cannot be trained; one line.
        """

    def describe(self) -> Described:
        """What ``tune_bn validate`` prints of it."""

    @property
    def steps(self) -> int:
        """Of a full run."""

    def cost(self, measure: bool | None) -> Cost | None:
        """What a full run takes; None where nobody can say before one was tried.

        Args:
            measure: whether to train a few steps here; None: where that is soon done.
        """

    def paced_as(self, other: Door) -> bool:
        """Whether a step takes as long as one of another space, so that the runs of one tell of the other."""

    def read(self, progress: Callable[[int, int], None] | None) -> Sequence[str]:
        """Read all of the data that the space uses, and say what was found, in lines.

        Args:
            progress: hears how many of how many items are read.

        Raises:
            TuneBNError: some cannot be used.
        """


class Run(Protocol):
    """One configuration with one seed, in a worker."""

    @property
    def seed(self) -> int:
        """As it was asked for; ≥ 0, and belongs to the study."""

    @property
    def curve(self) -> Sequence[Point]:
        """The points so far, those before a restore included, without a gap in their steps.

        Every point of a run that did not diverge holds the validation score by its name. Metrics are finite, but for
        those of the last point of a run that diverged.
        """

    @property
    def steps(self) -> int:
        """Steps that are done."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to train: all steps are done, or it diverged."""

    @property
    def diverged(self) -> bool:
        """Whether a declared score, or the loss, was not finite."""

    def advance(self) -> Point | None:
        """Train until the next step is done, and return its point, which is new in :attr:`curve`.

        None: none is done yet. A step may take long; after some seconds at most the worker must get to hear whether
        it is to stop. A built-in epoch is never None.

        Raises:
            PreemptedError: it is to begin again elsewhere.
            Exception: it failed; the first line of the message is kept as the reason.
        """

    def state(self) -> Mapping[str, Any] | None:
        """All that another process needs to go on after the last step: tensors and plain values (numbers, text, None,
        lists, mappings with text for keys), at most. None: there is nothing to go on from. Not called before the first
        step; once it is done, a study that keeps weights asks too."""

    def interim(self) -> RunResult:
        """What would be recorded if it ended here, without its curve. Never touches anything of the test."""

    def result(self) -> RunResult:
        """What became of it, without its curve, once it is :attr:`done`. The test score is found here, once, where one
        was asked for, and nowhere else."""

    def inspect(self) -> Diagnostics | None:
        """What its network looks like after training; None where the trainer cannot say. Raises nothing."""

    def close(self) -> None:
        """End whatever of it still runs, and let go of what it holds. May be called twice, and at any time."""


class Session(Protocol):
    """A trainer in a worker: what its runs share. Used by one thread."""

    @property
    def device(self) -> str:
        """Onto which the tensors of a saved state are loaded, as :attr:`Place.device`."""

    def identity(self, config: Any) -> Mapping[str, Any]:
        """What decides the result of a run beside its seed: configuration, versions, data, precision, kind of device,
        code. JSON values. A saved state of another identity is not taken up."""

    def add_test(self, part: Any) -> None:
        """Take :attr:`Trainer.test_part`, before the first run that is asked for its test score."""

    @property
    def has_test(self) -> bool:
        """Whether it has that part."""

    def start(
        self,
        config: Any,
        seed: int,
        *,
        test: str | None = None,
        name: str = "run",
        folder: Path | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> Run:
        """Begin a run, or go on with one.

        Args:
            config: as the space gives it (:meth:`tune_bn.space.space.Space.run_config`).
            seed: of the run.
            test: name of the test score to find at the end; None: the run must have no way to the test data.
            name: of the run, unique in its study, safe as a file name.
            folder: of the run's own, where it may keep files; need not exist. None: it may keep none.
            state: what :meth:`Run.state` gave in an earlier process, of the same identity.

        Raises:
            ValueError: no such test score, or no test part, or the state is of another seed.
        """

    def is_full(self, error: BaseException) -> bool:
        """Whether a run raised this because the device has no room for it beside others: it is tried again alone."""

    def free(self) -> None:
        """Let go of all memory on the device: others may share it. The next run takes it again."""

    def close(self) -> None:
        """Let go of everything. May be called twice."""


class Trainer(Protocol):
    """Trains the runs of a study. Immutable, and pickled to the workers."""

    @property
    def name(self) -> str:
        """``builtin``, ``command``, ``function``, or as an entry point of ``tune_bn.trainers`` calls it."""

    @property
    def score(self) -> Score:
        """What its runs are scored by."""

    @property
    def data(self) -> Mapping[str, Any]:
        """The identity of the data: any keys but ``test``, which holds what the confirmation alone reads. JSON values,
        such as counts and hashes; records and plan keep them. Empty: nothing is known of it."""

    @property
    def data_names(self) -> Mapping[str, Sequence[str]]:
        """Names behind a hash of :attr:`data`, by its key, so that a difference can be said in words."""

    @property
    def data_words(self) -> str:
        """Where the space file says which data it is, such as ``data.root: /images``."""

    @property
    def code(self) -> Sequence[Path]:
        """Folders and files of the user's that workers on other machines must be sent."""

    def steps(self, config: Any) -> int:
        """Steps of a whole run."""

    def versions(self, *configs: Any) -> Mapping[str, str]:
        """Versions of what the results of these configurations depend on; of none: of what all results do."""

    def without_test(self) -> Trainer:
        """Itself without anything of the test data; this is what workers are given first."""

    @property
    def test_part(self) -> Any:
        """What :meth:`without_test` left out, for :meth:`Session.add_test`; None: there is no test data."""

    def open(self, place: Place) -> Session:
        """Called in a worker."""


def data_remarks_of(trainer: Trainer) -> Sequence[str]:
    """What a trainer found in its data that whoever reads the verdict must know, such as test images that were trained
    on: its attribute ``data_remarks``, where it has one."""
    found: Sequence[str] = getattr(trainer, "data_remarks", ())
    return found
