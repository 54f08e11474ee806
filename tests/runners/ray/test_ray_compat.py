"""Each name that Ray does not promise, asked of the Ray that is installed: an upgrade that lost one fails here."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.node import Node

from tune_bn.errors import Interrupted, RunnerError
from tune_bn.host.process import WAITING
from tune_bn.runners.ray import compat, start
from tune_bn.runners.ray.start import RayOptions

UPGRADE = f"Ray {ray.__version__} lacks it: mend tune_bn/runners/ray/compat.py"


@pytest.mark.parametrize(("module", "name"), [*compat.NAMES, *compat.CLOUD_NAMES])
def test_ray_has_the_name(module: str, name: str) -> None:
    assert compat.missing(((module, name),)) == [], UPGRADE


def test_rays_objects_get_the_attributes() -> None:
    assert compat.missing_attributes() == [], UPGRADE


@cache
def sources() -> str:
    package = Path(ray.__file__).parent
    rooms = ("tune", "train", "air", "_common/usage", "dashboard/modules/job")
    paths = [*(path for room in rooms for path in (package / room).rglob("*.py"))]
    return "\n".join(path.read_text("utf-8") for path in [*paths, package / "_private" / "ray_constants.py"])


@pytest.mark.parametrize("variable", compat.SWITCHES)
def test_ray_still_reads_the_variable(variable: str) -> None:
    assert f'"{variable}"' in sources(), UPGRADE


def test_what_is_called_gives_what_is_used() -> None:
    assert compat.preemption() > 0
    assert isinstance(compat.node_ids(), set)
    assert compat.GcsClient is not None
    before = compat.loopback_only(True)
    assert compat.loopback_only(before) is True
    assert compat.loopback_only(before) is before


def test_a_ray_that_lacks_a_name_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    compat.require()
    line = r"^ray: got version \S+, which lacks {}; accepted: that of constraints.txt$"
    monkeypatch.setattr(compat, "NAMES", (("ray._private.services", "find_node_names"), *compat.NAMES))
    with pytest.raises(RunnerError, match=line.format(r"ray\._private\.services\.find_node_names")):
        compat.require()
    monkeypatch.setattr(compat, "NAMES", (("ray.no_such_room", "x"),))
    with pytest.raises(RunnerError, match=line.format(r"ray\.no_such_room\.x")):
        compat.require()
    monkeypatch.setattr(compat, "NAMES", ())
    monkeypatch.setattr(compat, "ATTRIBUTES", (("ray.job_config", "JobConfig", "_driver_folders"),))
    with pytest.raises(RunnerError, match=line.format(r"ray\.job_config\.JobConfig\._driver_folders")):
        compat.require()


def test_a_preemption_that_tune_would_count_as_a_failure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def preempted(self: Any) -> bool:
        return True

    monkeypatch.setattr(ray.exceptions.RayActorError, "preempted", preempted)
    with pytest.raises(RunnerError, match=r"lacks ray\.exceptions\.RayActorError\.preempted as a property; accepted"):
        compat.require()


class Controller:
    """The books of Tune's controller, as far as they are read."""

    def __init__(self) -> None:
        self._trials = [trial := type("Trial", (), {"trial_id": "a"})()]
        self._stopped_trials, self._failed_trials, self._trials_to_cache = {trial}, {trial}, {trial}
        self._trial_metadata = {"a": "{}"}


def test_a_trial_that_is_over_leaves_all_of_tunes_books_and_may_do_so_twice() -> None:
    controller = Controller()
    trial = controller._trials[0]
    for _ in range(2):
        compat.forget(controller, trial)
        assert not any(vars(controller).values())


@pytest.mark.parametrize("stated", [None, "3"])
def test_a_ray_for_one_study_starts_less_and_rays_own_ways_come_back(
    stated: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if stated is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", stated)
    names = ("start_api_server", "start_monitor", "start_log_monitor")
    before = [getattr(Node, name) for name in names]
    with suppress(RuntimeError), compat.for_one_study(["tune_bn.errors"]) as arguments:
        assert arguments == {"_system_config": {"preload_python_modules": ["tune_bn.errors"]}}
        assert not {getattr(Node, name) for name in names} & set(before)
        # What workers load beforehand reads it then.
        assert os.environ["OMP_NUM_THREADS"] == (stated or "1")
        raise RuntimeError("it does not start")
    assert [getattr(Node, name) for name in names] == before
    assert os.environ.get("OMP_NUM_THREADS") == stated
    with compat.for_one_study([], beforehand=False) as arguments:
        assert arguments == {"_system_config": {"prestart_worker_first_driver": False}}
    with compat.for_one_study([]) as arguments:
        assert arguments == {}
        assert os.environ.get("OMP_NUM_THREADS") == stated


UNDER_A_LIMIT = """
import sys
from ray._private import services
from tune_bn.runners.ray import start
start_raylet = services.start_raylet
services.start_raylet = lambda *given, **named: start_raylet(
    *(sys.argv[1] if str(one).endswith("setup_worker.py") else one for one in given), **named
)
start.tight_limits = lambda: "ulimit -u: 150 processes and threads of this user"
start.connect(start.RayOptions())
print("let in")
"""


def test_under_a_limit_a_worker_that_dies_as_it_begins_does_not_keep_the_driver_out(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text("import os\nos._exit(1)\n")
    # Ray's own call waited for ever, and neither a signal nor a thread could end it.
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(tmp_path / "dies.py")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120)
    assert done.stdout == "let in\n", done.stderr


@pytest.mark.parametrize(
    ("options", "preloaded"),
    [
        (RayOptions(), True),
        (RayOptions(max_concurrent=4), True),
        # Others of the workers that Ray starts beforehand would train nothing.
        (RayOptions(max_concurrent=3), False),
        (RayOptions(cpu=2), False),
        (RayOptions(gpu=1), False),
    ],
)
def test_workers_load_torch_beforehand_where_all_of_them_train(
    options: RayOptions, preloaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "usable_cores", lambda: 4)
    assert bool(start._preloaded(options)) is preloaded


def test_threads_of_a_trial_sleep_while_they_wait_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    assert start._runtime_environment(RayOptions(address="auto")) == {}, "one thread waits for nobody"
    asleep = {"env_vars": WAITING}
    assert start._runtime_environment(RayOptions(address="auto", cpu=4)) == asleep
    code = {"py_modules": [str(tmp_path)]}
    assert start._runtime_environment(RayOptions(address="auto", cpu=2, code=[tmp_path])) == code | asleep
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert start._runtime_environment(RayOptions(address="auto", cpu=2))["env_vars"] == {"OMP_WAIT_POLICY": "ACTIVE"}


def test_a_process_that_is_told_to_end_while_ray_starts_ends_as_one_that_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(**_: object) -> None:
        # As Ray's own handler does.
        sys.exit(15)

    monkeypatch.setattr(ray, "init", told)
    with pytest.raises(Interrupted, match=r"^interrupted by SIGTERM$"):
        start.connect(RayOptions())
    assert start.folder_here() is None
