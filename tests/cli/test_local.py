"""``--local``: what it says, what it contradicts, and how its studies go on; one that runs is with the trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.study.scripted_runner import scripted_study
from tune_bn.cli import main
from tune_bn.cli.common import resume_line
from tune_bn.errors import RunnerError, StudyError
from tune_bn.front.runners import Runners
from tune_bn.front.search import search
from tune_bn.observers.console.observer import ConsoleObserver
from tune_bn.protocols.runner import Task
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.records.commands import IN_PROCESS
from tune_bn.runners.local import local_place
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.driver import Driver

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "resnet8"},
    "data": {"source": "digits", "train_size": 40, "val_size": 40, "test_size": 40},
    "train": {"epochs": 2, "batch_size": 20},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}},
    "budget": {"trials": 2, "finalists": 1},
    "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3]},
}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["search", "--local", "--job"], "--local: got it beside --job; accepted: one of the two"),
        (["search", "--local", "--address", "auto"], "--local: got it beside --address auto; accepted: one of the two"),
        (["confirm", "one", "--local", "--address", "a:1"], "--local: got it beside --address a:1; accepted: one"),
    ],
)
def test_what_contradicts_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if words[0] == "confirm":
        scripted_study(tmp_path / "studies/one", parse_space(CONTENT, "tiny"), lambda task, seed: 90.0)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_from_python_too() -> None:
    with pytest.raises(StudyError, match=r"local: got True beside address='auto'; accepted: one of the two"):
        search("digits.yaml", local=True, address="auto")


def test_more_than_this_process_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_bn.runners.local.usable_cores", lambda: 2)
    with pytest.raises(RunnerError, match=r"resources.cpu: got 4 per trial, but this process may use 2 CPUs"):
        local_place(4, 0)
    place = local_place(2, 0)
    assert (place.device, place.threads, place.gpus) == ("cpu", 2, ())
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(RunnerError, match=r"resources.gpu: got 0.5 per trial, but this process may use 0 GPUs"):
        local_place(1, 0.5)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    place = local_place(1, 0.5)
    assert (place.device, place.gpus, place.share) == ("cuda", ("0",), 0.5)


def test_a_study_goes_on_where_it_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def score(task: Task, seed: int) -> float:
        return 90.0

    space = parse_space(CONTENT, "tiny")
    study, _ = scripted_study(tmp_path / "studies/one", space, score)
    assert resume_line(study.folder.path, IN_PROCESS) == "tune_bn search --study one --local --resume"
    with Driver(study.folder, space.budget, space.resources, stop=StopRequest(), address=IN_PROCESS).watching():
        pass
    # As `tune_bn stop` prints it, long afterwards.
    assert resume_line(study.folder.path, None) == "tune_bn search --study one --local --resume"


def test_what_has_no_effect_is_said(monkeypatch: pytest.MonkeyPatch) -> None:

    plain, several = (
        parse_space({**CONTENT, "resources": resources}, "tiny")
        for resources in ({}, {"max_concurrent": 8, "elastic": True})
    )

    def where(space: Space, address: str | None) -> list[str]:
        return list(Runners(space, address, ConsoleObserver())._where())

    (line,) = where(plain, IN_PROCESS)
    assert "no Ray: one run after the other in this process" in line
    _, idle = where(several, IN_PROCESS)
    assert idle == "local  without effect here: resources max_concurrent: 8, elastic: true"
    assert where(plain, None) == ["ray  starting on this machine …"]
