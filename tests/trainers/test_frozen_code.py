"""What is frozen of a stranger's folder: all code that a run may run, wherever it lies, and no data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.trainers.test_check_finds_traps import RIGHT
from tune_bn.errors import ConfigError, SpecError
from tune_bn.protocols.trainer import Place
from tune_bn.space.loading import load_space
from tune_bn.trainers.check import Checker
from tune_bn.trainers.checked import WRONG
from tune_bn.trainers.choose import trainer_of
from tune_bn.trainers.command import code as code_module
from tune_bn.trainers.command.code import FrozenCode, freeze
from tune_bn.trainers.command.trainer import CommandTrainer
from tune_bn.trainers.opened_files import loaded_modules, not_frozen


def git(folder: Path, *words: str) -> None:
    settings = ["-c", "user.email=a@b", "-c", "user.name=a", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True)


def repository(folder: Path, files: dict[str, str]) -> Path:
    """A repository in which these files are tracked."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return folder


def test_a_submodule_and_a_repository_within_are_frozen(tmp_path: Path) -> None:
    library = repository(tmp_path / "library", {"mod.py": "", "deep/more.py": ""})
    mine = repository(tmp_path / "mine", {"train.py": "", ".gitignore": "ignored.py\n"})
    git(mine, "submodule", "add", str(library), "sub")
    repository(mine / "cloned", {"other.py": ""})
    (mine / "cloned/new.py").touch()
    (mine / "ignored.py").touch()
    frozen = freeze(mine, "git")
    assert {"train.py", "sub/mod.py", "sub/deep/more.py", "cloned/other.py", "cloned/new.py"} <= set(frozen.names)
    assert [name for name in frozen.links if name.endswith(".py")] == ["ignored.py"]


@pytest.mark.parametrize("code", ["git", ["train.py", "src"]], ids=["git", "list"])
def test_code_behind_a_link_is_frozen_and_data_behind_one_is_linked(code: Any, tmp_path: Path) -> None:
    mine, elsewhere, data = tmp_path / "mine", tmp_path / "elsewhere", tmp_path / "data"
    for folder in (mine / "src", elsewhere, data):
        folder.mkdir(parents=True)
    for name in ("__init__.py", "mod.py", "weights.bin"):
        (elsewhere / name).touch()
    (elsewhere / "again").symlink_to(elsewhere)
    (data / "rows.txt").touch()
    (mine / "src/package").symlink_to(elsewhere)
    (mine / "src/data").symlink_to(data)
    (mine / "src/one.py").symlink_to(elsewhere / "mod.py")
    repository(mine, {"train.py": ""})
    frozen = freeze(mine, code)
    assert {"src/package/__init__.py", "src/package/mod.py", "src/one.py"} <= set(frozen.names)
    assert not [name for name in frozen.names if name.endswith(("rows.txt", "weights.bin"))]
    frozen.unpack(tmp_path / "copy")
    assert not (tmp_path / "copy/src/package/mod.py").is_symlink()
    assert (tmp_path / "copy/src/package/weights.bin").resolve() == elsewhere / "weights.bin"
    assert (tmp_path / "copy/src/data/rows.txt").resolve() == data / "rows.txt"


def test_what_is_large_is_named_and_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").touch()
    with open(tmp_path / "images.bin", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=r"it has 1,048,576 MiB, of which images.bin has 1,048,576\); what the list"):
        freeze(tmp_path, ["."])
    (tmp_path / "images.bin").unlink()
    monkeypatch.setattr(code_module, "MOST_FILES", 5)
    (tmp_path / "images").mkdir()
    for number in range(8):
        (tmp_path / f"images/{number}.png").touch()
    with pytest.raises(ConfigError, match=r"it has 9 files, of which images has 8\)"):
        freeze(tmp_path, ["."])


def test_the_labels_of_a_data_set_are_no_code(tmp_path: Path) -> None:
    repository(tmp_path, {"train.py": "", "conf/a.json": "{}", "data/known.json": "{}"})
    (tmp_path / "data/labels").mkdir()
    for number in range(300):
        (tmp_path / f"data/labels/{number}.txt").write_text("0 0.5 0.5")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "data/new.json").touch()
    frozen = freeze(tmp_path, "git", data=[tmp_path / "data"])
    assert sorted(frozen.names) == ["conf/a.json", "data/known.json", "notes.txt", "train.py"]
    assert {"data/labels", "data/new.json"} <= set(frozen.links)
    assert not [name for name in freeze(tmp_path, "git").names if "labels" in name]


