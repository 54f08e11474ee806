"""The benchmarks of speed in small: what is compared is the same work, and the arithmetic of the tables is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.tune.experiment import config_parser
from scipy import stats
from torch import Tensor

from benchmarks.measure import Spread, Timing, ratios, rows, take_turns
from benchmarks.results import RESULTS, save
from benchmarks.speed import driver_limits, end_to_end, evaluation, fusion, packing, roofline, speed, training_loop
from benchmarks.speed.bf16_parity import non_inferiority
from benchmarks.speed.end_to_end import FULL, OURS, PLAIN, REUSED, SAME_WORK, SMALL, Size
from benchmarks.speed.training_loop import OFFICIAL, Workload
from tune_bn.records.record import CONFIRM, SEARCH, SELECT
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.training import engine

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def test_everyone_works_once_per_round_in_an_order_that_turns() -> None:
    order: list[str] = []

    def contender(name: str) -> Any:
        return lambda: order.append(name) or 3.0

    timings = take_turns({name: contender(name) for name in "abc"}, 3, warm_up=1)
    assert "".join(order[3:]) == "abcbcacab"
    assert sorted(order[:3]) == ["a", "b", "c"]
    assert [(timing.round, timing.contender) for timing in timings] == [
        (number, name) for number, names in enumerate(("abc", "bca", "cab")) for name in names
    ]
    assert all(timing.amount == 3.0 and timing.rate == 3.0 / timing.seconds for timing in timings)


def test_a_ratio_is_taken_within_a_round() -> None:
    seconds = {(0, "a"): 1.0, (0, "b"): 2.0, (1, "a"): 10.0, (1, "b"): 30.0, (2, "a"): 5.0, (2, "b"): 5.0}
    timings = [Timing(number, name, value, 0.0, 60.0) for (number, name), value in seconds.items()]
    assert ratios(timings, "a", "b") == Spread(2.0, 1.0, 3.0, 3)
    assert Spread.of([1.0, 4.0, 2.0]).words(1) == "2.0 (1.0 to 4.0)"


@pytest.mark.parametrize(("arch", "lr", "apart"), [("resnet8", 0.1, 1e-6), ("resnet18", 0.003, 1e-4)])
def test_the_engine_and_the_official_loop_train_the_same_step_by_step(arch: str, lr: float, apart: float) -> None:
    """In fp32: memory is laid out otherwise, so that sums may round otherwise, which a deep network multiplies."""
    ours, theirs = training_loop.step_losses(Workload(arch, 16, 0, 1, 128), CPU, lr)
    assert len(ours) == len(theirs) == training_loop.PARITY_STEPS
    assert np.ptp(ours) > 0.03
    assert ours == pytest.approx(theirs, rel=apart)


def test_every_contender_trains_on_every_image(capsys: pytest.CaptureFixture[str]) -> None:
    workload = Workload("resnet8", 8, 40, 1, 16)
    found = training_loop.measure(workload, None, 1, compiled=False)
    assert {row["contender"] for row in found if row["part"] == "steps"} >= {
        OFFICIAL,
        training_loop.OURS,
        training_loop.MEMORY,
    }
    assert {row["amount"] for row in found} == {40.0}
    assert ratios(training_loop.part_of(found, "epoch"), OFFICIAL, OFFICIAL) == Spread(1.0, 1.0, 1.0, 1)
    text = training_loop.table(found)
    assert f"| {OFFICIAL} |" in text
    assert "largest relative difference" in capsys.readouterr().out


def test_fused_seeds_train_as_seeds_in_turn() -> None:
    seeds = fusion.Seeds(3, "resnet8", 8, 16, CPU)
    losses = seeds.in_turn()()
    assert len(set(losses.tolist())) == 3
    assert fusion.difference(seeds, steps=3) < 1e-3


def test_an_evaluation_is_measured_whole_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    plain = engine.to_input

    def to_input(images: Tensor, memory_format: str) -> Tensor:
        seen.append(len(images))
        return plain(images, memory_format)

    both = evaluation.contenders(Workload("resnet8", 8, 300, 1))
    monkeypatch.setattr(engine, "to_input", to_input)
    assert [evaluate() for evaluate in both.values()] == [300.0, 300.0]
    assert seen == [300, 256, 44]


def test_the_serial_bound_adds_the_times_of_computing_and_of_memory() -> None:
    workload = Workload("resnet18", 32, 1, None)
    # 0.5555 billion multiply-adds forward (He et al.'s ResNet-18 with the small stem).
    assert roofline.training_flops(workload) == pytest.approx(3.33e9, rel=0.01)
    compute, memory = (roofline.serial_bound(workload, "bf16", *rates) for rates in ((1e12, 1e30), (1e30, 1e9)))
    both = roofline.serial_bound(workload, "bf16", 1e12, 1e9)
    assert 1 / both == pytest.approx(1 / compute + 1 / memory)
    assert roofline.serial_bound(workload, "fp32", 1e30, 1e9) == pytest.approx(memory / 2)
    # All but the last pooling and the classifier is in proportion to the pixels.
    larger = Workload("resnet18", 64, 1, None)
    assert roofline.activation_passes(larger) == 4 * roofline.activation_passes(workload)


def test_passes_are_counted_layer_by_layer() -> None:
    """ResNet-8 on 8×8 by hand: (channels, pixels) in and out of every convolution, and of the norm after it."""
    layers = [((3, 64), (16, 64))] + [((16, 64), (16, 64))] * 2
    for before, after in ((16, 32), (32, 64)):
        pixels = 64 if before == 16 else 16
        first = ((before, pixels), (after, pixels // 4))
        layers += [first, ((after, pixels // 4), (after, pixels // 4))]
    found = roofline.activation_passes(Workload("resnet8", 8, 1, None))
    by_hand = sum(3 * a * b + (3 + 8) * c * d for (a, b), (c, d) in layers)
    # Shortcuts by convolution, where the network has them, come on top.
    shortcuts = [((16, 64), (32, 16)), ((32, 16), (64, 4))]
    with_shortcuts = by_hand + sum(3 * a * b + (3 + 8) * c * d for (a, b), (c, d) in shortcuts)
    assert found in (by_hand, with_shortcuts)


@pytest.mark.parametrize("kind", [packing.PROCESSES, packing.THREADS])
def test_runs_side_by_side_are_counted_together(kind: str) -> None:
    timing = packing.together(kind, 2, Workload("resnet8", 8, 32, 1, 16), 32, "fp32", 0.2)
    assert timing.contender == f"2 {kind}"
    assert timing.seconds >= 0.2
    assert timing.amount % 32 == 0
    assert timing.amount >= 64


def test_non_inferiority_is_a_paired_test_against_the_margin() -> None:
    rng = np.random.default_rng(0)
    reference = 95 + rng.standard_normal(20)
    lower = reference - 0.1 + 0.3 * rng.standard_normal(20)
    mean, low, p = non_inferiority(list(lower), list(reference), 0.5)
    assert mean == pytest.approx(float((lower - reference).mean()))
    assert p == pytest.approx(stats.ttest_rel(lower + 0.5, reference, alternative="greater").pvalue)
    assert (low > -0.5) == (p < 0.05)


def idle(number: int, trials: int, reports: int, cpu: float, seconds: float, warm: float) -> dict[str, Any]:
    return {
        "round": number,
        "trials": trials,
        "reports": reports,
        "seconds": seconds,
        "driver_cpu_seconds": cpu,
        "warm_seconds": warm,
        "warm_trials": trials - driver_limits.CONCURRENT,
    }


def linear(trials: int, number: int = 0) -> list[dict[str, Any]]:
    """A driver with 10 ms a trial and 2 ms a report."""
    return [
        idle(number, trials, reports, trials * (0.010 + 0.002 * reports), trials * 0.05, (trials - 2) * 0.04)
        for reports in (1, 6)
    ]


def test_costs_of_trials_and_reports_are_told_apart() -> None:
    found = linear(100) + linear(100, 1) + linear(1000)
    cost = driver_limits.costs(found, 100)
    assert (cost["trial"].median, cost["report"].median) == pytest.approx((10.0, 2.0))
    assert cost["reused"].median == pytest.approx(0.08)
    assert cost["report"].n == 2
    assert driver_limits.capacity(found) == (250, pytest.approx(2.0))
    assert driver_limits.growth(found) == pytest.approx(1.0)
    slower = [row | {"driver_cpu_seconds": 3 * row["driver_cpu_seconds"]} for row in linear(10_000)]
    assert driver_limits.growth(found + slower) == pytest.approx(3.0)


def test_idle_trials_pass_through_the_real_runner(warm_ray: None) -> None:
    connect(RayOptions(init={"num_cpus": 2}))
    try:
        found = driver_limits.one_stage(6, 3)
    finally:
        ray.shutdown()
    assert (found["trials"], found["reports"], found["warm_trials"]) == (6, 3, 4)
    assert 0 < found["warm_seconds"] < found["seconds"]
    assert found["driver_cpu_seconds"] > 0


def test_the_table_says_what_was_reached_and_what_was_missed(tmp_path: Path) -> None:
    machine = {"cpu": "a CPU", "cores": 2, "threads": 2, "isa": "AVX512"}
    made = {"command": "x", "commit": None, "versions": {}, "seconds": 1, "hardware": machine}
    seconds = {"official loop": 3.0, "official loop, 4 workers": 2.0, "ours, fp32": 1.0}
    for arch, scale in (("resnet18", 1.0), ("resnet8", 2.5)):
        timings = [
            Timing(number, name, value * (scale if name == "ours, fp32" else 1), 0.0, 10.0)
            for number in range(5)
            for name, value in seconds.items()
        ]
        found = rows(timings, workload=f"{arch}, 32×32", threads=2, part="epoch")
        save("training_loop", found, made, {}, tmp_path)
        text = speed.table(tmp_path)
        if arch == "resnet18":
            assert "| ≥ 2.2 × | 3.00 (3.00 to 3.00): reached | × official loop; 2.00 (2.00 to 2.00) × " in text
        else:
            assert "| ≥ 1.5 × | 1.20 (1.20 to 1.20): **missed** |" in text
    save("driver_limits", linear(100) + linear(1000), made, {}, tmp_path)
    text = speed.table(tmp_path)
    assert "| Ray per reused trial | ≤ 0.15 s | 0.08 (0.08 to 0.08): reached |" in text
    assert "| linear: 1 × | 1.00 × |" in text
    assert text.endswith("Measured on 2 cores of a CPU (AVX512).")


def test_goals_of_a_gpu_are_those_of_a_gpu(tmp_path: Path) -> None:
    machine = {"cpu": "a CPU", "cores": 16, "threads": 16, "isa": "AVX512", "gpu": "a GPU"}
    made = {"command": "x", "commit": None, "versions": {}, "seconds": 1, "hardware": machine}
    found = [
        {"workload": "resnet18, 32×32", "precision": "bf16", "round": 0, "contender": "resnet18", "share": 40.0},
        {"workload": "resnet50, 32×32", "precision": "bf16", "round": 0, "contender": "resnet50", "share": 46.0},
    ]
    save("roofline", found, made, {}, tmp_path)
    text = speed.table(tmp_path)
    assert "| resnet18, 32×32, bf16 | ≥ 50 % | 40.00 (40.00 to 40.00): **missed** |" in text
    assert "| resnet50, 32×32, bf16 | ≥ 45 % | 46.00 (46.00 to 46.00): reached |" in text
    assert "a GPU, 16 cores" in text


def test_the_loop_benchmark_runs_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.speed.training_loop", "--rounds", "1", "--workloads", "resnet8-thread"]
    command += ["--train", "32", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    made = json.loads((tmp_path / "training_loop.json").read_text())
    assert made["command"].startswith("python -m benchmarks.speed.training_loop --rounds 1")
    assert made["hardware"]["cores"] >= 1
    assert training_loop.OURS in done.stdout


def test_what_runs_on_a_bare_gpu_machine_loads_none_of_the_adapters() -> None:
    names = "training_loop, roofline, packing, fusion, checkpoints, bf16_parity"
    imports = f"from benchmarks.speed import {names}; from benchmarks.gpu import reproduce_gpu"
    check = f"import sys; {imports}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=300)
    loaded = set(done.stdout.split())
    assert {"torch", "tune_bn.training.engine", "benchmarks.speed.packing"} <= loaded
    assert not {"ray", "optuna", "mlflow", "pydantic", "yaml", "matplotlib", "typer", "rich"} & loaded


def test_what_tune_pickles_for_every_trial_does_not_grow_with_the_trials(
    warm_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune writes the options of an experiment as a command line for every trial, functions and all."""
    sizes: list[int] = []
    written = config_parser._to_argv

    def weigh(config: dict[str, Any]) -> list[str]:
        found = written(config)
        sizes.append(sum(map(len, found)))
        return found

    monkeypatch.setattr(config_parser, "_to_argv", weigh)
    connect(RayOptions(init={"num_cpus": 2}))
    try:
        driver_limits.one_stage(30, 1)
    finally:
        ray.shutdown()
    assert len(sizes) == 30
    assert sizes[-1] < 1.05 * sizes[0]


