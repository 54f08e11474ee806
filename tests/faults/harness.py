"""Studies to disturb, what must be equal afterwards, and the table of what was lost.

A fault test runs a small deterministic study, breaks something, and compares with the same study undisturbed: by its
records, and by its work, which a counting network tells from whatever process trained.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import warm
from tune_bn.records.log import RecordLog
from tune_bn.records.record import FAILED, Record
from tune_bn.script.folder import ATTEMPT_VARIABLE
from tune_bn.trainers.command import keeper

HERE = Path(__file__).parent
COUNTING = "counting_network:network"
FOLDER = "TUNE_BN_TEST_COUNTING_FOLDER"

# Three trials, a finalist on a selection seed, two arms on three seeds: nine runs and the selection's.
SPACE: dict[str, Any] = {
    "name": "counted",
    "model": {"arch": COUNTING},
    "data": {"source": "digits", "train_size": 40, "val_size": 40, "test_size": 40},
    "train": {"epochs": 25, "batch_size": 20},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}, "c": {"log_uniform": [1, 100]}},
    # Proposals that depend on no score, so that they are the same whichever run ends first.
    "sampler": {"name": "random", "points": "none"},
    "scheduler": {"name": "none"},
    "budget": {"trials": 3, "finalists": 2},
    "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3]},
    "resources": {"max_concurrent": 2, "checkpoint_seconds": 0.2},
}
# The confirmation alone: one stage and eight runs, for faults that are the same in every stage.
ONE_STAGE: dict[str, Any] = {
    **{key: SPACE[key] for key in ("name", "model", "data", "train", "resources")},
    "claim": {"arms": {"small": {"gamma": 0.1, "c": 10.0}}},
    "seeds": {"confirm": [1, 2, 3, 4]},
}
PACE = 0.03
"""Seconds of a training forward; a run has 50 of them."""
BUILTIN, COMMAND, FUNCTION = TRAINERS = ("builtin", "command", "function")
SCRIPT = "counting_script"


def space_with(**sections: Mapping[str, Any]) -> dict[str, Any]:
    """:data:`SPACE` with some keys of its sections replaced."""
    content = copy.deepcopy(SPACE)
    for name, section in sections.items():
        content[name] = {**content.get(name, {}), **section}
    return content


def trained_by(trainer: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same study by the built-in loop, or by training code of the user's own."""
    if trainer == BUILTIN:
        return content
    how = {"command": ["python", f"{SCRIPT}.py"]} if trainer == COMMAND else {"function": f"{SCRIPT}:train"}
    score = {"validation": "val", "test": "test", "goal": "max", "step": "epoch"}
    # The helper's checkpoints are due as often as the workers'.
    seconds = f"{content['resources']['checkpoint_seconds']}s"
    section = {**how, "root": str(HERE), "code": [f"{SCRIPT}.py"], "score": score, "save_every": seconds}
    rest = {key: value for key, value in content.items() if key not in ("model", "data", "train")}
    claim = {**content.get("claim", {}), "baseline": {"gamma": 1.0, "c": 1.0}}
    return {**rest, "claim": claim, "trainer": {**section, "steps": content["train"]["epochs"]}}


def named(fault: str, trainer: str) -> str:
    """A fault in the table, where it is not the built-in loop that suffers it."""
    return fault if trainer == BUILTIN else f"{fault} ({trainer})"


def survivors(study: Path) -> list[int]:
    """Processes of any attempt of a script that are there once its study has ended."""
    attempts = [line for path in study.glob("runs/*/attempts.jsonl") for line in path.read_text().splitlines()]
    return [pid for line in attempts for pid in keeper.marked(ATTEMPT_VARIABLE, json.loads(line)["mark"])]


def essence(records: Iterable[Record]) -> dict[str, tuple[Any, ...]]:
    """What must not depend on any disturbance, by run: of those that did not fail."""
    return {
        record.key: (dict(record.config), record.status, record.epochs, dict(record.scores))
        for record in records
        if record.status != FAILED
    }


@dataclass(frozen=True)
class Outcome:
    """What a study left behind."""

    records: tuple[Record, ...]
    steps: int
    """Training forwards of all processes together."""


def outcome_in_sandbox(run: Path, study: Path) -> Outcome:
    """What a study of a system test left; ``run`` is the sandbox's ``/run``, where the network counts."""
    return Outcome(tuple(RecordLog(study / "records.jsonl").read()), (run / "counting" / "steps").stat().st_size)


