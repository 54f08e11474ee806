"""cluster/slurm.sh with Slurm, Ray and tune_bn played by scripts that write down how they were called."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sh"
PLAYERS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "scontrol": '[[ $1 != show ]] || tr , "\\n" <<< "$3"',
    "hostname": "echo 10.0.0.7 192.168.0.7",
    # `ray start --block` stays until it is told to go.
    "ray": 'if [[ $1 == start ]]; then trap "exit 0" TERM; while :; do sleep 0.1; done; fi',
    "tune_bn": '. "$HERE/driver"',
}
STUDY = "mkdir -p studies/slurm-4711; touch studies/slurm-4711/space.yaml; "

Job = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """``job(driver, *options, **environment)``: the script, submitted from ``tmp_path``, with a driver in shell."""
    players = tmp_path / "bin"
    players.mkdir()
    for name, does in PLAYERS.items():
        path = players / name
        path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "$HERE/calls"\n{does}\n', encoding="utf-8")
        path.chmod(0o755)
    (players / "python").symlink_to(shutil.which("python3") or "python3")

    def start(driver: str, *options: str, **environment: str) -> subprocess.Popen[str]:
        (tmp_path / "driver").write_text(driver, encoding="utf-8")
        variables = {
            "PATH": f"{players}:{os.environ['PATH']}",
            "HERE": str(tmp_path),
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "node1,node2,node3",
            "SLURM_JOB_NUM_NODES": "3",
            "SLURM_CPUS_PER_TASK": "8",
            "TUNE_BN_VENV": str(tmp_path),
            **environment,
        }
        return subprocess.Popen(
            ["bash", str(SCRIPT), *options], env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


def _calls(folder: Path, name: str) -> list[str]:
    lines = (folder / "calls").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith(f"{name} ")]


def test_head_workers_and_driver_start_with_one_token_that_only_its_owner_reads(job: Job, tmp_path: Path) -> None:
    both_ray_nodes = 'until test "$(grep -c "^ray start" "$HERE/calls")" = 2; do sleep 0.05; done; '
    see = 'stat -c "%a %s" "$RAY_AUTH_TOKEN_PATH"; echo "$RAY_AUTH_MODE"'
    running = job(both_ray_nodes + see, "--space", "my space.yaml", "--set", "seeds.confirm={from: 1, to: 5}")
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 0, said
    assert said.splitlines()[-2:] == ["600 64", "token"]

    (head,) = (call for call in _calls(tmp_path, "ray") if "--head" in call)
    (workers,) = (call for call in _calls(tmp_path, "ray") if "ray start --address" in call)
    assert "--head --node-ip-address=10.0.0.7 --port=24711 --include-dashboard=false --num-cpus=8" in head
    assert "--address=10.0.0.7:24711 --num-cpus=8" in workers
    assert any("--nodes=2 --ntasks=2 --exclude=node1" in call for call in _calls(tmp_path, "srun"))
    assert _calls(tmp_path, "tune_bn") == [
        f"tune_bn search --address 10.0.0.7:24711 --output {tmp_path}/studies --space my space.yaml "
        "--set seeds.confirm={from: 1, to: 5} --study slurm-4711"
    ]
    assert len(_calls(tmp_path, "scontrol")) == 1, "what is done is not queued again"
    assert not list(tmp_path.glob(".ray-token*"))


@pytest.mark.parametrize("notice", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_must_go_stops_its_driver_is_queued_again_and_resumes(
    job: Job, tmp_path: Path, notice: signal.Signals
) -> None:
    clean_stop = f'{STUDY} trap "echo stopped; exit 130" TERM; touch at-work; while :; do sleep 0.1; done'
    running = job(clean_stop)
    try:
        subprocess.run(
            ["bash", "-c", "until test -e at-work; do sleep 0.05; done"], cwd=tmp_path, timeout=60, check=True
        )
        running.send_signal(notice)
        said, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 0, said
    assert "stopped" in said, "the driver writes its last records before the job ends"
    assert _calls(tmp_path, "scontrol")[-1] == "scontrol requeue 4711"

    again = job("true", SLURM_RESTART_COUNT="1")
    again.communicate(timeout=60)
    assert _calls(tmp_path, "tune_bn")[-1].endswith("--study slurm-4711 --resume")
    assert len(_calls(tmp_path, "scontrol")) == 3


@pytest.mark.parametrize("status", [1, 2, 130])
def test_a_driver_that_ends_by_itself_ends_the_job_with_its_status(job: Job, tmp_path: Path, status: int) -> None:
    running = job(f"{STUDY} exit {status}")
    running.communicate(timeout=60)
    assert running.returncode == status
    assert len(_calls(tmp_path, "scontrol")) == 1


@pytest.mark.parametrize("options", [["--address", "auto"], ["--output=elsewhere"]])
def test_options_that_the_job_states_itself_are_refused(job: Job, tmp_path: Path, options: list[str]) -> None:
    running = job("true", *options)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 2
    assert said.startswith(f"error: {options[0]}: got it; accepted: ")
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("name", ["slurm.sh", "install.sh"])
def test_shellcheck_finds_nothing(name: str) -> None:
    shellcheck = shutil.which("shellcheck")
    command = ["bash", "-n"] if shellcheck is None else [shellcheck]
    done = subprocess.run([*command, str(SCRIPT.parent / name)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