@pytest.mark.parametrize(
    ("size", "words", "goal"), [(FULL, "the digits study", "≥ 5 ×"), (SMALL, "a small digits", "")]
)
def test_only_a_study_of_the_full_size_is_held_against_the_goal(
    size: Size, words: str, goal: str, tmp_path: Path
) -> None:
    seconds = {PLAIN: 30.0, REUSED: 20.0, OURS: 10.0, SAME_WORK: 15.0}
    found = [{"round": number, "contender": name, "seconds": s} for number in range(2) for name, s in seconds.items()]
    machine = {"cpu": "a CPU", "cores": 2, "threads": 2, "isa": "AVX512"}
    made = {"command": "x", "commit": None, "seconds": 1, "hardware": machine, "size": vars(size)}
    save("end_to_end", found, made, {}, tmp_path)
    lines = [line for line in speed.table(tmp_path).splitlines() if words in line]
    assert len(lines) == 2
    assert f"| {goal} | 3.00 (3.00 to 3.00)" in lines[0]
    assert ("**missed**" in lines[0]) == (size is FULL)
    assert "2.00 (2.00 to 2.00) × the same with actors reused" in lines[0]


def test_rounds_are_added_to_those_of_the_same_machine_alone(tmp_path: Path) -> None:
    like = {"hardware": {"cpu": "a CPU"}, "versions": {"ray": "2"}, "size": vars(FULL)}
    assert end_to_end.measured_before(tmp_path, like) == []
    written = {
        "round": 2,
        "contender": PLAIN,
        "seconds": 30.5,
        "prompt_seconds": None,
        "baseline_scores": '{"1": 95.2}',
    }
    save("end_to_end", [written], {"command": "x", "commit": "abc", "seconds": 1} | like, {}, tmp_path)
    assert end_to_end.measured_before(tmp_path, like) == [{"commit": "abc", **written}]
    with pytest.raises(SystemExit, match=r"end_to_end.json: versions: .*'2'.*; accepted by --add: .*'3'"):
        end_to_end.measured_before(tmp_path, like | {"versions": {"ray": "3"}})


def test_waits_are_what_is_left_between_the_runs() -> None:
    stages = [SEARCH, SEARCH, SELECT, CONFIRM, CONFIRM]
    ends = [10.0, 12.5, 15.0, 18.0, 21.0]
    lines = [(1.0, "ray  starting on this machine …"), (6.0, "search  2 runs planned")]
    lines += [(at, f"{stage}  trial 0 seed 1  gamma=1  completed 4/4") for stage, at in zip(stages, ends, strict=True)]
    lines.append((21.1, "report  verdict, pages and pictures …"))
    records = [
        SimpleNamespace(stage=stage, duration_seconds=seconds)
        for stage, seconds in zip(stages, (3, 2, 2, 2, 2), strict=True)
    ]
    found = end_to_end.waits(lines, records, 24.0)
    assert found == {end_to_end.FIRST_RUN: 7.0, end_to_end.NEXT_STAGE: 1.0, end_to_end.PROMPT: 3.0}


def test_the_table_of_goals_is_that_of_the_committed_results() -> None:
    assert (RESULTS / "speed.md").read_text() == speed.table(RESULTS) + "\n"
