"""Every line that a verb prints to be typed is typed here, for a study in a folder whose name needs quoting."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.study.local_studies import CONTENT
from tests.study.scripted_runner import scripted_study
from tune_bn.cli import main
from tune_bn.cli.common import resume_line
from tune_bn.front import wiring
from tune_bn.front.wiring import conclude
from tune_bn.protocols.runner import Task
from tune_bn.records import commands
from tune_bn.records.files import write_json
from tune_bn.records.verdict import Verdict
from tune_bn.space.loading import parse_space
from tune_bn.study.driver import STOPPED, DriverState
from tune_bn.study.folder import StudyFolder

PACKAGE = Path(commands.__file__).parents[1]
ODD = "my 'studies' & more"
LIMITS: dict[str, Any] = {"total_hours": 1.0, "cost": 2.0}
SPACE = parse_space(
    CONTENT | {"budget": {"trials": 2, "finalists": 1} | LIMITS, "resources": {"price_per_device_hour": 1.5}},
    "tiny",
)


def score(task: Task, seed: int) -> float:
    gain = 0.0 if task.arm == "baseline" else 2.0 + 0.1 * (seed % 2)
    return 90.0 + seed % 3 + gain


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a finished study, made once."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        found, _ = scripted_study(place / ODD / "tiny-1", SPACE, score)
        found.run()
        conclude(found.folder)
    return place


@pytest.fixture
def study(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A copy of it, in a folder other than ``studies``."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return StudyFolder(tmp_path / ODD / "tiny-1")


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would have been started: nothing is, and no Ray."""
    asked: list[dict[str, Any]] = []

    def run_study(opening: Callable[[], StudyFolder], space: Any, **options: Any) -> Verdict:
        asked.append({"space": space, "folder": opening(), **options})
        return Verdict(verdict="supported", headline="supported", reason="made up")

    monkeypatch.setattr(wiring, "run_study", run_study)
    monkeypatch.setattr(wiring, "catch_up", lambda *_: None)
    return asked


Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a line: exit status, and all that it printed."""

    def run(line: str) -> tuple[int, str]:
        first, *words = shlex.split(line)
        assert first == "tune_bn"
        with pytest.raises(SystemExit) as ending:
            main(words)
        printed = capsys.readouterr()
        return int(ending.value.code or 0), printed.out + printed.err

    return run


def interrupted(folder: StudyFolder) -> None:
    """As if the last run had not been made."""
    lines = folder.records.path.read_bytes().splitlines(keepends=True)
    folder.records.path.write_bytes(b"".join(lines[:-1]))
    folder.verdict_file.unlink()


def test_a_finished_study_says_so_at_once(study: StudyFolder, began: list[Any], typed: Typed) -> None:
    before = study.records.path.read_bytes()
    for line in (
        commands.search_command(study.path),
        shlex.join(["tune_bn", "search", "--output", ODD, "--resume"]),
        commands.study_command("confirm", study.path),
    ):
        status, text = typed(line)
        assert status == 0, text
        first, second, *_ = text.splitlines()
        assert first == "tiny-1 is finished: nothing is left to run"
        assert second.startswith("verdict: ")
    assert not began, "no Ray"
    assert study.records.path.read_bytes() == before


def test_a_finished_study_that_was_changed_is_not_called_finished(
    study: StudyFolder, began: list[Any], typed: Typed
) -> None:
    text = study.records.path.read_text().replace('"test_accuracy":9', '"test_accuracy":8')
    study.records.path.write_text(text)
    _, said = typed(commands.search_command(study.path))
    assert "is finished" not in said


def test_a_resume_goes_on_with_the_stored_space(study: StudyFolder, began: list[Any], typed: Typed) -> None:
    interrupted(study)
    line = resume_line(study.path, None)
    assert line == f"tune_bn search --study tiny-1 --output {shlex.quote(ODD)} --resume"
    status, text = typed(line)
    assert status == 0, text
    assert began[0]["space"] == SPACE
    assert began[0]["folder"].path == study.path


@pytest.mark.parametrize(
    ("key", "used"),
    [("total_hours", {"seconds": 3600.0}), ("total_hours", {"seconds": 9e4}), ("cost", {"device_seconds": 4801.0})],
)
def test_a_used_up_limit_is_said_before_anything_starts_and_its_line_raises_it(
    study: StudyFolder, began: list[Any], typed: Typed, key: str, used: dict[str, float]
) -> None:
    interrupted(study)
    state = replace(DriverState(started_at="2026-01-01T00:00:00+00:00"), state=STOPPED, **used)  # type: ignore[arg-type]
    write_json(study.driver_file, asdict(state))
    status, text = typed(shlex.join(["tune_bn", "search", "--study", "tiny-1", "--output", ODD, "--resume"]))
    assert (status, began) == (2, [])
    assert text.startswith(f"error: tiny-1: budget.{key} = {LIMITS[key]:g} is used up")
    line = text.partition("as in ")[2].strip()
    assert line == resume_line(study.path, None), "what `tune_bn stop` and the end of a driver say"
    status, text = typed(line)
    assert status == 0, text
    raised = getattr(began[0]["space"].budget, key)
    assert raised > LIMITS[key]
    assert raised > used.get("seconds", 0) / 3600


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--trials", "30"], "budget.trials: got 30, but"),
        (["--set", "budget.finalists=2"], "budget.finalists: got 2, but"),
        (["--set", "budget.hours=3"], "budget.hours: got 3.0, but"),
        (["--set", "budget.race_error=0.2"], "budget.race_error: got 0.2, but"),
    ],
)
def test_a_budget_that_can_have_no_effect_any_more_is_refused(
    study: StudyFolder, began: list[Any], typed: Typed, option: list[str], words: str
) -> None:
    for change in (lambda folder: None, interrupted):
        change(study)
        status, text = typed(commands.search_command(study.path, *option))
        assert (status, began) == (2, [])
        assert text.startswith(f"error: {words}")
        assert "--warm-start tiny-1" in text


def test_before_the_plan_a_budget_may_grow(study: StudyFolder, began: list[Any], typed: Typed) -> None:
    interrupted(study)
    study.plan_file.unlink()
    status, text = typed(commands.search_command(study.path, "--trials", "30", "--set", "budget.total_hours=9"))
    assert status == 0, text
    assert (began[0]["space"].budget.trials, began[0]["space"].budget.total_hours) == (30, 9)


def test_a_confirmation_takes_another_budget_and_resources(study: StudyFolder, began: list[Any], typed: Typed) -> None:
    interrupted(study)
    options = ["--set", "resources.max_concurrent=1", "--set", "budget.total_hours=9"]
    status, text = typed(commands.study_command("confirm", study.path, *options))
    assert status == 0, text
    for space in (began[0]["space"], study.space()):
        assert (space.resources.max_concurrent, space.budget.total_hours) == (1, 9)


@pytest.mark.parametrize(
    ("setting", "seeds", "epochs", "locked"),
    [
        ("seeds.confirm={from: 1000, to: 1003}", [1000, 1001, 1002, 1003], 2, True),
        ("seeds.confirm=[1000, 1002, 1009]", [1000, 1002, 1009], 2, True),
        # Those of the study are used.
        ("seeds.confirm={from: 1, to: 9}", None, 2, True),
        ("train.epochs=3", None, 3, False),
    ],
)
def test_what_a_result_depends_on_is_a_new_study_whose_line_can_be_typed(
    study: StudyFolder,
    began: list[Any],
    typed: Typed,
    setting: str,
    seeds: list[int] | None,
    epochs: int,
    locked: bool,
) -> None:
    if not locked:
        interrupted(study)
        study.plan_file.unlink()
    before, found = study.space_file.read_bytes(), set[str]()
    for line in (
        commands.study_command("confirm", study.path, "--set", setting),
        commands.search_command(study.path, "--set", setting),
    ):
        status, text = typed(line)
        assert (status, began) == (2, [])
        assert ("whose plan is locked" in text) == locked
        found |= _lines(text)
    assert study.space_file.read_bytes() == before
    (line,) = found
    status, text = typed(line)
    assert status == 0, (line, text)
    space, used = began[0]["space"], study.space().seeds
    assert space.train.epochs == epochs
    assert seeds is None or list(space.seeds.confirm) == seeds
    assert {*space.seeds.confirm}.isdisjoint({*used.search, *used.select, *used.confirm})


def test_what_verbs_and_pages_print_can_be_typed(
    study: StudyFolder, began: list[Any], typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that was said about the finished study, and about one that waits, is typed as it stands."""
    found = set[str]()
    for verb in ("report", "verify", "inspect", "search"):
        _, text = typed(
            commands.study_command(verb, study.path) if verb != "search" else commands.search_command(study.path)
        )
        found |= _lines(text)
    found |= _lines(study.report_file.read_text().replace("\\", ""))
    interrupted(study)
    for verb in ("report", "stop", "logs", "status"):
        found |= _lines(typed(commands.study_command(verb, study.path))[1])
    found |= _lines(study.report_file.read_text())
    with study.locked():
        found |= _lines(typed(commands.search_command(study.path))[1])
        found |= _lines(typed(commands.study_command("stop", study.path, "--timeout", "0"))[1])
    study.stop_file.unlink(missing_ok=True)
    found.add(resume_line(study.path, None))
    assert {shlex.split(line)[1] for line in found} >= {"search", "confirm", "verify", "status"}
    for line in sorted(found):
        status, text = typed(line)
        # 1: the verdict of a study that waits is invalid.
        assert status in (0, 1) or "which no driver works on" in text or "driver.log" in text, (line, text)


