"""Bad input as a user types it: one line, exit status 2, nothing started, nothing lost, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import warm
from tune_bn.space.file import dump_yaml
from tune_bn.space.loading import parse_space
from tune_bn.study.folder import StudyFolder

SPACE: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "resnet8"},
    "data": {"source": "digits", "train_size": 40, "val_size": 40, "test_size": 40},
    "train": {"epochs": 1, "batch_size": 20},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}},
    "budget": {"trials": 1, "finalists": 1},
    "seeds": {"search": [101], "select": [201], "confirm": [1, 2]},
}
COMMAND = [sys.executable, "-m", "tune_bn"]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(dump_yaml(SPACE))
    return tmp_path


def tune_bn(workplace: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return warm.run(list(arguments), cwd=workplace, timeout=120, **options)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refusal(workplace: Path, *arguments: str) -> str:
    """The one line that a refused command says; nothing else may have happened."""
    before = tree(workplace)
    # Python's cache of a user's own module is no trace of the command.
    done = tune_bn(workplace, *arguments, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 2, done.stderr
    # Some data is only read once Ray is on its way.
    assert done.stdout == "" or re.fullmatch(r"ray  (starting on this machine|joining \S+) …\n", done.stdout)
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith("\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert tree(workplace) == before
    return done.stderr.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: [", "bad.yaml:1:8: not YAML ("),
        ("", "bad.yaml: got an empty file; accepted: a mapping with the keys name, model"),
        ("name: \udcff", "bad.yaml: is not UTF-8 text; accepted: a YAML file"),
        ("# " + "x" * 2**20, "bad.yaml: is too large; accepted: a space file of at most 1,048,576 bytes"),
        ("a: &a [x]\nb: *a\n", "bad.yaml:2:4: not YAML (aliases are not accepted)"),
        ("name: x\nname: y\n", "bad.yaml:2:1: not YAML (the key 'name' stands twice)"),
        (
            "name: x\ntrian: {}\nsearch: {gamma: {uniform: [0.1, 1]}}\n",
            "bad.yaml: trian: no such key; accepted: train (",
        ),
        ("name: x\nsearch: {gamma: {log_uniform: [1, 0.1]}}\n", "bad.yaml: search.gamma.log_uniform: got [1, 0.1]; "),
        ("name: x\nsearch: {c: {log_uniform: [.nan, 1]}}\n", "bad.yaml: search.c.log_uniform: got [nan, 1]; "),
        ('"a\\nb": 1\n', r"bad.yaml: a\nb: no such key; accepted: "),
    ],
)
def test_a_bad_file_is_refused(workplace: Path, text: str, problem: str) -> None:
    (workplace / "bad.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert refusal(workplace, "search", "--space", "bad.yaml").startswith(problem)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--trials", "0"], "tiny.yaml with budget.trials=0: budget.trials: got 0; accepted: an integer ≥ 1"),
        (["--set", "garbage"], "--set garbage: accepted: KEY=VALUE"),
        (
            ["--set", "seeds.confirm=[1]"],
            "tiny.yaml with seeds.confirm=[1]: seeds.confirm: got [1]; accepted: a list of",
        ),
        (["--set", "seeds.select=[2]"], "tiny.yaml with seeds.select=[2]: seeds.confirm: got 2; accepted: a seed used"),
        (["--set", "tracking.uri=foo://x"], "tiny.yaml with tracking.uri=foo://x: tracking.uri: got 'foo://x'"),
        (["--set", "tracking.uri=mlruns"], "tiny.yaml with tracking.uri=mlruns: tracking.uri: got 'mlruns'"),
        (
            ["--set", "data={source: folder}"],
            "tiny.yaml with data={source: folder}: data.root: got null; accepted: a f",
        ),
        (
            ["--set", "data={source: folder, root: /no}"],
            "tiny.yaml with data={source: folder, root: /no}: data.root: go",
        ),
        (
            ["--set", "data.train_size=5000"],
            "tiny.yaml with data.train_size=5000: data.train_size: got 5000; accepted: ",
        ),
        (["--study", "../../x"], "--study: got '../../x'; accepted: letters, digits"),
        (["--study", ""], "--study: got ''; accepted: letters, digits"),
        (["--study", ".."], "--study: got '..'; accepted: letters, digits"),
        (["--study", "x" * 81], "--study: got 'xxx"),
        (["--resume"], "--resume: studies has no study of the space tiny; accepted: --study NAME"),
        (["--resume", "--study", "absent"], "STUDY: got absent; accepted: a study in "),
        (["--resume", "--study", "../../x"], "STUDY: got x; accepted: a study in "),
        (["--warm-start", "absent"], "--warm-start: got absent; accepted: a study in "),
        (["--warm-start", ""], "--warm-start: got ''; accepted: letters, digits"),
        (
            ["--warm-start", "a", "--resume"],
            "--warm-start: got 'a' beside --resume; accepted: --resume alone",
        ),
        (
            ["--output", "tiny.yaml"],
            "--output: tiny.yaml cannot be written (Not a directory); accepted: a folder that can",
        ),
        (["--output", "tiny.yaml/x"], "--output: tiny.yaml/x cannot be written (Not a directory)"),
        (["--output", "/proc/x"], "--output: /proc/x cannot be written ("),
        (["--output", "x" * 300], "--output: xxx"),
        (["--output", "x" * 300, "--resume"], "--output: xxx"),
    ],
)
def test_a_bad_option_of_a_search_is_refused(workplace: Path, options: list[str], problem: str) -> None:
    assert refusal(workplace, "search", "--space", "tiny.yaml", *options).startswith(problem)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["validate", "--space", "absent.yaml"],
            "--space: got 'absent.yaml', which is not found; accepted: a path, or one",
        ),
        (["validate", "--space", "."], "--space: got '.', which is a folder; accepted: a path, or one of "),
        (["train", "--space", "tiny.yaml", "--gamma", "nan"], "--gamma: got nan; accepted: a number in (0, 1]"),
        (["train", "--space", "tiny.yaml", "--c", "0"], "--c: got 0.0; accepted: a number > 0"),
        (["confirm", "absent"], "STUDY: got absent; accepted: a study in "),
        (["verify", "../x/y"], "STUDY: got y; accepted: a study in "),
        (["report", "a b"], "--study: got 'a b'; accepted: letters, digits"),
        (["status", "absent"], "STUDY: got absent; accepted: a study in "),
        (["ui"], "--output: studies has no mlflow.db; accepted: "),
        (["ui", "--uri", "foo://x"], "--uri: got 'foo://x'"),
    ],
)
def test_a_bad_argument_of_a_verb_is_refused(workplace: Path, arguments: list[str], problem: str) -> None:
    assert refusal(workplace, *arguments).startswith(problem)


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["search", "--frob"], ["search", "--trials", "x"], ["train", "--seed", "-1"], ["verify"]],
)
def test_wrong_usage_is_status_2_without_a_traceback(workplace: Path, arguments: list[str]) -> None:
    done = tune_bn(workplace, *arguments)
    assert done.returncode == 2
    assert "Usage: " in done.stderr
    assert "Traceback" not in done.stderr


def begun(workplace: Path, **changes: Any) -> StudyFolder:
    space = parse_space(SPACE | changes, "tiny.yaml")
    return StudyFolder(workplace / "studies" / "one").created(space)


def test_a_name_that_exists_is_refused(workplace: Path) -> None:
    begun(workplace)
    problem = refusal(workplace, "search", "--space", "tiny.yaml", "--study", "one")
    assert problem.startswith("--study: got one, which exists in ")
    assert problem.endswith("; accepted: --resume to go on with it, or another name")


def test_a_study_of_another_space_is_not_resumed(workplace: Path) -> None:
    begun(workplace, train={"epochs": 2, "batch_size": 20})
    problem = refusal(workplace, "search", "--space", "tiny.yaml", "--study", "one", "--resume")
    assert "which was made from another space (they differ in train.epochs); accepted: the same space" in problem


def test_a_spoilt_study_beside_it_does_not_stop_a_resume(workplace: Path) -> None:
    begun(workplace)
    spoilt = workplace / "studies" / "spoilt"
    spoilt.mkdir()
    (spoilt / "space.yaml").write_text("name: [")
    with StudyFolder(workplace / "studies" / "one").locked():
        # Had the spoilt study been taken, or read in vain, its name would be in the error.
        problem = refusal(workplace, "search", "--space", "tiny.yaml", "--resume", "--set", "data.val_size=9999")
    assert problem.startswith("--study: got one, which was made from another space (they differ in data.val_size)")


def test_a_study_is_named_by_its_folder_too(workplace: Path) -> None:
    folder = begun(workplace)
    for name in ("studies/one", str(folder.path), "./studies/../studies/one"):
        done = tune_bn(workplace, "status", name, "--json")
        assert [row["study"] for row in json.loads(done.stdout)] == ["one"]


def image_folder(workplace: Path) -> Path:
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = workplace / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(8):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    (workplace / "tiny.yaml").write_text(
        dump_yaml(SPACE | {"data": {"source": "folder", "root": str(workplace / "images")}})
    )
    return workplace / "images"


def test_a_missing_split_is_refused(workplace: Path) -> None:
    root = image_folder(workplace)
    (root / "test").rename(root / "tset")
    problem = refusal(workplace, "search", "--space", "tiny.yaml")
    assert problem.startswith(
        f"tiny.yaml: data.root: got '{root}', which has no test/ beside train/, tset/; accepted: a folder with train/"
    )


def test_an_empty_class_is_refused(workplace: Path) -> None:
    root = image_folder(workplace)
    for path in (root / "train" / "dog").iterdir():
        path.unlink()
    problem = refusal(workplace, "search", "--space", "tiny.yaml")
    assert problem == f"{root}/train/dog: an empty class; accepted: at least one image"


def test_a_class_that_test_lacks_is_refused(workplace: Path) -> None:
    root = image_folder(workplace)
    (root / "test" / "dog").rename(workplace / "dog")
    problem = refusal(workplace, "search", "--space", "tiny.yaml")
    assert problem == f"{root}/test: lacks the class 'dog', which train has; accepted: the same classes in both"


def test_a_text_among_the_images_is_refused(workplace: Path) -> None:
    root = image_folder(workplace)
    (root / "train" / "dog" / "notes").write_text("a text")
    problem = refusal(workplace, "search", "--space", "tiny.yaml")
    assert problem.startswith(f"{root}/train/dog/notes: not an image that Pillow can identify; accepted: ")


def test_a_damaged_image_is_refused_before_anything_starts(workplace: Path) -> None:
    """Its header is whole: only decoding it, which comes last, shows the damage."""
    path = image_folder(workplace) / "train" / "dog" / "7.png"
    path.write_bytes(path.read_bytes()[:-25])
    problem = refusal(workplace, "search", "--space", "tiny.yaml")
    assert problem.startswith(f"{path}: unreadable (")
    assert problem.endswith("; accepted: a whole image file")


@pytest.mark.parametrize(
    ("verb", "override", "problem"),
    [
        (
            "validate",
            "model.arch=torchvision/resnet19",
            "model.arch: got 'torchvision/resnet19'; accepted: torchvision/re",
        ),
        ("train", "model.arch=torchvision/inception_v3", "model.arch: got 'torchvision/inception_v3', which raised"),
        (
            "train",
            "model.gamma={per_stage: [0.1]}",
            "model.gamma.per_stage: got [0.1]; accepted: 3 values, one for each",
        ),
        (
            "search",
            "model.arch=own:broken",
            "model.arch: got 'own:broken', which raised KeyError: 'weights'; accepted: a f",
        ),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused(workplace: Path, verb: str, override: str, problem: str) -> None:
    (workplace / "own.py").write_text("def broken(in_channels, num_classes):\n    raise KeyError('weights')\n")
    line = refusal(workplace, verb, "--space", "tiny.yaml", "--set", override)
    assert line.startswith(f"tiny.yaml with {override}: {problem}")


def test_more_gpus_than_there_are_are_refused(workplace: Path) -> None:
    problem = refusal(workplace, "search", "--space", "tiny.yaml", "--set", "resources.gpu=64")
    assert problem.startswith("tiny.yaml with resources.gpu=64: resources.gpu: got 64 per trial, but this process may ")
    assert "; accepted: at most " in problem
    assert problem.endswith(", or --address of a cluster")


def test_an_unreachable_cluster_is_refused(workplace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    problem = refusal(workplace, "search", "--space", "tiny.yaml", "--study", "one", "--address", address)
    assert problem.startswith(f"--address: got '{address}', which cannot be reached (")
    assert problem.endswith(
        "; accepted: auto or HOST[:PORT] of a running Ray cluster, or no --address for this machine"
    )


def test_a_reader_that_goes_away_changes_nothing(workplace: Path, synthetic_study: Callable[..., Any]) -> None:
    """``| head`` closes the pipe; the exit status stays that of the verdict."""
    whole = synthetic_study(n=3)
    whole.write(workplace / "studies" / "whole")
    whole.with_records(whole.records[:-1]).write(workplace / "studies" / "unpaired")
    for arguments, status in ((["status"], 0), (["verify", "whole"], 0), (["verify", "unpaired", "--json"], 1)):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=workplace, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (status, b"")


def test_a_terminal_without_greek_letters_is_no_error(workplace: Path, synthetic_study: Callable[..., Any]) -> None:
    synthetic_study(n=3).write(workplace / "studies" / "whole")
    done = tune_bn(workplace, "verify", "whole", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "\\u03b3 = " in done.stdout


def test_status_of_nothing(workplace: Path) -> None:
    done = tune_bn(workplace, "status")
    assert (done.returncode, done.stdout, done.stderr) == (0, "no studies in studies\n", "")
    assert json.loads(tune_bn(workplace, "status", "--json").stdout) == []


def test_the_version_is_printed(workplace: Path) -> None:
    done = tune_bn(workplace, "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("tune_bn ")
