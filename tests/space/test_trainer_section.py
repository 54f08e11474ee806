"""The section ``trainer`` of the space file: what it gives, and one line for whatever is wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tune_bn.errors import SpecError
from tune_bn.space.loading import load_space, parse_space
from tune_bn.trainers.choose import trainer_of

CONTENT: dict[str, Any] = {
    "name": "own",
    "trainer": {
        "command": ["python", "train.py", "--wd={wd}"],
        "code": ["train.py"],
        "steps": 6,
        "score": {"validation": "val", "test": "test", "goal": "min"},
        "params": {"wd": 0.1},
    },
    "search": {"beta": {"uniform": [0, 1]}, "depth": {"int": [1, 3]}},
    "claim": {"about": ["beta"], "baseline": {"beta": 1}},
    "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3]},
}


def changed(place: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(CONTENT)
    *parts, last = place.split(".")
    node = content
    for part in parts:
        node = node.setdefault(part, {})
    if value is None:
        node.pop(last)
    else:
        node[last] = value
    return content


def test_parameters_have_free_names_and_the_claim_says_which_are_scientific() -> None:
    space = parse_space(CONTENT, "own")
    assert (space.nuisance, space.baseline) == (("depth",), {"beta": 1.0})
    assert space.run_config({"beta": 1, "depth": 2}) == {"wd": 0.1, "beta": 1.0, "depth": 2}
    assert type(space.run_config({"beta": 1})["beta"]) is float
    assert type(space.run_config({"depth": 2})["depth"]) is int
    ten = parse_space({**CONTENT, "scheduler": {"grace": 10}}, "own")
    assert ten.scheduler_config is None, "6 steps are fewer than the grace"
    assert parse_space(space.to_dict(), "again") == space


def test_gamma_and_c_need_no_about() -> None:
    content = changed("claim", {"baseline": {"gamma": 1, "c": 1}})
    content["search"] = {"gamma": {"log_uniform": [0.01, 1]}, "c": {"log_uniform": [1, 100]}, "lr": {"uniform": [0, 1]}}
    assert parse_space(content, "own").nuisance == ("lr",)
    del content["claim"]["baseline"]
    assert parse_space(content, "own").baseline == {"gamma": 1.0, "c": 1.0}


def test_how_a_script_is_ended_is_no_part_of_the_hash_and_what_it_computes_is() -> None:
    own = parse_space(CONTENT, "own").sha256
    for place, value in (("trainer.grace", "5s"), ("trainer.timeout", "2h"), ("trainer.root", "/elsewhere")):
        assert parse_space(changed(place, value), "own").sha256 == own
    for place, value in (("trainer.steps", 7), ("trainer.params.wd", 0.2), ("trainer.score.goal", "max")):
        assert parse_space(changed(place, value), "own").sha256 != own


def test_a_time_is_a_number_with_a_unit() -> None:
    times = {"90s": 90.0, "30 min": 1800.0, "2h": 7200.0, 5: 5.0, "1d": 86400.0}
    for text, seconds in times.items():
        trainer = parse_space(changed("trainer.timeout", text), "own").trainer
        assert trainer is not None
        assert trainer.timeout == seconds


WRONG = {
    "trainer.command": ("python train.py", "a list of words"),
    "trainer.function": ("a:b", "a command, a function or a name, one of the three"),
    "trainer.steps": (0, "an integer ≥ 1"),
    "trainer.timeout": ("soon", "a time such as 2h"),
    "trainer.grace": ("-3s", "a time such as 30s"),
    "trainer.score.goal": ("up", "max | min"),
    "trainer.score.test": ("val", "another name than that of the validation score"),
    "trainer.score.at": ("first", "best | last | mean_last"),
    "trainer.score.range": ([1, 0], "two numbers that increase"),
    "trainer.score.best": (1, "one of at, diverged, goal"),
    "trainer.metrics": ({"xml": "a"}, "one of csv, json, tensorboard"),
    "trainer.metrics.csv": ("/var/log/x.csv", "a path below the run's current folder"),
    "trainer.checkpoint": ("last.pt", "null, or resume or test_command beside it"),
    "trainer.params.seed": (3, "other than seed, steps"),
    "trainer.params.a-b": (3, "a name of letters, digits"),
    "trainer.meaning": ({"lr": "x"}, "gamma or c"),
    "trainer.files": ({"/etc/passwd": "a"}, "a path below the run's current folder"),
    "trainer.isolate": (True, "false with a command"),
    "trainer.comand": ("x", "command (did you mean it?)"),
    "trainer.confirm_resume": ("never", "exact | restart | any"),
    "trainer.name": ("nobodys", "a trainer of an installed package (none is installed); or a command or a function"),
    "trainer.options": ({"a": 1}, "no options without the name of a trainer of a package"),
    "claim.about": (["gamma"], "searched keys: beta, depth"),
    "claim.baseline": ({"depth": 2, "beta": 1}, "depth is searched, for the baseline too"),
    "seeds.search": ([0], "integers ≥ 1"),
    "train": ({"epochs": 3}, "no such section beside trainer"),
    "model": ({"arch": "resnet8"}, "no such section beside trainer"),
    "search.seed": ({"int": [1, 3]}, "a name of letters, digits"),
}


@pytest.mark.parametrize("place", WRONG)
def test_what_is_wrong_gets_one_line(place: str) -> None:
    value, words = WRONG[place]
    with pytest.raises(SpecError) as error:
        parse_space(changed(place, value), "own.yaml")
    line = str(error.value)
    assert line.startswith("own.yaml: ")
    assert words in line
    assert "\n" not in line
    assert place.split(".")[0] in line
    assert "got" in line or "no such key" in line


@pytest.mark.parametrize("place", ["trainer.steps", "trainer.score", "trainer.command", "claim.baseline.beta"])
def test_what_is_missing_gets_one_line(place: str) -> None:
    with pytest.raises(SpecError, match=place.rpartition(".")[2]):
        parse_space(changed(place, None), "own.yaml")


def test_the_built_in_loop_has_no_about() -> None:
    content = {"name": "x", "search": {"gamma": {"log_uniform": [0.1, 1]}}, "claim": {"about": ["gamma"]}}
    with pytest.raises(SpecError, match=r"claim.about: got .*accepted: null without a trainer"):
        parse_space(content, "x.yaml")


OUTSIDE = {
    "trainer.code": (["other.py"], "a file or folder in"),
    "trainer.command": (["python", "train.py", "{lr}"], "placeholders for"),
    "trainer.data": ({"test": "nowhere"}, "a file or folder that is there"),
    "trainer.files": ({"a.yaml": "none.yaml"}, "a file in"),
    "trainer.test_command": (["python", "test.py"], "code that holds test.py"),
}


@pytest.mark.parametrize("place", OUTSIDE)
def test_what_is_not_there_gets_one_line_too(place: str, tmp_path: Path) -> None:
    value, words = OUTSIDE[place]
    (tmp_path / "train.py").write_text("")
    (tmp_path / "test.py").write_text("")
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(changed(place, value)))
    with pytest.raises(SpecError) as error:
        trainer_of(load_space(tmp_path / "space.yaml"))
    assert words in str(error.value)
    assert str(error.value).startswith("trainer.")
    assert "\n" not in str(error.value)


def test_code_git_outside_a_repository_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(changed("trainer.code", "git")))
    with pytest.raises(SpecError, match=r"trainer.code: got 'git'; accepted: a list of files and folders"):
        trainer_of(load_space(tmp_path / "space.yaml"))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("train:trian", "train (did you mean it?)"),
        ("other:train", "a module of the code that is frozen"),
        ("train:train", ""),
    ],
)
def test_a_function_is_looked_for_before_anything_starts(function: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('nobody imports this')\ndef train(run): pass\n")
    content = changed("trainer.function", function)
    del content["trainer"]["command"]
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(content))
    if not words:
        assert trainer_of(load_space(tmp_path / "space.yaml")).name == "function"
        return
    with pytest.raises(SpecError) as error:
        trainer_of(load_space(tmp_path / "space.yaml"))
    assert words in str(error.value)
