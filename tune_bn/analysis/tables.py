"""Files as tables: a header and rows of cells, each row with its place in the file. Nothing is judged here.

Delimited text (comma, semicolon, tab or bar; what spreadsheets write), JSON lines and a JSON list of objects, with the
standard library alone. :mod:`tune_bn.front.score_files` adds Parquet.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_bn.analysis.notation import looks_like_number
from tune_bn.errors import ScoresError, listed

MOST_BYTES = 4 * 2**20

ACCEPTED_FILES = "a table as .csv, .tsv, .parquet or .jsonl"

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_FOREIGN = {
    b"PK\x03\x04": "an Excel workbook or another zip file; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"BZh": "compressed by bzip2; unpack it",
    b"\xfd7zXZ": "compressed by xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
    b"SQLite format 3": "an SQLite database; MLflow's is judged by --mlflow sqlite:///PATH",
    b"%PDF": "a PDF",
}


@dataclass(frozen=True)
class Row:
    """One row: where it stands in the file, and its cells in the order of the header."""

    place: str
    cells: tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """A header and the rows below it."""

    path: str
    """The file, as it was named."""
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    delimiter: str | None = None
    """What parted the cells of delimited text; None where the file says itself what is a number."""
    remarks: tuple[str, ...] = ()
    """What was passed over."""

    @property
    def source(self) -> str:
        """Name of the file, without its folder."""
        return Path(self.path).name


def read_table(path: Path) -> Table:
    """Read delimited text, JSON lines or a JSON list; UTF-8, or UTF-16 with its byte order mark.

    The delimiter is found from the header. Blank rows, empty columns at the right edge and lines that begin with ``#``
    are passed over; the last is remarked.

    Raises:
        ScoresError: the file cannot be read as a table; the message names file, line and what was found there.
    """
    content = read_content(path)
    for magic, what in _FOREIGN.items():
        if content.startswith(magic):
            raise ScoresError(f"{path}: is {what}; accepted: {ACCEPTED_FILES}")
    text = _decoded(path, content)
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json") or text.lstrip()[:1] in ("{", "["):
        return _from_json(path, text)
    return _from_text(path, text)


def read_content(path: Path) -> bytes:
    """The bytes of a file of at most :data:`MOST_BYTES`.

    Raises:
        ScoresError: it cannot be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ScoresError(f"{path}: cannot be read ({reason}); accepted: {ACCEPTED_FILES}") from None
    if len(content) > MOST_BYTES:
        raise ScoresError(f"{path}: is too large; accepted: a table of at most {MOST_BYTES:,} bytes")
    return content