def run_on_hosts(
    run_sandboxed: Callable[..., Path],
    script: str,
    *,
    folder: Path,
    cluster: Mapping[str, Any],
    content: Any,
    name: str,
) -> Path:
    """Run a script of system tests with hosts behind ssh.

    Args:
        run_sandboxed: the fixture.
        script: in ``tests/system``.
        folder: for the two files that the script is given.
        cluster: what ``ray up`` reads.
        content: of the space.
        name: of the cluster.

    Returns:
        What it saw as ``/run``.
    """
    files = {"CLUSTER": folder / "cluster.yaml", "SPACE": folder / f"{Path(script).stem}.yaml"}
    for path, value in zip(files.values(), (cluster, content), strict=True):
        path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return run_sandboxed(
        script,
        tools=["sshd", "ssh", "ssh-keygen", "rsync", "ps", "pgrep", "nsenter"],
        REPOSITORY=str(HERE.parents[1]),
        **{key: str(path) for key, path in files.items()},
        COUNTING=str(HERE),
        NAME=name,
    )


@dataclass(frozen=True)
class FaultRow:
    """One kind of fault in the table."""

    fault: str
    times: int
    lost: int
    """Runs of the undisturbed study that are missing or differ, and runs that it does not have."""
    duplicates: int
    """Records beyond the first of a run that did not fail."""
    extra_work_percent: float


class FaultTable:
    """The faults of this session."""

    def __init__(self) -> None:
        self.rows: list[FaultRow] = []

    def add(self, fault: str, times: int, reference: Outcome, disturbed: Outcome) -> FaultRow:
        """Compare a disturbed study with the undisturbed one. The caller asserts what it expects of the row."""
        expected, found = essence(reference.records), essence(disturbed.records)
        lost = sum(expected.get(key) != found.get(key) for key in {*expected, *found})
        keys = Counter(record.key for record in disturbed.records if record.status != FAILED)
        extra = 100.0 * (disturbed.steps - reference.steps) / reference.steps
        row = FaultRow(fault, times, lost, sum(keys.values()) - len(keys), extra)
        self.rows.append(row)
        return row

    def lines(self) -> list[str]:
        """The table as text."""
        width = max(len(row.fault) for row in self.rows)
        heading = f"{'fault':<{width}}  times  runs lost  duplicates  extra work"
        return [heading] + [
            f"{row.fault:<{width}}  {row.times:>5}  {row.lost:>9}  {row.duplicates:>10}  "
            f"{row.extra_work_percent:>8.1f} %"
            for row in self.rows
        ]