def test_an_environment_beside_the_code_is_linked(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    assert freeze(tmp_path, ["."]).links == (".venv",)


def space_of(folder: Path, script: str = RIGHT, **trainer: Any) -> Any:
    """A space beside a script."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text(script)
    section = {
        "command": ["python", "train.py"],
        "code": ["train.py"],
        "steps": 4,
        "score": {"validation": "val", "test": "test", "goal": "max"},
        "meaning": {"gamma": "the length of a step"},
        **trainer,
    }
    content = {
        "name": "x",
        "trainer": {key: value for key, value in section.items() if value is not None},
        "search": {"gamma": {"uniform": [0.1, 1.0]}},
        "claim": {"about": ["gamma"], "baseline": {"gamma": 1.0}},
        "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3]},
    }
    (folder / "space.yaml").write_text(yaml.safe_dump(content))
    return load_space(folder / "space.yaml")


NO_SHELL = {
    "a variable": (["python", "train.py", "--data=$HOME/data"], r"'--data=\$HOME/data'; accepted: its value"),
    "one in braces": (["python", "train.py", "${HOME}"], "accepted: its value"),
    "and then": (["python", "train.py", "&&", "echo"], "got '&&'; accepted: words of one program"),
    "a file to write": (["python", "train.py", ">", "log"], "got '>'; accepted"),
    "a variable first": (["SEED=1", "python", "train.py"], "got 'SEED=1'; accepted: a program; variables stand in"),
    "up": (["python", "train.py", "--data=../data.csv"], r"'--data=../data.csv'; accepted: /.*/data.csv, since"),
    "a configuration": (["python", "train.py", "--conf=c.yaml"], "code that holds c.yaml, which a command"),
}


@pytest.mark.parametrize("name", NO_SHELL)
def test_words_for_a_shell_are_refused(name: str, tmp_path: Path) -> None:
    command, said = NO_SHELL[name]
    (tmp_path / "data.csv").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/c.yaml").touch()
    with pytest.raises(SpecError, match=said):
        trainer_of(space_of(tmp_path / "mine", command=command))


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "python train.py --data=$HOME && true"],
        [
            "python",
            "train.py",
            "price in $",
            "x" * 5000,
            "../" + "y" * 5000,
            "${model.lr}",
            "a=>b",
            "--data=big.npz",
            "$no_such_variable_here",
        ],
    ],
)
def test_words_that_need_no_shell_are_taken(command: list[str], tmp_path: Path) -> None:
    tmp_path.joinpath("big.npz").touch()
    trainer = trainer_of(space_of(tmp_path, command=command))
    assert isinstance(trainer, CommandTrainer)
    assert trainer.settings.command == tuple(command)


def line(space: Any, folder: Path) -> str:
    """What the check says of code that is not frozen."""
    found = Checker(space, trainer_of(space), Place(threads=1), folder / "runs").run().findings
    return next((one.words for one in found if one.trap == "the code is frozen" and one.verdict == WRONG), "")


def test_code_that_is_run_and_not_frozen_is_found(tmp_path: Path) -> None:
    for name in ("forgotten.py", "own.py"):
        (tmp_path / name).touch()
    script = "import forgotten, own\n" + RIGHT.replace("open(str(run.data) + '/rows.txt').read()\n", "")
    said = line(space_of(tmp_path, script, code=["train.py", "own.py"]), tmp_path)
    assert said.startswith(f"it runs forgotten.py from {tmp_path}, and no frozen copy of it; accepted: trainer.code")


def test_a_function_that_runs_what_is_not_frozen_is_found(tmp_path: Path) -> None:
    (tmp_path / "habit_beside.py").touch()
    body = RIGHT.replace("open(str(run.data) + '/rows.txt').read()\n", "").replace(
        "run = tune_bn.current_run(gamma=1.0, c=1.0)\n", ""
    )
    script = "import habit_beside\ndef train(run):\n" + "".join(f"    {one}\n" for one in body.splitlines())
    (tmp_path / "habit_function.py").write_text(script)
    space = space_of(tmp_path, command=None, function="habit_function:train", code=["habit_function.py"])
    assert line(space, tmp_path).startswith("it runs habit_beside.py from ")


def test_a_module_that_was_never_a_file_is_no_code_of_the_folder_where_check_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As torch's _classes and _ops.
    made_up = ModuleType("made_up")
    made_up.__file__ = "_made_up.py"
    monkeypatch.setitem(sys.modules, "made_up", made_up)
    monkeypatch.chdir(tmp_path)
    assert not_frozen(loaded_modules(), FrozenCode("", 0, b"", os.path.realpath(tmp_path), ()), []) == []


def test_libraries_environments_and_runs_are_no_code_of_the_user(tmp_path: Path) -> None:
    here = os.path.realpath(tmp_path)
    inside = ["src/mine.py", "src/__pycache__/other.cpython-311.pyc"]
    libraries = ["env/lib/python3.11/os.py", "v/site-packages/x/y.py", "runs/r/work/train.py", "rows.csv"]
    reads = [f"{here}/{name}" for name in (*inside, *libraries)] + [os.__file__, sys.modules["tune_bn"].__file__ or ""]
    code = FrozenCode("", 0, b"", str(tmp_path), ())
    assert not_frozen(reads, code, [tmp_path / "runs"]) == ["src/mine.py", "src/other.py"]


def test_code_behind_a_link_that_was_not_followed_is_found(tmp_path: Path) -> None:
    mine, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    mine.mkdir()
    elsewhere.mkdir()
    (mine / "linked").symlink_to(elsewhere)
    code = FrozenCode("", 0, b"", str(mine), ("linked",))
    reads = [f"{os.path.realpath(elsewhere)}/mod.py", f"{tmp_path}/other/mod.py"]
    assert not_frozen(reads, code, []) == reads[:1]


def test_code_that_is_new_is_frozen_wherever_the_data_is(tmp_path: Path) -> None:
    mine, elsewhere = repository(tmp_path / "mine", {"train.py": ""}), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mod.py").touch()
    (mine / "package").symlink_to(elsewhere)
    (mine / "new.py").touch()
    for data in (mine, tmp_path, mine / "new"):
        assert sorted(freeze(mine, "git", data=[data]).names) == ["new.py", "package/mod.py", "train.py"]
