"""Studies whose runs are asked for and told of: the same records, plan and verdict as every other study's."""

from __future__ import annotations

import json
import math
import multiprocessing
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import tune_bn
from tune_bn.errors import SpecError, StudyError
from tune_bn.front import asking
from tune_bn.front.asking import FINISHED, RUN, WAITING, Asked, ask, renew, tell
from tune_bn.records.record import Record
from tune_bn.space.loading import parse_space
from tune_bn.study.folder import StudyFolder

pytestmark = pytest.mark.long

CONTENT: dict[str, Any] = {
    "name": "asked",
    "trainer": {
        "ask": True,
        "steps": 4,
        "score": {"validation": "val", "test": "held_out", "goal": "max", "at": "last", "range": [0, 100]},
    },
    "search": {
        "gamma": {"log_uniform": [0.05, 1.0]},
        "c": {"log_uniform": [1, 100]},
        "lr": {"log_uniform": [0.001, 0.1]},
    },
    "budget": {"trials": 4, "finalists": 1, "max_failures": 1},
    "seeds": {"search": [101, 102], "select": [201], "confirm": [1, 2, 3]},
    "claim": {"baseline": {"gamma": 1.0, "c": 1.0}},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures: the report is not what is tested here."""
    monkeypatch.setattr(asking, "write_report", lambda folder: [])


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def begun(path: Path, **changes: Any) -> StudyFolder:
    return StudyFolder(path / "mine").created(parse_space(CONTENT | changes, "asked"))


def scores_of(asked: Asked) -> dict[str, float]:
    """A function of what was asked, with noise by the seed that both arms share."""
    value = 70 + random.Random(asked.seed).gauss(0, 1) - 2 * math.log10(asked.params["gamma"])
    value += random.Random(f"{asked.arm}{asked.seed}").gauss(0, 0.1)
    return {"val": value} | ({asked.test: value - 1} if asked.test else {})


def to_the_end(folder: StudyFolder, answer: Callable[[Asked], Mapping[str, float]] = scores_of) -> Asked:
    while asked := ask(folder):
        tell(folder, asked.run or "", answer(asked))
    return asked


def essence(folder: StudyFolder) -> list[tuple[Any, ...]]:
    return sorted(
        (r.key, r.status, json.dumps(r.config, sort_keys=True), json.dumps(r.scores)) for r in folder.records.read()
    )


def test_a_study_goes_through_all_stages_to_its_verdict(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    seen: list[Asked] = []

    def answer(asked: Asked) -> Mapping[str, float]:
        seen.append(asked)
        return scores_of(asked)

    end = to_the_end(folder, answer)
    assert (end.state, end.run, end.verdict) == (FINISHED, None, "supported")
    assert [asked.stage for asked in seen] == ["search"] * 8 + ["select"] * 2 + ["confirm"] * 6
    records: list[Record] = list(folder.records.read())
    assert [asked.run for asked in seen] == [record.key for record in records]
    assert {asked.test for asked in seen if asked.stage != "confirm"} == {None}
    assert {asked.test for asked in seen if asked.stage == "confirm"} == {"held_out"}
    assert all(set(asked.params) == {"gamma", "c", "lr"} and asked.steps == 4 for asked in seen)
    plan = json.loads(folder.plan_file.read_text())
    assert (plan["metric"], plan["seeds"]) == ("held_out", [1, 2, 3])
    assert all("held_out" in record.scores for record in records if record.stage == "confirm")
    again = ask(folder)
    assert (again.state, again.verdict, bool(again)) == (FINISHED, "supported", False)
    assert json.loads(folder.verdict_file.read_text())["verdict"] == "supported"


def test_what_is_proposed_does_not_depend_on_who_asks_when(tmp_path: Path) -> None:
    one, other = begun(tmp_path / "a"), begun(tmp_path / "b")
    to_the_end(one)
    # All runs that may be out at once are, and come back in another order.
    while True:
        out: list[Asked] = []
        while asked := ask(other):
            out.append(asked)
        if not out:
            assert asked.state == FINISHED
            break
        for asked in reversed(out):
            tell(other, asked.run or "", scores_of(asked))
    stages = {name: [key for key, *_ in essence(folder)] for name, folder in (("a", one), ("b", other))}
    assert stages["a"][6:14] == stages["b"][6:14]
    assert len(essence(one)) == len(essence(other)) == 16


def test_a_run_is_leased_and_handed_out_again(tmp_path: Path) -> None:
    folder, clock = begun(tmp_path), Clock()
    first = ask(folder, lease=60, worker="a", clock=clock)
    second = ask(folder, lease=60, worker="b", clock=clock)
    assert first.state == RUN
    assert second.run != first.run
    clock.now += 59
    assert ask(folder, lease=600, clock=clock).run not in (first.run, second.run)
    renew(folder, second.run or "", 600, clock=clock)
    clock.now += 2
    again = ask(folder, lease=60, worker="c", clock=clock)
    assert (again.run, again.attempt, again.params, again.seed) == (first.run, 2, first.params, first.seed)
    # The first answer counts, whoever it is from; the same once more is no news.
    assert not tell(folder, first.run or "", {"val": 50.0}, clock=clock).again
    assert tell(folder, first.run or "", {"val": 50.0}, clock=clock).again
    with pytest.raises(StudyError, match=r"was told before as val=50, now as val=51; accepted: the same again"):
        tell(folder, first.run or "", {"val": 51.0}, clock=clock)


def test_while_all_is_with_others_an_asker_waits(tmp_path: Path) -> None:
    folder, clock = begun(tmp_path), Clock()
    out = []
    while asked := ask(folder, lease=100, clock=clock):
        out.append(asked)
        clock.now += 1
    assert len(out) == 8
    assert (asked.state, asked.run) == (WAITING, None)
    assert asked.retry_after == pytest.approx(92, abs=1e-6)
    tell(folder, out[0].run or "", scores_of(out[0]), clock=clock)
    assert ask(folder, clock=clock).state == WAITING


def test_records_keep_what_was_told_however_late(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    to_the_end(folder)
    first = folder.records.read()[0]
    assert tell(folder, first.key, dict(first.scores)).again
    with pytest.raises(StudyError, match="was told before"):
        tell(folder, first.key, {"val": 1.0})
    with pytest.raises(StudyError, match="was told before"):
        tell(folder, first.key, failed="no")


def test_a_run_that_fails_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    folder = begun(tmp_path)

    def answers(bad: str) -> Asked:
        while asked := ask(folder):
            key = asked.run or ""
            if key == bad:
                tell(folder, key, failed="disk full\nand more")
            else:
                tell(folder, key, scores_of(asked))
        return asked

    end = answers("search-candidate-t00001-s102")
    assert end.verdict == "supported"
    failed = [record for record in folder.records.read() if record.status == "failed"]
    assert [(record.key, record.attempts, record.reason) for record in failed] == [
        ("search-candidate-t00001-s102", 2, "disk full and more")
    ]


def test_a_confirmation_without_a_run_is_invalid_until_it_is_asked_for_again(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    bad: list[str] = []
    while asked := ask(folder):
        key = asked.run or ""
        if asked.stage == "confirm" and asked.arm == "baseline" and asked.seed == 2:
            bad.append(key)
            tell(folder, key, failed=f"no {len(bad)}")
        else:
            tell(folder, key, scores_of(asked))
    assert len(bad) == 2
    assert (asked.state, asked.verdict) == (FINISHED, "invalid")
    assert ask(folder).verdict == "invalid"
    once_more = ask(folder, again=True)
    assert once_more.run == bad[0]
    told = tell(folder, bad[0], scores_of(once_more))
    assert (told.state, told.verdict) == (FINISHED, "supported")


def test_the_same_failure_told_twice_is_one(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    run = ask(folder).run or ""
    assert tell(folder, run, failed="no").handed_out_again
    assert tell(folder, run, failed="no").again
    assert ask(folder).attempt == 2


def test_divergence_and_curves(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    asked = ask(folder)
    tell(folder, asked.run or "", {"val": math.nan})
    other = ask(folder)
    rows = [{"step": 1, "val": 10.0, "loss": 2.0}, {"step": 2, "val": 30.0, "loss": 1.0}]
    tell(folder, other.run or "", curve=rows)
    # Both seeds of a trial, so that it becomes records, with a loss and then a score that were not finite.
    last, loss = ask(folder), {"loss": math.inf}
    tell(folder, last.run or "", curve=[{"step": 1, "val": 10.0} | loss, {"step": 2, "val": math.nan} | loss])
    assert tell(folder, last.run or "", {"val": math.nan}).again
    tell(folder, ask(folder).run or "", {"val": 30.0, "loss": -math.inf})
    records = {record.key: record for record in folder.records.read()}
    assert records[asked.run or ""].status == records[last.run or ""].status == "diverged"
    points = folder.curves.read()[last.run or ""]
    assert [math.isfinite(point["val"]) for point in points] == [True, False]
    assert records[other.run or ""].scores == {"val": 30.0}
    assert [point.step for point in folder.curves.read()[other.run or ""]] == [1, 2]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"scores": {}}, "no val; accepted: val, or --failed"),
    ({"scores": {"vall": 1.0}}, "no val; accepted: val"),
    ({"scores": {"val": 101.0}}, "val: got 101.0; accepted: a number from 0 to 100"),
    ({"scores": {"val": True}}, "val: got True; accepted: a number"),
    ({"scores": {"val": 1.0, "held_out": 1.0}}, "got held_out, which was not asked for"),
    ({"scores": {"val": 1.0}, "failed": "no"}, "accepted: one of the two"),
    ({"curve": [{"step": 2, "val": 1.0}]}, "row 1 has the step 2; accepted: steps from 1 on"),
    ({"curve": [{"step": 1, "loss": 1.0}]}, "step 1: no val"),
    ({"curve": [{"step": 1, "val": 1.0, "held_out": 1.0}]}, "step 1: got held_out"),
    ({"curve": [{"step": n, "val": 1.0} for n in range(1, 6)]}, "got 5 rows; accepted: at most 4"),
    (
        {"curve": [{"step": 1, "val": 200.0}, {"step": 2, "val": 2.0}]},
        "step 1: val: got 200.0; accepted: a number from",
    ),
    ({"curve": [{"step": 1, "val": 2.0}], "scores": {"val": 3.0}}, "got 3.0, but its curve says 2.0"),
    ({"scores": {"val": 1.0}, "seconds": -1.0}, "seconds: got -1.0"),
]


@pytest.mark.parametrize(("told", "words"), BAD)
def test_what_is_told_is_checked(told: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = begun(tmp_path)
    run = ask(folder).run or ""
    with pytest.raises(StudyError) as error:
        tell(folder, run, **told)
    assert words in str(error.value)
    assert not folder.records.read()
    assert not tell(folder, run, {"val": 1.0}).again


def test_a_confirmed_run_needs_its_test_score(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    while (asked := ask(folder)).stage != "confirm":
        tell(folder, asked.run or "", scores_of(asked))
    with pytest.raises(StudyError, match="no held_out, for which it was asked; accepted: val and held_out"):
        tell(folder, asked.run or "", {"val": 1.0})
    with pytest.raises(StudyError, match="held_out: got -1"):
        tell(folder, asked.run or "", {"val": 1.0, "held_out": -1.0})


def test_runs_that_are_not_out(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    with pytest.raises(StudyError, match=r"RUN: got 'x'; accepted: a run that was handed out \(none now\)"):
        tell(folder, "x", {"val": 1.0})
    run = ask(folder).run
    # The other seed of this trial is known, and with nobody.
    with pytest.raises(StudyError, match=rf"accepted: a run that was handed out \({run}\)"):
        tell(folder, str(run).replace("s101", "s102"), {"val": 1.0})
    with pytest.raises(StudyError, match="RUN: got"):
        renew(folder, str(run).replace("s101", "s102"))


def test_a_crash_between_answer_and_record_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, whole = begun(tmp_path / "a"), begun(tmp_path / "b")
    to_the_end(whole)
    count = 0

    def crash(self: Any, *given: Any, **keys: Any) -> Any:
        raise KeyboardInterrupt

    while True:
        asked = ask(folder)
        if not asked:
            break
        count += 1
        if count % 3 == 0:
            with monkeypatch.context() as broken:
                broken.setattr("tune_bn.study.feeds.Recorder.record", crash)
                # Whoever told does not know whether it was heard.
                with suppress(KeyboardInterrupt):
                    tell(folder, asked.run or "", scores_of(asked))
            assert tell(folder, asked.run or "", scores_of(asked)).again
        else:
            tell(folder, asked.run or "", scores_of(asked))
    assert asked.state == FINISHED
    assert essence(folder) == essence(whole)


def test_a_ledger_that_is_damaged_is_named(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    ask(folder)
    (folder.path / "asked.json").write_text('{"tasks": 3')
    with pytest.raises(StudyError, match=r"asked.json: cannot be read"):
        ask(folder)


def test_other_spaces_are_not_asked(tmp_path: Path) -> None:
    space = parse_space({"name": "digits", "search": {"gamma": {"uniform": [0.1, 1]}}}, "digits")
    folder = StudyFolder(tmp_path / "d").created(space)
    with pytest.raises(SpecError, match="trainer: got the built-in loop, whose runs `tune_bn search` trains"):
        ask(folder)
    from tune_bn.trainers.choose import trainer_of

    with pytest.raises(SpecError, match=r"trainer\.ask: got true"):
        trainer_of(parse_space(CONTENT, "asked"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainer": CONTENT["trainer"] | {"command": ["python", "x.py"]}}, "trainer.command"),
        ({"trainer": CONTENT["trainer"] | {"checkpoint": "x"}}, "trainer.checkpoint"),
        ({"budget": {"trials": 4, "hours": 1}}, "budget.hours"),
        ({"trainer": CONTENT["trainer"] | {"ask": False}}, "or ask: true"),
    ],
)
def test_keys_that_do_not_go_with_it(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_space(CONTENT | change, "asked")
    assert words in str(error.value)


def loop(space: Mapping[str, Any], output: str) -> None:
    asking.write_report = lambda folder: []  # type: ignore[assignment]
    study = tune_bn.begin_study(space, "mine", output=output)
    while asked := study.ask(wait=True):
        study.tell(asked.run or "", scores_of(asked))


def test_several_loops_share_a_study(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    loops = [context.Process(target=loop, args=(CONTENT, str(tmp_path))) for _ in range(3)]
    for one in loops:
        one.start()
    for one in loops:
        one.join(120)
    assert [one.exitcode for one in loops] == [0, 0, 0]
    study = tune_bn.open_study(tmp_path / "mine")
    keys = [record.key for record in study.records]
    assert len(keys) == len(set(keys)) == 16
    assert study.verdict is not None
    assert study.verdict["verdict"] == "supported"
