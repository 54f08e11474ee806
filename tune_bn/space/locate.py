"""Finding a space file: as a path, in ``search_spaces/``, or among those that the package brings."""

from __future__ import annotations

import difflib
from pathlib import Path

from tune_bn.errors import SpecError

PACKAGE = Path(__file__).parents[1]
FOLDER = "search_spaces"


def shipped_spaces() -> Path:
    """The folder of the spaces that the package brings: inside the wheel, or beside the package in a checkout."""
    inside = PACKAGE / FOLDER
    return inside if inside.is_dir() else PACKAGE.parent / FOLDER


def find_space(name: str) -> Path:
    """The space file of that name. Raises :class:`SpecError` with what there is."""
    path, folders = Path(name), (Path(FOLDER), shipped_spaces())
    # A name with folders in it is a path, and nothing else.
    places = [path, *(folder / name for folder in folders)] if path.name == name else [path]
    for place in places:
        if _is_file(place):
            return place
    there = sorted({shipped.name for folder in folders for shipped in folder.glob("*.yaml")})
    problem = "is a folder" if path.is_dir() else "is not found"
    # Without the ending, which is alike in all of them.
    known = {one.removesuffix(".yaml"): one for one in there}
    close = difflib.get_close_matches(path.name.removesuffix(".yaml"), known, n=1)
    meant = f"{known[close[0]]} (did you mean it?), " if close else ""
    raise SpecError(
        f"--space: got {name!r}, which {problem}; accepted: {meant}a path, or one of {', '.join(there) or 'none'}"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise SpecError(f"--space: got {str(path)!r} ({error.strerror}); accepted: a path, or a name") from None
