"""The tree of the tests is as tests/README.md says."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "tune_bn"
MODULES = sorted(TESTS.rglob("*.py"))
LONGEST = 400


def test_every_folder_stands_in_the_readme() -> None:
    readme = (TESTS / "README.md").read_text(encoding="utf-8")
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and not path.name.startswith(("__", "."))}
    assert {name for name in folders if f"`{name}/`" not in readme} == set()


def test_every_room_has_a_folder_of_its_name() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    # These are tests themselves, or run in processes of the tests of trainers.
    assert {room for room in rooms if not (TESTS / room).is_dir()} == {"protocols", "script", "testing"}


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    lines = {path.relative_to(TESTS).as_posix(): len(path.read_bytes().splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}
