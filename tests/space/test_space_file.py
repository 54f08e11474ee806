import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tune_bn.errors import SpecError
from tune_bn.space.file import MAX_BYTES, dump_yaml, parse_value, parse_yaml

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
KEYS = st.text(st.characters(codec="utf-8"))
CONTENT = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-4", 1e-4),
        ("1E4", 1e4),
        ("1.0e-4", 1e-4),
        ("5.", 5.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("-3", -3),
        ("0", 0),
        ("true", True),
        ("null", None),
        ("", None),
        ("~", None),
        # Numbers, truth values and dates in YAML 1.1 alone.
        ("on", "on"),
        ("yes", "yes"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0x1F", "0x1F"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("'1e-4'", "1e-4"),
        ("[1, a]", [1, "a"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("{<<: {a: 1}}", {"<<": {"a": 1}}),
    ],
)
def test_plain_values_are_read_by_the_rules_of_yaml_1_2(text: str, expected: Any) -> None:
    value = parse_value(text, "--set x")
    assert value == expected
    assert type(value) is type(expected)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_value(".nan", "--set x"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("name: [", ":1:8", "expected the node content"),
        ("a: 1\n\tb: 2", ":2:1", "cannot start any token"),
        ("a: &x [1]\nb: *x\n", ":2:4", "aliases are not accepted"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", ":2:8", "aliases are not accepted"),
        ("a: 1\na: 2\n", ":2:1", "the key 'a' stands twice"),
        ("a: {b: 1, b: 2}\n", ":1:11", "the key 'b' stands twice"),
        ("1: a\n", ":1:1", "the key 1 is no text"),
        ("[1]: a\n", ":1:1", r"the key \[1\] is no text"),
        ("a: !!python/object/apply:os.system [true]\n", ":1:4", "tags are not accepted"),
        ("a: !!int x\n", ":1:4", "tags are not accepted"),
        ("a: !!bool x\n", ":1:4", "tags are not accepted"),
        ("a: !!timestamp x\n", ":1:4", "tags are not accepted"),
        ("--- !!map {}\n", ":1:5", "tags are not accepted"),
        ("a: 1\n---\nb: 2\n", ":2:1", "another document"),
        ("a: \0\n", "", "special characters are not allowed"),
        ("[" * 100_000, "", "nested too deeply"),
        ("9" * 5000, "", "a number is too long"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_in_one_line(tmp_path: Path, text: str, place: str, problem: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=f"bad.yaml{place}: .*{problem}.*; accepted: a YAML mapping$") as caught:
        parse_yaml(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n", "not UTF-8 text"),
        (b"#" * (MAX_BYTES + 1), "too large"),
    ],
)
def test_what_is_not_a_page_of_text_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(data)
    with pytest.raises(SpecError, match=rf"bad\.yaml: .*{problem}.*; accepted: "):
        parse_yaml(path)


@pytest.mark.long
def test_the_largest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"a: 1 #".ljust(MAX_BYTES, b"#"))
    assert parse_yaml(path) == {"a": 1}


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.yaml: cannot be read \(No such file"):
        parse_yaml(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="is a folder"):
        parse_yaml(tmp_path)


@pytest.mark.long
@settings(deadline=None)
@given(CONTENT)
@example({"\x85": None})
def test_what_is_written_is_read_back(content: Any) -> None:
    assert parse_value(dump_yaml(content), "text") == content


@pytest.mark.parametrize(
    "text", ["1e5", "1e-4", "on", "010", "null", "", "~", "2020-01-01", "a: b", "*x", "!t", "# no"]
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert parse_value(dump_yaml({"name": text}), "text") == {"name": text}


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(codec="utf-8")) | st.text("{}[]:,-#&*!|>'\"%@`? \n\tab01.~<="))
def test_any_text_is_a_value_or_an_error_of_one_line(text: str) -> None:
    problem = ""
    try:
        parse_value(text, "--set x")
    except SpecError as error:
        problem = str(error)
    assert len(problem.splitlines()) <= 1
