"""Finding a space file: as a path, in ``search_spaces/``, or among those that the package brings."""

from __future__ import annotations

from pathlib import Path

from tune_bn.errors import SpecError

PACKAGE = Path(__file__).parent
FOLDER = "search_spaces"


def shipped_spaces() -> Path:
    """The folder of the spaces that the package brings: inside the wheel, or beside the package in a checkout."""
    inside = PACKAGE / FOLDER
    return inside if inside.is_dir() else PACKAGE.parent / FOLDER


def find_space(name: str) -> Path:
    """The space file of that name. Raises :class:`SpecError` with what there is."""
    places = [Path(name), Path(FOLDER) / name, shipped_spaces() / name]
    for place in places:
        if place.is_file():
            return place
    there = sorted({path.name for folder in places[1:] for path in folder.parent.glob("*.yaml")})
    raise SpecError(f"--space: got {name}, which is not found; accepted: a path, or one of {', '.join(there) or 'none'}")
