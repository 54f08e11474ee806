"""Several studies, one mlflow.db: nothing is lost, nothing doubled, and its tables are whole or not there."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow.store.db.utils
import pytest
from mlflow import MlflowClient

from tune_bn.observers.mlflow import sqlite_writer
from tune_bn.observers.mlflow.sqlite_writer import SqliteWriter

STUDIES, RUNS = 4, 6

WRITER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from tests.observers.mlflow.followed_studies import Study, make_curve, make_task
study = Study(Path(sys.argv[1]) / sys.argv[2], f"sqlite:///{{sys.argv[1]}}/mlflow.db")
observer = study.observer()
for trial in range({RUNS}):
    task = make_task(trial, 101)
    observer.task_started(task)
    for epoch in (1, 2, 3):
        observer.task_progress(task, {{101: make_curve(epoch, start=epoch)}})
    study.finish(observer, task, make_curve(3))
observer.study_finished("FINISHED", {{}})
print("\\n".join(study.warnings))
"""

MAKER = """
import sys
from pathlib import Path
from tune_bn.observers.mlflow.sqlite_writer import SqliteWriter
with SqliteWriter(f"sqlite:///{sys.argv[1]}/mlflow.db").turn(lambda: False):
    pass
"""


def test_studies_that_begin_at_once_make_one_database_and_lose_nothing(tmp_path: Path) -> None:
    names = [f"study-{number}" for number in range(STUDIES)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in names
    ]
    said = {name: writer.communicate()[0].strip() for name, writer in zip(names, writers, strict=True)}
    assert said == dict.fromkeys(names, "")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [found for found in client.search_experiments() if found.name == "digits"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    found = Counter((run.data.tags["study"], run.data.tags.get("run_key")) for run in runs)
    assert set(found.values()) == {1}
    assert Counter(study for study, _ in found) == dict.fromkeys(names, RUNS + 1)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not list(tmp_path.glob(".*"))


def test_a_process_that_is_killed_while_it_makes_the_tables_leaves_none(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    maker = subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path)])
    try:
        # Some tables are there, and not yet all of them.
        while not any(path.stat().st_size > 50_000 for path in tmp_path.glob(".????????")):
            assert maker.poll() is None
            time.sleep(0.001)
    finally:
        os.kill(maker.pid, signal.SIGKILL)
        maker.wait()
    assert not database.exists()
    subprocess.run([sys.executable, "-c", MAKER, str(tmp_path)], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    MlflowClient(f"sqlite:///{database}").create_experiment("usable")


def test_the_longest_path_that_sqlite_opens_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def initialize(engine: Any) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE made (x)")

    monkeypatch.setattr(mlflow.store.db.utils, "_initialize_tables", initialize)
    folder = tmp_path
    while (left := 504 - len(f"{folder}/mlflow.db")) > 0:
        folder /= "x" * min(left - 1, 200)
    database = folder / "mlflow.db"
    assert len(str(database)) == 504
    with SqliteWriter(f"sqlite:///{database}").turn(lambda: False), closing(sqlite3.connect(database)) as made:
        assert made.execute("SELECT count(*) FROM made").fetchone() == (0,)


def test_a_database_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE theirs (x)")
    before = (tmp_path / "mlflow.db").read_bytes()
    with SqliteWriter(f"sqlite:///{tmp_path}/mlflow.db").turn(lambda: False):
        pass
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://x/y", "sqlite:///{}/mlflow.db?mode=ro"])
def test_elsewhere_nobody_waits_and_nothing_is_made(uri: str, tmp_path: Path) -> None:
    writer = SqliteWriter(uri.format(tmp_path))
    with writer.turn(lambda: False), writer.turn(lambda: False):
        assert not list(tmp_path.iterdir())


def test_one_writer_at_a_time_and_a_halted_one_is_an_outage_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "WAIT_SECONDS", 0.3)
    (tmp_path / "mlflow.db").touch()
    writer = SqliteWriter(f"sqlite:///{tmp_path}/mlflow.db")
    with writer.turn(lambda: False):
        words = r"another study has been writing to .*/mlflow\.db"
        for gives_up in (False, True):
            with pytest.raises(TimeoutError, match=words), writer.turn(lambda gives_up=gives_up: gives_up):
                raise AssertionError("two writers")
    with writer.turn(lambda: False):
        pass


def test_by_whatever_link_a_database_is_named_it_has_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "WAIT_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    Path("real").mkdir()
    Path("real/mlflow.db").touch()
    Path("folder").symlink_to("real")
    Path("theirs.db").symlink_to("real/mlflow.db")
    with SqliteWriter(f"sqlite:///{tmp_path}/real/mlflow.db").turn(lambda: False):
        for uri in (
            "sqlite:///real/../folder/mlflow.db",
            f"sqlite:///{tmp_path}/theirs.db",
            "sqlite+pysqlite:///theirs.db",
        ):
            with pytest.raises(TimeoutError), SqliteWriter(uri).turn(lambda: False):
                raise AssertionError("two writers")


def test_however_many_take_turns_whoever_waits_goes_on_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").touch()
    writer = SqliteWriter(f"sqlite:///{tmp_path}/mlflow.db")
    waiting, asked = threading.Event(), []

    def give_up() -> bool:
        # Each time that the one who waits looks, another one has had a turn; the clock says that it took an age.
        asked.append(None)
        clock.append(clock[-1] + 0.9 * sqlite_writer.WAIT_SECONDS)
        os.utime(tmp_path / "mlflow.db.lock", ns=(len(asked), len(asked)))
        if len(asked) == 5:
            waiting.set()
        return False

    clock = [0.0]
    monkeypatch.setattr(sqlite_writer.time, "monotonic", lambda: clock[-1])
    with writer.turn(lambda: False):
        other = threading.Thread(target=lambda: writer.turn(give_up).__enter__(), daemon=True)
        other.start()
        assert waiting.wait(60)
        assert other.is_alive()
