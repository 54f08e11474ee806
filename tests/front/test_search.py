"""tune_bn.search: the main job from Python. One study on a real Ray; what else can be seen without one, is."""

from __future__ import annotations

import asyncio
import re
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tune_bn
from examples import digits
from tests.conftest import make_study
from tune_bn.analysis.plan import plan_from
from tune_bn.errors import Interrupted, SpecError, StudyError
from tune_bn.front import carrying_out
from tune_bn.front.search import _loaded, _settings
from tune_bn.observers.events import Event, EventObserver
from tune_bn.protocols.observer import StudyInfo


@pytest.mark.long
def test_the_example_where_an_event_loop_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook: the cell runs in the main thread, within a running loop, which goes on afterwards."""
    # One worker is enough, and each takes seconds to start.
    monkeypatch.setenv("TUNE_BN_CORES", "1")

    async def cell() -> int:
        digits.main(str(tmp_path))
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(cell()) == 7
    lines = capfd.readouterr().out.splitlines()
    assert "search  2 runs planned" in lines
    assert sum(line.startswith("confirm  ") and "completed 2/2 epochs" in line for line in lines) == 6
    assert sum(line.startswith("verdict: ") for line in lines) == 2
    study = tune_bn.open_study(tmp_path / "example")
    assert study.verdict is not None
    assert not study.verdict.invalid
    assert len(study.runs.where(stage="confirm")) == 6
    assert (tmp_path / "example" / "report.html").is_file()


def test_overrides_are_those_of_the_command_line(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "budget.trials": np.int64(8),
        "train.lr": 1e-05,
        "seeds.confirm": {"from": 1, "to": 5},
        "seeds.select": (201, 202),
        "name": "naïve: γ",
        "data.root": tmp_path,
    }
    settings = _settings(given)
    assert settings[:2] == ["budget.trials=8", "train.lr=1e-05"]
    assert settings[4:] == ['name="naïve: γ"', f'data.root="{tmp_path}"']
    space, source = _loaded("digits.yaml", {"budget.trials": 8, "train.epochs": 2}, None)
    assert (space.budget.trials, space.train.epochs) == (8, 2)
    assert source.endswith("digits.yaml with budget.trials=8 train.epochs=2")
    assert _loaded("digits.yaml", ["budget.trials=8", "train.epochs=2"], None)[0].sha256 == space.sha256


def test_a_space_may_be_a_mapping() -> None:
    from tune_bn.space.file import parse_yaml
    from tune_bn.space.locate import find_space

    content = parse_yaml(find_space("digits.yaml"))
    space, source = _loaded(content, {"budget.trials": 3}, None)
    assert (space.budget.trials, source) == (3, "space")
    assert content["budget"]["trials"] != 3


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, SpecError, "space: missing; accepted: a path, a name"),
        ({"space": "digits.yml"}, SpecError, "digits.yaml"),
        ({"space": "digits.yaml", "overrides": {"train.epoch": 1}}, SpecError, "train.epoch"),
        ({"space": "digits.yaml", "overrides": {"train.epochs": object()}}, SpecError, "overrides: train.epochs: got"),
        ({"space": "digits.yaml", "overrides": {"train.lr": float("nan")}}, SpecError, "train.lr"),
        ({"space": "digits.yaml", "overrides": "train.epochs=1"}, SpecError, "overrides: got 'train.epochs=1'"),
        ({"space": {"name": "x", "model": {"arch": 3}}}, SpecError, "space: "),
        ({"space": "digits.yaml", "study": "a/b"}, StudyError, "study: got 'a/b'"),
        ({"resume": True}, StudyError, "study: missing beside resume=True"),
        ({"resume": True, "study": "none"}, StudyError, "study: got none; accepted: a study in"),
    ],
)
def test_bad_arguments_leave_nothing(tmp_path: Path, arguments: dict[str, Any], error: type, words: str) -> None:
    output = tmp_path / "studies"
    with pytest.raises(error, match=re.escape(words)) as caught:
        tune_bn.search(**arguments, output=output)
    assert "\n" not in str(caught.value)
    assert not output.exists()


def test_an_interrupt_says_how_to_go_on_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told_to_stop(open_folder: Any, *_: Any, **__: Any) -> None:
        open_folder()
        raise Interrupted("interrupted by SIGTERM")

    monkeypatch.setattr(carrying_out, "carry_out", told_to_stop)
    line = re.escape(f"tune_bn.search(study='digits-1', output='{tmp_path}', resume=True)")
    words = rf"^interrupted by SIGTERM; nothing that finished is lost. To go on: {line}$"
    with pytest.raises(Interrupted, match=words):
        tune_bn.search("digits.yaml", output=tmp_path)
    # The stored space is the one of the line.
    with pytest.raises(Interrupted, match=line):
        tune_bn.search(study="digits-1", output=tmp_path, resume=True)


class Told(list[Event]):
    def __call__(self, event: Event) -> None:
        self.append(event)


def follow(tell: Any, folder: Path) -> None:
    study = make_study(trials=3)
    with EventObserver(tell) as observer:
        observer.study_started(StudyInfo("made", "made", folder, "", None, {}), ())
        observer.stage_started("search", 3, 0)
        observer.run_recorded(study.records[0], ())
        observer.plan_locked(plan_from(study.plan))
        observer.warn("the disk is nearly full")
        observer.note("something else")
        observer.concluded("verdict: supported")
        observer.study_finished("FINISHED", {})


def test_events_have_a_kind_and_what_they_are_about(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = Told()
    follow(told, tmp_path)
    kinds = [event.kind for event in told]
    assert kinds[:3] == ["stage", "run", "plan"]
    assert kinds[-3:] == ["warning", "note", "verdict"]
    run = told[1]
    assert run.record is not None
    assert (run.record.stage, run.study) == ("search", tmp_path)
    assert str(run).startswith("search  trial 0 seed 101")
    assert "\x1b" not in "".join(map(str, told))
    assert told[2].plan is not None
    assert capfd.readouterr().out == ""


def test_a_function_that_raises_is_warned_of_once(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        follow(lambda event: 1 / 0, tmp_path)
    assert [str(one.message) for one in caught] == [
        "on_event raised ZeroDivisionError: division by zero; the study goes on"
    ]


def test_an_interrupt_in_the_function_is_the_users(tmp_path: Path) -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(interrupted, tmp_path)


def test_events_of_several_threads_keep_their_kind(tmp_path: Path) -> None:
    told = Told()
    observer = EventObserver(told)
    threads = [threading.Thread(target=observer.warn, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
        observer.note("beside")
    for thread in threads:
        thread.join()
    assert all(event.kind == ("note" if event.text == "beside" else "warning") for event in told)
    assert len(told) == 16
