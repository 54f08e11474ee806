"""The files of diagnostics: what was written comes back, and what was damaged is refused with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.records.synthetic_layers import diagnostics
from tune_bn.errors import RecordError
from tune_bn.records.diagnostics import Diagnostics, read_diagnostics, to_json
from tune_bn.records.files import write_json


@pytest.mark.parametrize(
    "found", [diagnostics(4), Diagnostics(3, problem="RuntimeError: no memory"), Diagnostics(3, epoch=None)]
)
def test_what_was_written_comes_back(tmp_path: Path, found: Diagnostics) -> None:
    write_json(tmp_path / "one.json", to_json(found))
    assert read_diagnostics(tmp_path / "one.json") == found


def _set(*place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        node: Any = content
        for step in place[:-1]:
            node = node[step]
        node[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_set("schema_version", value=9), "schema_version: got 9"),
        (_set("seed", value="one"), "seed: got 'one'"),
        (_set("seed", value=True), "seed: got True"),
        (_set("layers", value=3), "layers: got 3; accepted: list"),
        (_set("layers", 0, value=None), r"layers\[0\]: got None; accepted: an object"),
        (_set("layers", 0, "gamma", value=None), r"layers\[0\]\.gamma: got None; accepted: an object"),
        (_set("layers", 0, "name", value=5), r"layers\[0\]\.name: got 5; accepted: str"),
        (_set("layers", 0, "gamma", "mean", value="0.1"), "mean: got '0.1'"),
        (_set("layers", 0, "gamma", "mean", value=True), "mean: got True"),
        (_set("layers", 0, "output", "largest", value=[1]), r"largest: got \[1\]"),
        (_set("layers", 0, "gamma", "median", value=1.0), "median"),
        (_set("layers", 0, "more", value=1.0), "more"),
        (_set("more", value=1.0), "more"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Callable[[dict[str, Any]], None], words: str) -> None:
    content, path = to_json(diagnostics(2)), tmp_path / "one.json"
    content["layers"] = list(content["layers"])
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(
        RecordError, match=rf"^{re.escape(str(path))}: no diagnostics \(.*{words}.*; accepted: the file"
    ):
        read_diagnostics(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", "[" * 100_000])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.json"
    path.write_text(text)
    with pytest.raises(RecordError, match="no diagnostics"):
        read_diagnostics(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"cannot be read \(No such file or directory\)"):
        read_diagnostics(tmp_path / "one.json")
