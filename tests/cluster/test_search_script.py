"""cluster/search.py: what it adds to the arguments of ``tune_bn search``, and how it fails."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tune_bn.errors import SpecError
from tune_bn.space.loading import load_space

SCRIPT = Path(__file__).parents[2] / "cluster" / "search.py"
GPU_SPACE = "name: gpus\nsearch: {gamma: {log_uniform: [0.01, 1.0]}}\nresources: {cpu: 2, gpu: 1}\n"


@pytest.fixture(scope="module")
def search_arguments() -> Callable[..., list[str]]:
    spec = importlib.util.spec_from_file_location("cluster_search", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments: Callable[..., list[str]] = module.search_arguments
    return arguments


def _bootstrap(folder: Path, *, max_workers: int = 8, **workers: tuple[int, dict[str, int]]) -> Path:
    """What ``ray up`` leaves on the head of a cluster: types of workers by name, with how many there may be of each."""
    types: dict[str, Any] = {
        name: {"min_workers": 0, "max_workers": count, "resources": resources, "node_config": {}}
        for name, (count, resources) in workers.items()
    }
    types["head"] = {"min_workers": 0, "max_workers": 0, "resources": {"CPU": 64, "GPU": 64}, "node_config": {}}
    path = folder / "ray_bootstrap_config.yaml"
    cluster = {"max_workers": max_workers, "head_node_type": "head", "available_node_types": types}
    cluster["provider"] = {"type": "aws", "price_per_device_hour": 0.5}
    path.write_text(yaml.safe_dump(cluster), encoding="utf-8")
    return path


def _run(*arguments: str, options: tuple[str, ...] = (), home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=home, env={"HOME": str(home)}, timeout=120)


@pytest.mark.parametrize("given", [["--space", "resnet.yaml", "--trials", "3"], ["--set", "train.epochs=5"], []])
def test_it_runs_on_the_cluster_around_it(
    search_arguments: Callable[..., list[str]], tmp_path: Path, given: list[str]
) -> None:
    assert search_arguments(given, tmp_path / "none") == ["search", "--job", *given]


@pytest.mark.parametrize("option", ["--set", "--space", "--address"])
def test_an_option_without_its_value_is_left_to_the_search(
    search_arguments: Callable[..., list[str]], tmp_path: Path, option: str
) -> None:
    given = ["--trials", "3", option]
    assert search_arguments(given, _bootstrap(tmp_path)) == ["search", "--job", *given]


@pytest.mark.parametrize("address", [["--address", "10.0.0.1:6379"], ["--address=10.0.0.1:6379"]])
def test_an_address_that_is_given_is_kept_and_nothing_is_assumed_of_that_cluster(
    search_arguments: Callable[..., list[str]], tmp_path: Path, address: list[str]
) -> None:
    bootstrap = _bootstrap(tmp_path, gpus=(4, {"CPU": 4, "GPU": 1}))
    assert search_arguments(["--trials", "3", *address], bootstrap) == ["search", "--trials", "3", *address]


def test_a_leading_double_dash_is_dropped(search_arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    given = ["--", "--space", "a.yaml"]
    assert search_arguments(given, tmp_path / "none") == search_arguments(given[1:], tmp_path / "none")


@pytest.mark.parametrize(
    ("overrides", "workers", "max_workers", "trials"),
    [
        ([], {"a": (4, {"CPU": 8, "GPU": 1})}, 8, 4),
        ([], {"a": (4, {"CPU": 8, "GPU": 8})}, 8, 16),  # eight cores have room for four trials of two
        (["resources.gpu=0.25"], {"a": (3, {"CPU": 96, "GPU": 1})}, 8, 12),
        (["resources.gpu=0"], {"a": (3, {"CPU": 4})}, 8, 6),
        ([], {"a": (4, {"CPU": 8, "GPU": 1}), "b": (2, {"CPU": 16, "GPU": 4})}, 3, 9),
    ],
)
def test_a_search_may_begin_before_the_autoscaler_has_brought_a_node(
    search_arguments: Callable[..., list[str]],
    tmp_path: Path,
    overrides: list[str],
    workers: dict[str, tuple[int, dict[str, int]]],
    max_workers: int,
    trials: int,
) -> None:
    space = tmp_path / "gpus.yaml"
    space.write_text(GPU_SPACE, encoding="utf-8")
    given = ["--space", str(space), *(word for override in overrides for word in ("--set", override))]
    arguments = search_arguments(given, _bootstrap(tmp_path, max_workers=max_workers, **workers))

    assert arguments[-len(given) :] == given, "what was given comes last, so it wins"
    sets = [value for flag, value in pairwise(arguments) if flag == "--set"]
    resources = load_space(space, sets).resources
    assert resources.elastic
    assert resources.max_concurrent == trials
    assert resources.price_per_device_hour == (0.5 if resources.gpu else None), "the price of a GPU"
    assert load_space(space, sets).budget.max_failures > load_space(space).budget.max_failures


@pytest.mark.parametrize(
    ("own", "workers"),
    [
        ("max_concurrent: 2", {"a": (4, {"CPU": 8, "GPU": 1})}),  # the space says how much it wants
        ("elastic: false", {"a": (4, {"CPU": 8, "GPU": 1})}),
        ("gpu: 2", {"a": (4, {"CPU": 8, "GPU": 1})}),  # no worker is large enough: the search must say so, not wait
        ("gpu: 1", {"a": (4, {})}),  # a cluster that does not say what its nodes have
        ("gpu: 0", {}),
    ],
)
def test_nothing_is_added_where_the_space_decides_or_growth_is_no_help(
    search_arguments: Callable[..., list[str]], tmp_path: Path, own: str, workers: dict[str, Any]
) -> None:
    space = tmp_path / "gpus.yaml"
    resources = own if own.startswith("gpu") else f"gpu: 1, {own}"
    space.write_text(GPU_SPACE.replace("gpu: 1", resources), encoding="utf-8")
    arguments = search_arguments(["--space", str(space)], _bootstrap(tmp_path, **workers))
    assert not [word for word in arguments if "elastic" in word or "max_concurrent" in word]


def test_what_the_space_says_of_tracking_price_and_failures_is_kept(
    search_arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    bootstrap = _bootstrap(tmp_path, a=(4, {"CPU": 8, "GPU": 1}))
    space = tmp_path / "gpus.yaml"
    space.write_text(GPU_SPACE, encoding="utf-8")
    server = "http://127.0.0.1:5000"
    sets = [word for word in search_arguments(["--space", str(space)], bootstrap, server) if "=" in word]
    assert f"tracking.uri={server}" in sets
    own = GPU_SPACE.replace("gpu: 1}", "gpu: 1, price_per_device_hour: 2}") + (
        "budget: {max_failures: 1}\ntracking: {uri: 'http://elsewhere:5000'}\n"
    )
    space.write_text(own, encoding="utf-8")
    arguments = search_arguments(["--space", str(space)], bootstrap, server)
    assert not [word for word in arguments if "tracking" in word or "price" in word or "failures" in word]


def test_an_elastic_space_must_say_how_many_trials_the_grown_cluster_runs(tmp_path: Path) -> None:
    space = tmp_path / "gpus.yaml"
    space.write_text(GPU_SPACE, encoding="utf-8")
    with pytest.raises(SpecError, match=r"resources\.max_concurrent: got None; accepted: .*elastic"):
        load_space(space, ["resources.elastic=true"])
    assert load_space(space, ["resources.elastic=true", "resources.max_concurrent=8"]).resources.max_concurrent == 8


def test_a_head_without_the_package_is_told_so_in_one_line(tmp_path: Path) -> None:
    done = _run("--space", "digits.yaml", options=("-S",), home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: tune_bn is not installed")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.long
def test_bad_input_is_told_as_tune_bn_tells_it(tmp_path: Path) -> None:
    _bootstrap(tmp_path, gpus=(4, {"CPU": 4, "GPU": 1}))
    done = _run("--", "--space", "nowhere.yaml", home=tmp_path)
    assert done.returncode == 2
    assert re.match(r"error: --space: .*nowhere\.yaml.*; accepted: ", done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "studies").exists()


@pytest.mark.long
def test_it_takes_the_options_of_tune_bn_search(tmp_path: Path) -> None:
    done = _run("--help", home=tmp_path)
    assert done.returncode == 0
    assert "tune_bn search" in done.stdout
    for option in ("--space", "--trials", "--set", "--study", "--output", "--address", "--resume"):
        assert option in done.stdout
