"""A few hundred strange inputs at each door; ``python -m benchmarks.hostile.fuzz`` feeds a hundred thousand."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.hostile.fuzz import COMMAND_LINE, CommandLine, feed
from benchmarks.hostile.fuzz_limits import isolated, limited, tree
from benchmarks.hostile.fuzz_targets import Target, make_study, targets
from tune_bn.cli import main
from tune_bn.space.file import MAX_BYTES

# What bounds an input takes the alarm of this thread; a bound on the whole test must not be lost with it.
pytestmark = pytest.mark.timeout(method="thread")

NAMES = ["space", "records", "curves", "plan", "verdict", "scores"]
HANG = 60.0
"""Seconds after which a door is taken to hang, however busy the machine."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with isolated() as made:
        yield made


@pytest.fixture(scope="module")
def doors(folder: Path) -> dict[str, Target]:
    return {one.name: one for one in targets(folder / "files", make_study(folder / "made" / "small"))}


def test_every_door_is_fed(doors: dict[str, Target]) -> None:
    assert list(doors) == NAMES


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_strange_files_are_read_or_refused_in_one_line(doors: dict[str, Target], name: str) -> None:
    tally = feed(name, doors[name].inputs, doors[name].check, 250, draw_seed=1, until=math.inf)
    assert tally.findings == []
    assert tally.inputs >= 200


@pytest.mark.long
def test_strange_command_lines_end_in_order_and_write_nothing_elsewhere(folder: Path) -> None:
    line = CommandLine(folder / "line")
    tally = feed(COMMAND_LINE, line.inputs, line.check, 250, draw_seed=1, until=math.inf)
    assert tally.findings == []
    assert tally.inputs >= 200


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which a command line is refused."""
    with limited(HANG), pytest.raises(SystemExit) as ended:
        raise SystemExit(main(list(words)))
    said = capsys.readouterr()
    assert ended.value.code == 2, said
    (line,) = said.err.splitlines()
    assert len(line) < 2000 + sum(map(len, words)), "a refusal repeats no more than what was typed"
    return line


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 10**9)


def laughs(path: Path) -> None:
    levels = [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 12)]
    path.write_text("l0: &l0 [x, x]\n" + "\n".join(levels) + "\n", encoding="utf-8")


def written(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content, encoding="utf-8") and None


@pytest.mark.long
@pytest.mark.parametrize(
    "make",
    [
        laughs,
        written("a: &a [*a]\n"),
        written("a: " + "[" * 100_000),
        written("- " * 100_000),
        written("{" * 5_000 + "}" * 5_000),
        written("a: &a {b: 1}\nc:\n  <<: [" + ", ".join(["*a"] * 5_000) + "]\n"),
        written("train: {lr: " + "9" * 100_000 + "}\n"),
        written("train: {epochs: 1e999999999}\n"),
        written("name: " + "x" * (MAX_BYTES + 1)),
        sparse,
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path.name),
    ],
    ids=[
        *("aliases", "itself", "brackets", "dashes", "braces", "merges", "digits", "exponent", "long", "sparse"),
        *("fifo", "directory", "zeros", "loop"),
    ],
)
def test_a_space_that_would_take_all_time_or_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "bomb.yaml")
    before = tree(tmp_path)
    assert "bomb.yaml" in refused(capsys, "validate", "--space", "bomb.yaml")
    assert tree(tmp_path) == before


@pytest.mark.long
@pytest.mark.parametrize(
    "value",
    ["[" * 50_000, "&a [*a]", "9" * 50_000, "1e999999999", "{" * 5_000, "\0", "\ud800"],
    ids=["brackets", "itself", "digits", "exponent", "braces", "zero", "surrogate"],
)
def test_a_value_that_would_take_all_time_or_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "train.epochs" in refused(capsys, "validate", "--set", f"train.epochs={value}")


@pytest.mark.long
@pytest.mark.parametrize("verb", ["status", "verify", "report", "stop", "logs"])
@pytest.mark.parametrize(
    "name",
    ["../../x", "../x", "", ".", "..", "a\0b", "x" * 5_000, "x/" * 3_000, "γ\u202e/../x", "linked", "one\n"],
    ids=["far", "up", "empty", "here", "above", "zero", "long", "deep", "unicode", "link", "newline"],
)
def test_no_name_of_a_study_leads_out_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, name: str
) -> None:
    work = tmp_path / "deep" / "work"
    (work / "studies").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (work / "studies" / "linked").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(work)
    before = tree(tmp_path)
    refused(capsys, verb, name)
    assert tree(tmp_path) == before
