"""Images in Parquet files, as Hugging Face lays them out: ``data: {source: parquet, root: DIR}``.

A split is the files whose name begins with it (``data/train-00000-of-00002.parquet``), or those in a folder of its name
(``train/0000.parquet``). Of each row ``image`` is a struct of ``bytes`` and ``path`` (a file beside the table, where
there are no bytes), or the bytes themselves; ``label`` is the index of its class, or its name.
"""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tune_bn.data.config import DataConfig
from tune_bn.data.decoding import OnDisk
from tune_bn.data.sources.base import FileSet, ImageFiles, require_every_class, root_folder
from tune_bn.data.sources.folder import SPLITS, TEST, TRAIN, VALIDATION, choose_val
from tune_bn.errors import DataError, listed
from tune_bn.host.extras import require

IMAGE, LABEL = ("image", "img"), ("label", "labels", "fine_label")
LAYOUT = "train-*.parquet and test-*.parquet"
MOST_BYTES = 2**29
"""Of encoded images that are kept in memory while others are read."""


def parquet(config: DataConfig) -> FileSet:
    """The source ``parquet``.

    Raises:
        DataError: files, columns or labels are missing or of another kind.
        MissingExtra: pyarrow is not installed.
    """
    require("data.source: parquet", "tables")
    root = root_folder(config.root, f"a folder with {LAYOUT}")
    found, notes = _splits(root)
    names = {split: _words(root, files) for split, files in found.items()}
    if VALIDATION not in found and TEST not in found:
        got = f"data.root: got {str(root)!r}, which has {names[TRAIN]} alone"
        raise DataError(f"{got}; accepted: a folder with {LAYOUT}, or with train and validation")
    lacking = f"{root} has no {' or '.join(f'{name}-*.parquet' for name in SPLITS[VALIDATION])}"
    chosen = choose_val(str(root), names, config.val_folder, notes, lacking)
    tables = {split: [_Table(path) for path in found[origin]] for split, origin in chosen.items()}
    classes = _classes(tables[TRAIN])
    lists = {split: _images(split, rows, classes, root) for split, rows in tables.items()}
    return FileSet(
        root.name,
        classes,
        lists[TRAIN],
        lists.get(TEST),
        lists.get(VALIDATION),
        notes=tuple(notes),
        store=ParquetImages(),
    )


def _splits(root: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each split, in the order of their names, and what to say of the others."""
    kinds = {name: split for split, names in SPLITS.items() for name in names}
    found: dict[str, list[Path]] = {}
    others: list[str] = []
    for path in sorted(path for path in root.rglob("*.parquet") if not path.name.startswith(".")):
        names = [re.split(r"[-._]", path.name.casefold())[0], *(part.casefold() for part in path.parts[:-1][::-1])]
        inside = names[: len(path.relative_to(root).parts)]
        split = next((kinds[name] for name in inside if name in kinds), None)
        if split is None:
            others.append(str(path.relative_to(root)))
        else:
            found.setdefault(split, []).append(path)
    if TRAIN not in found:
        there = f" beside {listed(others)}" if others else ""
        raise DataError(
            f"data.root: got {str(root)!r}, which has no train-*.parquet{there}; accepted: a folder with {LAYOUT}"
        )
    # Two data sets below one root, each with its splits, are not one.
    found = {split: found[split] for split in SPLITS if split in found}
    for split, files in found.items():
        homes = sorted({_home(root, path, kinds) for path in files})
        if len(homes) > 1:
            got = f"data.root: got {str(root)!r}, which has {split} images in {listed(homes)}"
            raise DataError(f"{got}; accepted: one of these folders")
    notes = [f"not read, since no split is called so: {listed(others)}"] if others else []
    return found, notes


def _home(root: Path, path: Path, kinds: Mapping[str, str]) -> str:
    """The folder that holds a data set, without the folder of the split."""
    folder = path.parent
    if folder != root and folder.name.casefold() in kinds:
        folder = folder.parent
    return "." if folder == root else f"{folder.relative_to(root)}/"


def _words(root: Path, files: list[Path]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0].relative_to(root)}{more}"


class _Table:
    """A Parquet file: which columns are the images and the labels, and the labels."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path), _opened(path) as file:
            schema = file.schema_arrow
            image, self.label = _column(path, schema.names, IMAGE), _column(path, schema.names, LABEL)
            _check_image(path, image, schema.field(image).type)
            kind = schema.field(self.label).type
            self.labels: list[Any] = file.read(columns=[self.label]).column(self.label).to_pylist()
            self.names = _declared_names(schema.metadata, self.label)
        import pyarrow.types

        integers, words = pyarrow.types.is_integer(kind), pyarrow.types.is_string(kind)
        if not (integers or words or pyarrow.types.is_large_string(kind)):
            raise DataError(f"{path}: {self.label} is {kind}; accepted: integers or strings")
        for row, label in enumerate(self.labels):
            if label is None or (integers and label < 0):
                got = "nothing" if label is None else label
                accepted = "the class of each image (a table without labels is no test split)"
                raise DataError(f"{path}, row {row}: {self.label} is {got}; accepted: {accepted}")


def _column(path: Path, names: list[str], accepted: tuple[str, ...]) -> str:
    found = next((name for name in accepted if name in names), None)
    if found is None:
        raise DataError(f"{path}: has the columns {listed(names)}; accepted: one called {' or '.join(accepted)}")
    return found


def _check_image(path: Path, name: str, kind: Any) -> None:
    import pyarrow.types

    content = kind.field("bytes").type if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pyarrow.types.is_binary(content) or pyarrow.types.is_large_binary(content)):
        raise DataError(f"{path}: {name} is {kind}; accepted: a struct of bytes and path, or bytes of image files")