def table_of(path: Path, objects: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    """A table of objects, each with its place; nested keys are joined by dots, what an object lacks is None."""
    rows = [(place, dict(_flat(content))) for place, content in objects]
    header = tuple(dict.fromkeys(key for _, row in rows for key in row))
    return Table(str(path), header, tuple(Row(place, tuple(map(row.get, header))) for place, row in rows))


def _flat(content: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield without_invisible(f"{above}{key}"), without_invisible(value) if isinstance(value, str) else value


def _decoded(path: Path, content: bytes) -> str:
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = "UTF-16 text, as its first bytes promise" if marked else "UTF-8 text"
        raise ScoresError(f"{path}:{line}: is not {what}; accepted: a table in UTF-8") from None


def _from_json(path: Path, text: str) -> Table:
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ScoresError(f"{path}: not JSON ({error}); accepted: a JSON list of objects, or JSON lines") from None
        objects = [(f"{path}: row {number}", item) for number, item in enumerate(found, 1)]
    else:
        objects = []
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                objects.append((f"{path}:{number}", json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise ScoresError(
                    f"{path}:{number}: not JSON ({error}); accepted: JSON lines, one object on each line, or a JSON "
                    "list of objects"
                ) from None
    for place, item in objects:
        if not isinstance(item, dict):
            raise ScoresError(f"{place}: got {type(item).__name__}; accepted: an object with named values")
    try:
        return table_of(path, objects)
    except RecursionError:
        raise ScoresError(f"{path}: objects nested too deeply; accepted: one flat object for each run") from None


def _from_text(path: Path, text: str) -> Table:
    remarks = []
    blank = 0
    if text[:4].lower() == "sep=" and text[4:5] in _DELIMITERS and text[5:6] in ("\r", "\n"):
        # Excel's own hint to itself.
        named: str | None = text[4]
        text, blank = text[5:].removeprefix("\r").removeprefix("\n"), 1
    else:
        named = None
    # Lines are kept, so that places stay true.
    lines = io.StringIO(text, newline="").readlines()
    left_out = 0
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("#")):
        if lines[0].strip():
            if _is_header_in_a_comment(lines):
                lines[0] = lines[0].lstrip().lstrip("#").lstrip()
                break
            left_out += 1
        lines.pop(0)
        blank += 1
    delimiter = named or _delimiter(path, lines, blank)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows: list[Row] = []
    header: tuple[str, ...] | None = None
    try:
        for cells in reader:
            place = f"{path}:{reader.line_num + blank}"
            cells = [without_invisible(cell) for cell in cells]
            if header is None:
                header = _without_edge(cells, 0)
                continue
            if not any(cells):
                continue
            if cells[0].startswith("#"):
                left_out += 1
                continue
            if delimiter == "|" and all(re.fullmatch(r":?-{2,}:?|", cell) for cell in cells):
                # The rule below the header of a table in Markdown.
                continue
            cells = list(_without_edge(cells, len(header)))
            if len(cells) != len(header):
                hint = _hint(cells, header, delimiter)
                raise ScoresError(f"{place}: {len(cells)} fields; accepted: {len(header)}, as in the header{hint}")
            rows.append(Row(place, tuple(cells)))
    except csv.Error as error:
        raise ScoresError(f"{path}:{reader.line_num + blank}: not CSV ({error}); accepted: a CSV file") from None
    if left_out:
        remarks.append(f"{left_out} {'line that begins' if left_out == 1 else 'lines that begin'} with # left out")
    return Table(str(path), header or (), tuple(rows), delimiter, tuple(remarks))


def without_invisible(text: str) -> str:
    """The text without spaces around it and without characters that nobody sees, which would make two names of one."""
    return _INVISIBLE.sub("", text).strip()


def _without_edge(cells: Sequence[str], width: int) -> tuple[str, ...]:
    """The cells without empty ones at the right, but at least ``width``."""
    end = len(cells)
    while end > width and not cells[end - 1]:
        end -= 1
    return tuple(cells[:end])


def _is_header_in_a_comment(lines: Sequence[str]) -> bool:
    """``# arm,seed,score`` above rows of as many cells, as NumPy writes it, where no other header follows."""
    following = next((line for line in lines[1:] if line.strip()), "")
    if following.lstrip().startswith("#"):
        return False
    bare = lines[0].lstrip().lstrip("#").strip()
    for delimiter in _DELIMITERS:
        names, cells = bare.split(delimiter), following.strip().split(delimiter)
        if len(names) == len(cells) > 1 and any(map(_numeric, cells)) and not any(map(_numeric, names)):
            return True
    return False


def _numeric(text: str) -> bool:
    return looks_like_number(text.strip())


def _delimiter(path: Path, lines: Sequence[str], blank: int) -> str:
    """The delimiter of the header: the one among several that cuts every row into as many cells as the header."""
    first = lines[0] if lines else ""
    held = [delimiter for delimiter in _DELIMITERS if _cells(first, delimiter) > 1]
    if len(held) <= 1:
        return held[0] if held else ","
    fitting = [d for d in held if all(_cells(line, d) == _cells(first, d) for line in lines if line.strip())]
    if len(fitting) == 1:
        return fitting[0]
    if "\t" in held:
        return "\t"
    names = [_DELIMITERS[delimiter] for delimiter in held]
    if not fitting and "," in held and '"' in first:
        return ","
    raise ScoresError(
        f"{path}:{blank + 1}: the header holds {' and '.join(names)}, and it cannot be told which of them parts the "
        "columns; accepted: names without them, or in quotes"
    )


def _cells(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _hint(cells: Sequence[str], header: Sequence[str], delimiter: str) -> str:
    whole = [cell for cell in cells if cell.isdigit()]
    if delimiter == "," and len(cells) > len(header) and len(whole) >= 2:
        return "; numbers with a decimal comma stand in quotes, or the columns are parted by semicolons"
    if len(header) == 1:
        return f" ({listed(header)}); columns are parted by comma, semicolon, tab or bar"
    return ""
