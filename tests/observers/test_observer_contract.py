"""The contract suite on everything that follows a study, and on some that break it."""

from __future__ import annotations

import io
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from tune_bn.observers.console.observer import ConsoleObserver, console_log
from tune_bn.observers.events import Event, EventObserver
from tune_bn.observers.fanout import Observers
from tune_bn.observers.mlflow.observer import MlflowObserver
from tune_bn.observers.mlflow.uri import default_tracking_uri
from tune_bn.protocols.observer import Observer, StudyInfo
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.records.record import Record
from tune_bn.records.score import accuracy
from tune_bn.space.sections import Budget, Resources
from tune_bn.study.driver import Driver
from tune_bn.study.folder import StudyFolder
from tune_bn.testing.observer import Course, ObserverContract


class TestConsole(ObserverContract):
    @pytest.fixture(autouse=True, params=[True, False], ids=["terminal", "pipe"])
    def _terminal(self, request: pytest.FixtureRequest) -> None:
        self.terminal = request.param

    def observer(self, info: StudyInfo) -> Observer:
        return ConsoleObserver(Console(file=io.StringIO(), force_terminal=self.terminal, width=100))


class TestEvents(ObserverContract):
    @pytest.fixture(autouse=True, params=["listens", "raises"])
    def _listener(self, request: pytest.FixtureRequest) -> Iterator[None]:
        self.raises = request.param == "raises"
        with warnings.catch_warnings():
            # That its function raised is warned of, once.
            warnings.simplefilter("ignore", UserWarning)
            yield

    def hear(self, event: Event) -> None:
        if self.raises:
            raise ValueError("no")

    def observer(self, info: StudyInfo) -> Observer:
        return EventObserver(self.hear)


class TestLog(ObserverContract):
    def observer(self, info: StudyInfo) -> Observer:
        self.open = ExitStack()
        return self.open.enter_context(console_log(StudyFolder(info.folder).log_file))

    def ended(self) -> None:
        self.open.close()


class TestDriver(ObserverContract):
    def observer(self, info: StudyInfo) -> Observer:
        self.open = ExitStack()
        driver = Driver(StudyFolder(info.folder), Budget(), Resources(), stop=StopRequest())
        return self.open.enter_context(driver.watching())

    def ended(self) -> None:
        self.open.close()


class TestMlflow(ObserverContract):
    @pytest.fixture(autouse=True)
    def _database(self, fresh_database: Path) -> None:
        self.database = fresh_database

    def observer(self, info: StudyInfo) -> Observer:
        place, self.warnings = info.folder.parent, list[str]()
        shutil.copyfile(self.database, place / "mlflow.db")
        return MlflowObserver(
            default_tracking_uri(place),
            artifact_root=place / "mlartifacts",
            warn=self.warnings.append,
            retry_seconds=0.2,
            flush_seconds=0.05,
        )

    def ended(self) -> None:
        assert [line for line in self.warnings if "a fault of tune_bn" in line] == []


class TestUnreachableMlflow(ObserverContract):
    @pytest.fixture(autouse=True)
    def _little_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # How long an end waits in vain is no matter of the contract.
        monkeypatch.setattr("tune_bn.observers.mlflow.observer._FINAL_SECONDS_DOWN", 0.2)

    def observer(self, info: StudyInfo) -> Observer:
        # A file where a folder would have to be.
        uri = f"sqlite:///{info.folder.absolute()}/space.yaml/mlflow.db"
        return MlflowObserver(uri, artifact_root=None, warn=lambda line: None, retry_seconds=0.05, flush_seconds=0.05)


class TestSeveral(ObserverContract):
    def observer(self, info: StudyInfo) -> Observer:
        silent = Console(file=io.StringIO(), force_terminal=False)
        return Observers(ConsoleObserver(silent), Observers(), EventObserver(lambda event: None))


class Talkative(Observers):
    """Says what it thinks."""

    def run_recorded(self, record: Record, *given: object) -> str:  # type: ignore[override]
        return "well done"


class Meddling(Observers):
    """Writes into the study."""

    def __init__(self, info: StudyInfo) -> None:
        super().__init__()
        self.info = info

    def stage_started(self, *given: object) -> None:
        with open(self.info.folder / "space.yaml", "a") as file:
            file.write("# seen\n")


class Fragile(Observers):
    """Knows tasks alone that it saw begin."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def task_started(self, task: object) -> None:
        self.seen.add(task.key)  # type: ignore[attr-defined]

    def task_killed(self, task: object) -> None:
        self.seen.remove(task.key)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("make", "test"),
    [
        (lambda info: Talkative(), "test_nothing_of_the_study_is_changed"),
        (Meddling, "test_nothing_of_the_study_is_changed"),
        (lambda info: Fragile(), "test_accidents_of_tasks_are_taken"),
    ],
)
def test_an_observer_that_breaks_the_contract_is_found(make, test) -> None:
    class Suite(ObserverContract):
        def observer(self, info: StudyInfo) -> Observer:
            return make(info)

    with pytest.raises((AssertionError, KeyError)):
        getattr(Suite(), test)()


def test_what_is_told_lies_on_disk_before(tmp_path: Path) -> None:
    """The suite tells as a study does: whoever catches up from the files finds what was told."""
    course = Course(tmp_path / "made-1", accuracy())
    seen: list[int] = []

    class Looking(Observers):
        def run_recorded(self, record: Record, *given: object) -> None:
            seen.append(sum(known.key == record.key for known in course.log.read()))

    course.whole(Looking())
    assert seen == [1] * 10
