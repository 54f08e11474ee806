"""The hash of a space is the name of what its studies depend on: it may not change under them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tune_bn.options import Options, choice, option
from tune_bn.space import space as spec
from tune_bn.space.loading import load_space, parse_space
from tune_bn.space.locate import find_space
from tune_bn.space.sections import Section, entry
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder

BEFORE = {
    "digits.yaml": "441cb13af8ca3aecf37b209ff8d4f8b26664bdfa413ef13739d38ba9280da49f",
    "digits_methods.yaml": "496bb730d656092e4981f75805b7b0fd3e76e9d0fa8424fa4a5ce3aaa006698b",
    "folder.yaml": "37622f47555b4220e96715e0ee22e6eb15172aa57f33b9b43e90279d42f520a9",
    "resnet.yaml": "6c89b9b49d9d0cb43707bfbe9e67222514bacf9f5b47839e6423fa97b1de17c9",
}
"""Hashes that studies hold which were made before data.val_folder and data.exif were keys."""
THEN = {
    "digits.yaml": ["scheduler.grace=10"],
    "folder.yaml": ["scheduler={name: none}"],
    "resnet.yaml": ["scheduler.grace=20"],
}
"""What these files said then: they search with an automatic grace now, which is another study."""

LEAST: dict[str, Any] = {"name": "x", "search": {"gamma": {"log_uniform": [0.01, 1.0]}}}
FOLDER: dict[str, Any] = {**LEAST, "data": {"source": "folder", "root": "data"}}


@pytest.mark.parametrize("name", sorted(BEFORE))
def test_studies_made_before_a_key_keep_their_hash(name: str) -> None:
    assert load_space(find_space(name), THEN.get(name, [])).sha256 == BEFORE[name]


@pytest.mark.parametrize(
    "content", [{"scheduler": {"name": "none"}}, {"search": {}, "claim": {"arms": {"a": {"c": 9}}}}]
)
def test_a_grace_that_means_nothing_is_no_part_of_the_hash(content: dict[str, Any]) -> None:
    """It was 10 by default once, and is automatic now."""

    def with_grace(grace: int | str) -> str:
        return parse_space(
            {**LEAST, **content, "scheduler": {**content.get("scheduler", {}), "grace": grace}}, "x"
        ).sha256

    assert parse_space({**LEAST, **content}, "x").sha256 == with_grace("auto") == with_grace(10)
    searching = [parse_space({**LEAST, "scheduler": {"grace": grace}}, "x").sha256 for grace in ("auto", 10, 11)]
    assert len(set(searching)) == 3


def test_a_space_file_of_an_earlier_version_can_be_resumed(tmp_path: Path) -> None:
    space = parse_space(FOLDER, "x")
    folder = StudyFolder(tmp_path / "old").created(space)
    lines = folder.space_file.read_text().splitlines(keepends=True)
    old = [line for line in lines if line.split(":")[0].strip() not in ("val_folder", "exif")]
    assert len(old) == len(lines) - 2
    folder.space_file.write_text("".join(old))
    assert folder.space().sha256 == space.sha256
    folder.check_resume(space)


@pytest.mark.parametrize("data", [{"val_folder": "test"}, {"val_folder": "unused"}, {"exif": "apply"}])
def test_a_new_key_that_is_used_is_part_of_the_hash(data: dict[str, str]) -> None:
    space = parse_space({**FOLDER, "data": {**FOLDER["data"], **data}}, "x")
    assert space.sha256 != parse_space(FOLDER, "x").sha256
    assert parse_space(space.to_dict(), "x").sha256 == space.sha256


def test_keys_are_found_in_sections_of_both_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Some(Options):
        old: int = option(1, doc="", accepted="")
        new: int | None = option(None, doc="", accepted="", added=True)
        word: str = choice("a", "a", "b", doc="", added=True)

    class Other(Section):
        old: int = entry(1, doc="", accepted="")
        new: int = entry(2, doc="", accepted="", added=True)

    kinds = {"model": type("F", (), {"annotation": Some}), "claim": type("F", (), {"annotation": Other})}
    monkeypatch.setattr(Space, "model_fields", kinds)
    monkeypatch.setitem(spec.OPTIONS, Some, dict(Some.__dataclass_fields__))
    assert list(spec._added_keys()) == [("model", "new", None), ("model", "word", "a"), ("claim", "new", 2)]