class Workplace:
    """A folder with a space file and the study ``one``, and beside it what the counting network writes and reads.

    Args:
        folder: an empty folder.
        content: the space.
        pace: least seconds of a training forward.
        counting: where the network counts; None: in the folder. Workplaces on one cluster, one after the other, must
            share it, since the cluster's environment names it.
    """

    def __init__(
        self,
        folder: Path,
        content: Mapping[str, Any] = SPACE,
        pace: float = PACE,
        counting: Path | None = None,
    ) -> None:
        self.folder = folder
        self.counting = counting or folder / "counting"
        self.content = content
        if "trainer" in content:
            # A script has the variables of its space, and of this package's own those of its run alone.
            env = {SCRIPT.upper(): str(self.counting)}
            self.content = {**content, "trainer": {**content["trainer"], "env": env}}
        folder.mkdir(parents=True, exist_ok=True)
        self.counting.mkdir(parents=True, exist_ok=True)
        self._before = self._bytes()
        self.set_pace(pace)
        (folder / "space.yaml").write_text(yaml.safe_dump(dict(self.content)), encoding="utf-8")

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.folder / "studies" / "one"

    @property
    def environment(self) -> dict[str, str]:
        """What processes need in their environment, drivers and Ray's nodes alike."""
        paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {FOLDER: str(self.counting), "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}

    def set_pace(self, seconds: float) -> None:
        """From the next training forward on."""
        aside = self.counting / "pace.new"
        aside.write_text(str(seconds))
        aside.replace(self.counting / "pace")

    def plant(self, fault: str, times: int = 1) -> None:
        """``out_of_memory`` or ``error``: raised by so many training forwards from now on; or ``rank``, of a script."""
        for number in range(times):
            (self.counting / f"{fault}-{number}").touch()

    def planted(self) -> int:
        """Planted faults that no forward has taken yet."""
        return len(list(self.counting.glob("*-*")))

    def processes(self) -> list[int]:
        """What drivers have started and still lives: Ray, its workers, keepers. Not :func:`survivors`."""
        return sorted({*keeper.marked(FOLDER, str(self.counting))} - {*survivors(self.study)})

    @property
    def steps(self) -> int:
        """Training forwards so far."""
        return self._bytes() - self._before

    def _bytes(self) -> int:
        path = self.counting / "steps"
        return path.stat().st_size if path.exists() else 0

    def records(self) -> tuple[Record, ...]:
        """The study's records."""
        return tuple(RecordLog(self.study / "records.jsonl").read())

    def outcome(self) -> Outcome:
        """What the study has left behind."""
        return Outcome(self.records(), self.steps)

    def command(self, *options: str) -> list[str]:
        """What is typed after ``tune_bn``."""
        own = ["--unchecked"] if "trainer" in self.content else []
        return ["search", "--space", "space.yaml", "--study", "one", *own, *options]

    def start(self, *options: str, **variables: str) -> warm.Warm:
        """Begin :meth:`command` in a process group of its own."""
        environment = {**os.environ, **self.environment, **variables}
        return warm.Warm(self.command(*options), cwd=self.folder, env=environment, process_group=True)

    def search(self, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The same, to its end."""
        environment = {**os.environ, **self.environment, **variables}
        return warm.run(self.command(*options), cwd=self.folder, env=environment)

    def wait_for_records(self, count: int, process: warm.Warm | None = None) -> None:
        """Until so many runs are recorded."""
        path = self.study / "records.jsonl"
        self.wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, process)

    def wait_for_steps(self, count: int, process: warm.Warm | None = None) -> None:
        """Until so many training forwards are done."""
        self.wait_for(lambda: self.steps >= count, process)

    @staticmethod
    def wait_for(condition: Callable[[], bool], process: warm.Warm | None = None, seconds: float = 300) -> None:
        """Until a condition holds; an error when the process ends before, or nothing happens."""
        deadline = time.monotonic() + seconds
        while not condition():
            if process is not None and process.poll() is not None:
                raise AssertionError(f"ended too early ({process.returncode}): {process.communicate()}")
            assert time.monotonic() < deadline, "what was waited for did not happen"
            time.sleep(0.01)


def run_undisturbed(folder: Path, content: Mapping[str, Any] = SPACE) -> Outcome:
    """The study in this process, without Ray, without haste and without faults."""
    import torch

    from tune_bn.runners.local import LocalRunner

    place = Workplace(folder, content, pace=0)
    threads = torch.get_num_threads()
    before = os.environ.get(FOLDER)
    os.environ[FOLDER] = str(place.counting)
    torch.set_num_threads(1)
    try:
        run_in_process(place, lambda trainer, _: LocalRunner(trainer))
    finally:
        torch.set_num_threads(threads)
        os.environ.pop(FOLDER)
        if before is not None:
            os.environ[FOLDER] = before
    return place.outcome()


def run_in_process(place: Workplace, make_runner: Callable[..., Any], observer: Any = None) -> None:
    """The stages of the workplace's study in this process, gone on with where it was begun.

    Args:
        place: where.
        make_runner: called with the trainer and the study's folder.
        observer: follows; None: nobody.
    """
    from tests.study.local_studies import Follower
    from tune_bn.front.wiring import sampler_of
    from tune_bn.space.loading import parse_space
    from tune_bn.study.folder import StudyFolder
    from tune_bn.study.study import Study
    from tune_bn.trainers.choose import trainer_of
    from tune_bn.trainers.command.from_space import keep_code
    from tune_bn.training.versions import commit

    space = parse_space(dict(place.content), "space.yaml")
    trainer = trainer_of(space)
    where = StudyFolder(place.study)
    where.resumed(space) if where.exists else where.created(space)
    keep_code(trainer, where.path)
    runner = make_runner(trainer, where)
    study = Study(
        where,
        space,
        runner=runner,
        make_sampler=lambda arm, outcomes: sampler_of(space, where, arm, outcomes, trainer.score.goal),
        observer=observer or Follower(),
        trainer=trainer,
        commit=commit(),
    )
    study.run()


class References:
    """Undisturbed studies, each run once in a session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Outcome] = {}

    def __call__(self, content: Mapping[str, Any] = SPACE) -> Outcome:
        """The outcome of this space. What does not change a score may differ from the disturbed study's."""
        key = json.dumps(content, sort_keys=True)
        if key not in self._known:
            self._known[key] = run_undisturbed(self.folder / f"reference-{len(self._known)}", content)
        return self._known[key]


# The network is imported by its name: in this process, and by the workers of whatever starts below it.
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))