def _declared_names(metadata: Mapping[bytes, bytes] | None, column: str) -> list[str] | None:
    """The names of the classes that Hugging Face writes beside a table."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _classes(tables: list[_Table]) -> tuple[str, ...]:
    labels = {label for table in tables for label in table.labels}
    if len({type(label) for label in labels}) > 1:
        raise DataError(f"{tables[0].path}: labels are integers in one file and strings in another; accepted: one kind")
    if labels and isinstance(next(iter(labels)), str):
        return tuple(sorted(labels))
    declared = tables[0].names
    if declared is not None:
        return tuple(declared)
    return tuple(str(number) for number in range(max(labels, default=-1) + 1))


def _images(split: str, tables: list[_Table], classes: tuple[str, ...], root: Path) -> ImageFiles:
    numbers = {name: number for number, name in enumerate(classes)}
    paths: list[str] = []
    labels: list[int] = []
    for table in tables:
        for row, label in enumerate(table.labels):
            number = numbers.get(label, -1) if isinstance(label, str) else label
            if not 0 <= number < len(classes):
                accepted = f"one of {listed(classes)}" if isinstance(label, str) else f"0 to {len(classes) - 1}"
                place = f"{table.path}, row {row}"
                raise DataError(f"{place}: {table.label} is {label!r}; accepted: {accepted}, the classes of train")
            paths.append(f"{table.path}:{row}")
            labels.append(number)
    found = np.array(labels, dtype=np.int64)
    require_every_class(found, classes, root, {TRAIN: "training"}.get(split, split))
    return ImageFiles(paths, found)


class ParquetImages:
    """The images of rows, as ``FILE:ROW``; a :class:`tune_bn.data.decoding.Store`.

    The encoded images of a file are read together and kept until others need the memory: rows come in their order.
    """

    def __init__(self) -> None:
        self._columns: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def facts(self, path: str) -> list[Any]:
        """Of the file that holds the row."""
        return OnDisk().facts(path.rpartition(":")[0])

    def open(self, path: str) -> BinaryIO:
        """See :class:`tune_bn.data.decoding.Store`."""
        file, _, row = path.rpartition(":")
        value = self._column(file)[int(row)].as_py()
        content, beside = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if content is not None:
            return io.BytesIO(content)
        if beside:
            return open(os.path.join(os.path.dirname(file), beside), "rb")
        raise DataError(f"{path}: a row without an image; accepted: its bytes, or the path of a file")

    def _column(self, file: str) -> Any:
        with self._lock:
            if file not in self._columns:
                with _reading(Path(file)), _opened(Path(file)) as table:
                    name = _column(Path(file), table.schema_arrow.names, IMAGE)
                    self._columns[file] = table.read(columns=[name]).column(name)
            self._columns.move_to_end(file)
            while len(self._columns) > 1 and sum(column.nbytes for column in self._columns.values()) > MOST_BYTES:
                self._columns.popitem(last=False)
            return self._columns[file]

    def __reduce__(self) -> tuple[type[ParquetImages], tuple[()]]:
        return ParquetImages, ()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        yield file


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: unreadable ({reason}); accepted: a whole Parquet file") from None