def _lines(text: str) -> set[str]:
    """Every command in a text, with the words that belong to it: its options, and what is quoted."""
    option = r"(?:--?[a-z-]+(?: (?:'(?:[^']|'\"'\"')*'|[^\s;,()'`]+))?)"
    found = re.findall(rf"tune_bn [a-z]+(?: tiny-1)?(?: {option})*", text)
    return {line for line in found if "tiny-1" in line or "--space" in line}


def test_no_module_puts_a_line_about_a_study_together_by_itself() -> None:
    """Such a line would lack ``--output`` and quoting: only :mod:`tune_bn.records.commands` makes them."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                assert not re.search(r"tune_bn [a-z]+ (-\S+ )*\0", parts), f"{path}:{node.lineno}: {parts!r}"


def test_a_number_in_a_raised_limit_is_one_that_the_space_takes(study: StudyFolder) -> None:
    from tune_bn.study.driver import raised_limits

    for seconds in (3600.0, 3601.7, 123_456.0, 1e9):
        state = replace(DriverState(), seconds=seconds)
        _, words = raised_limits(state, SPACE.budget, SPACE.resources)
        assert float(words.partition("=")[2]) > seconds / 3600
    assert raised_limits(None, SPACE.budget, SPACE.resources) == []
    assert raised_limits(replace(DriverState(), seconds=3599.0), SPACE.budget, SPACE.resources) == []
