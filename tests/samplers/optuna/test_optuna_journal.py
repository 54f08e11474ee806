"""The journal of a search: which one is taken up, which is refused, and what a crash may leave in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from tune_bn.errors import StudyError
from tune_bn.protocols.distributions import Cases, Choice, Distribution, Range
from tune_bn.samplers.optuna.journal import open_study, to_optuna

NAME = "study/candidate"
SPACE: dict[str, Distribution] = {
    "gamma": Range(0.01, 1.0, log=True),
    "epochs": Range(2, 9, integer=True),
    "lr": Choice((0.1, 0.01)),
}
CONDITIONAL: dict[str, Distribution] = {
    "gamma": Cases("lr", ((1, Range(0.05, 1.0, log=True)), (0.01, Range(0.001, 0.02, log=True)))),
    "lr": Choice((1.0, 0.01)),
}
PARAMS: dict[str, Any] = {"gamma": 0.1, "epochs": 3, "lr": 0.01}
DISTRIBUTIONS = {key: to_optuna(item) for key, item in SPACE.items() if not isinstance(item, Cases)}


def storage(journal: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(journal)))


def write(journal: Path, state: TrialState = TrialState.COMPLETE, params: Any = None, **changed: Any) -> None:
    """A study with one trial, drawn from distributions some of which may have changed."""
    study = optuna.create_study(storage=storage(journal), study_name=NAME, direction="maximize")
    params = PARAMS if params is None else params
    found = {key: item for key, item in (DISTRIBUTIONS | changed).items() if key in params}
    value = 90.0 if state == TrialState.COMPLETE else None
    study.add_trial(create_trial(state=state, params=params, distributions=found, value=value))


def problem(journal: Path, space: dict[str, Distribution] = SPACE) -> str:
    before = journal.read_bytes()
    with pytest.raises(StudyError) as caught:
        open_study(journal, NAME, space)
    assert journal.read_bytes() == before
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{journal}: ")
    return str(caught.value).removeprefix(f"{journal}: ")


def test_a_study_of_the_same_search_is_taken_up(tmp_path: Path) -> None:
    write(tmp_path / "journal")
    assert len(open_study(tmp_path / "journal", NAME, SPACE).trials) == 1
    # 1 and 1.0 have one hash in the space file.
    assert len(open_study(tmp_path / "journal", NAME, SPACE | {"gamma": Range(0.01, 1, log=True)}).trials) == 1


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"]])
def test_another_direction_is_refused(tmp_path: Path, directions: list[str]) -> None:
    optuna.create_study(storage=storage(tmp_path / "journal"), study_name=NAME, directions=directions)
    found = ", ".join(directions)
    assert problem(tmp_path / "journal") == f"direction of {NAME}: got {found}; accepted: maximize"


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("gamma", FloatDistribution(0.02, 1.0, log=True)),
        ("gamma", FloatDistribution(0.01, 2.0, log=True)),
        ("gamma", FloatDistribution(0.01, 1.0)),
        ("gamma", CategoricalDistribution((0.1, 0.2))),
        ("epochs", IntDistribution(2, 10)),
        ("epochs", FloatDistribution(2, 9)),
        ("lr", CategoricalDistribution((0.01, 0.1))),
        ("lr", CategoricalDistribution((0.1, 0.01, 0.001))),
    ],
)
@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL])
def test_another_distribution_is_refused(tmp_path: Path, key: str, other: Any, state: TrialState) -> None:
    write(tmp_path / "journal", state, **{key: other})
    assert problem(tmp_path / "journal") == f"trial 0 of {NAME}: {key}: got {other}; accepted: {to_optuna(SPACE[key])}"


@pytest.mark.parametrize(
    ("params", "state", "refused"),
    [
        ({"gamma": 0.1, "epochs": 3}, TrialState.COMPLETE, True),
        ({**PARAMS, "c": 3.0}, TrialState.COMPLETE, True),
        ({"gamma": 0.1, "c": 3.0}, TrialState.RUNNING, True),
        # What a crash interrupted may lack some of its values.
        ({"gamma": 0.1}, TrialState.RUNNING, False),
        ({}, TrialState.FAIL, False),
    ],
)
def test_other_keys_are_refused(tmp_path: Path, params: dict[str, Any], state: TrialState, refused: bool) -> None:
    write(tmp_path / "journal", state, params, c=FloatDistribution(1, 10))
    if refused:
        found = ", ".join(sorted(params))
        assert problem(tmp_path / "journal") == f"trial 0 of {NAME}: got the keys {found}; accepted: epochs, gamma, lr"
    else:
        assert len(open_study(tmp_path / "journal", NAME, SPACE).trials) == 1


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({"gamma": 2.0}, "start point: got gamma = 2.0; accepted: FloatDistribution(high=1.0, log=True, low=0.01"),
        ({"gamma": 0.1, "c": 3.0}, "start point: got c = 3.0; accepted: gamma, epochs, lr"),
    ],
)
def test_a_start_point_of_another_search_is_refused(tmp_path: Path, point: dict[str, Any], words: str) -> None:
    study = optuna.create_study(storage=storage(tmp_path / "journal"), study_name=NAME, direction="maximize")
    study.enqueue_trial(point)
    assert problem(tmp_path / "journal").startswith(f"trial 0 of {NAME}: {words}")


def test_each_case_of_a_conditional_key_has_its_own_range(tmp_path: Path) -> None:
    names = {"lr": to_optuna(CONDITIONAL["lr"]), "gamma given lr=1.0": FloatDistribution(0.05, 1.0, log=True)}
    write(tmp_path / "journal", params={"lr": 1.0, "gamma given lr=1.0": 0.1}, **names)
    assert len(open_study(tmp_path / "journal", NAME, CONDITIONAL).trials) == 1
    wider = CONDITIONAL | {
        "gamma": Cases("lr", ((1, Range(0.04, 1.0, log=True)), (0.01, Range(0.001, 0.02, log=True))))
    }
    assert "trial 0 of study/candidate: gamma given lr=1.0: got FloatDistribution(high=1.0, log=True, low=0.05" in (
        problem(tmp_path / "journal", wider)
    )
    assert "got the keys gamma given lr=1.0, lr; accepted: epochs, gamma, lr" in problem(
        tmp_path / "journal", {**SPACE, "lr": CONDITIONAL["lr"]}
    )


def _garbage(content: bytes) -> bytes:
    return b"no journal\n" + content


def _flipped(content: bytes) -> bytes:
    return content.replace(b'"op_code"', b'"opcode"', 1)


@pytest.mark.parametrize("damage", [_garbage, _flipped])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write(tmp_path / "journal")
    (tmp_path / "journal").write_bytes(damage((tmp_path / "journal").read_bytes()))
    assert problem(tmp_path / "journal").startswith("is no journal of Optuna (")


def test_a_torn_last_line_is_cut_off_and_the_journal_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "journal")
    whole = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(whole + b'{"op_code":4,"study_')
    study = open_study(tmp_path / "journal", NAME, SPACE)
    assert (tmp_path / "journal").read_bytes() == whole
    study.enqueue_trial({"gamma": 0.5})
    states = [trial.state for trial in open_study(tmp_path / "journal", NAME, SPACE).trials]
    assert states == [TrialState.COMPLETE, TrialState.WAITING]
