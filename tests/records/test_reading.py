"""Dataclasses out of JSON: what the types say is taken, all else is told of with place, value and what is accepted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest

from tune_bn.errors import RecordError
from tune_bn.records.reading import Check, ExactKeys, ReadBy, Refused, as_json, check_types, from_json, read_as
from tune_bn.records.score import Score, accuracy, score_from


@dataclass(frozen=True)
class Part:
    size: float
    name: str | None = None


@dataclass(frozen=True)
class Whole:
    title: str
    count: int
    on: bool = False
    parts: tuple[Part, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    one: Part | None = None
    seeds: tuple[int, ...] | None = None


FULL = Whole("a", 3, True, (Part(0.5), Part(2, "b")), {"x": [1, {}]}, Part(1.0), (1, 2))


def test_what_was_written_is_read() -> None:
    assert from_json(Whole, json.loads(json.dumps(asdict(FULL)))) == FULL
    assert from_json(Whole, {"title": "", "count": 0}) == Whole("", 0)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"count": True}, "count: got True; accepted: int"),
        ({"count": 3.0}, "count: got 3.0; accepted: int"),
        ({"count": "3"}, "count: got '3'; accepted: int"),
        ({"title": None}, "title: got None; accepted: str"),
        ({"on": 1}, "on: got 1; accepted: true or false"),
        ({"more": []}, "more: got []; accepted: dict"),
        ({"parts": {}}, "parts: got {}; accepted: list"),
        ({"parts": [{"size": 1}, 5]}, "parts[1]: got 5; accepted: an object"),
        ({"parts": [{"size": "1"}]}, "parts[0].size: got '1'; accepted: int or float"),
        ({"parts": [{"size": float("inf")}]}, "parts[0].size: got inf; accepted: int or float"),
        ({"parts": [{"size": 1, "name": 2}]}, "parts[0].name: got 2; accepted: str or null"),
        ({"parts": [{"name": "a"}]}, "parts[0].size: got 'nothing'; accepted: exactly size, name"),
        ({"one": []}, "one: got []; accepted: an object or null"),
        ({"one": {"size": 1, "x": 0}}, "one.x: got 0; accepted: no such key; exactly size, name"),
        ({"seeds": [1, 2.5]}, "seeds[1]: got 2.5; accepted: int"),
        ({"seeds": 5}, "seeds: got 5; accepted: list or null"),
        ({"titel": "a"}, "titel: got 'a'; accepted: no such key; exactly title, count, on, parts, more, one, seeds"),
    ],
)
def test_another_value_is_refused_with_its_place(change: Any, line: str) -> None:
    with pytest.raises(Refused) as refused:
        from_json(Whole, asdict(FULL) | {"parts": [], "seeds": None} | change)
    assert str(refused.value) == line


@pytest.mark.parametrize("content", [None, 3, "x", [], [{}]])
def test_what_is_no_object_is_refused(content: Any) -> None:
    with pytest.raises(Refused, match=r"^content: got .*; accepted: an object$"):
        from_json(Whole, content)


def test_keys_of_a_later_version_are_passed_over_where_that_is_asked_for() -> None:
    content = {"title": "a", "count": 1, "later": 5}
    assert from_json(Whole, content, lenient=True) == Whole("a", 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"no whole \(.*\); accepted: the file as it was written"),
        ("[" * 100_000, r"no whole \(.*recursion.*\); accepted: the file as it was written"),
        ('{"title": "a"}', "count: got 'nothing'; accepted: exactly title, .*"),
        ('{"title": "a", "count": 1e999}', "count: got inf; accepted: int"),
        ('{"title": "\\ud800", "count": "x\\n"}', r"count: got 'x\\n'; accepted: int"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "whole.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=rf"^{re.escape(str(path))}: {words}$") as refused:
        read_as(Whole, path, what="whole")
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"cannot be read \(No such file or directory\); accepted: whole$") as missing:
        read_as(Whole, tmp_path / "whole.json", what="whole")
    assert isinstance(missing.value.__cause__, FileNotFoundError)
    with pytest.raises(RecordError, match=r"cannot be read \(Is a directory\)"):
        read_as(Whole, tmp_path, what="whole")


def test_plain_types_are_checked_where_the_dataclass_is_made_already() -> None:
    check_types(Whole("a", 1, more={}, one=None, seeds=None, parts=[]))  # type: ignore[arg-type]
    with pytest.raises(Refused, match=r"^count: got '1'; accepted: int$"):
        check_types(Whole("a", "1"))  # type: ignore[arg-type]


def test_a_field_that_json_has_no_values_for_is_a_mistake_of_ours() -> None:
    @dataclass(frozen=True)
    class Odd:
        path: Path

    with pytest.raises((TypeError, NameError)):
        from_json(Odd, {"path": "/"})


SHARE = Check(lambda value: type(value) in (int, float) and 0 <= value <= 1, "a number from 0 to 1")
WORD = Check(lambda value: value in ("a", "b"), "a or b")


@dataclass(frozen=True)
class Narrow(ExactKeys):
    share: Annotated[float, SHARE]
    score: Annotated[Score, ReadBy(score_from)]
    word: Annotated[str | None, WORD] = None
    parts: tuple[Part, ...] = ()


NARROW = {"share": 1, "score": accuracy().to_json()}


@pytest.mark.parametrize("more", [{}, {"word": "a"}, {"parts": [{"size": 1}, {"size": 0.5, "name": "b"}]}])
def test_what_was_read_is_written_without_what_it_did_not_say(more: Any) -> None:
    content = NARROW | more
    assert json.dumps(as_json(from_json(Narrow, content)), sort_keys=True) == json.dumps(content, sort_keys=True)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (NARROW | {"share": 2}, "share: got 2; accepted: a number from 0 to 1"),
        (NARROW | {"share": "x"}, "share: got 'x'; accepted: a number from 0 to 1"),
        (NARROW | {"word": None}, "word: got None; accepted: a or b"),
        (NARROW | {"words": "a"}, "words: missing or unknown key; accepted: exactly share, score"),
        ({"share": 1, "word": "a"}, "score: missing or unknown key; accepted: exactly share, score, word"),
        (NARROW | {"score": NARROW["score"] | {"goal": "up"}}, "score.goal: got 'up'; accepted: max | min"),
    ],
)
def test_a_narrower_type_has_words_of_its_own(content: Any, line: str) -> None:
    with pytest.raises(Refused) as refused:
        from_json(Narrow, content)
    assert str(refused.value) == line
