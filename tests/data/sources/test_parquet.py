"""Images in Parquet files, as Hugging Face lays them out."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import describe_data, load_dataset, read_data
from tune_bn.errors import DataError


def picture(seed: int, size: tuple[int, int] = (6, 5)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write(
    path: Path, seeds: Sequence[int], labels: Sequence[Any], names: list[str] | None = None, column: str = "image"
) -> None:
    images = [{"bytes": encoded(picture(seed)), "path": f"{seed}.png"} for seed in seeds]
    table = pa.table({column: images, "label": pa.array(labels)})
    if names is not None:
        feature = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two files to train on, one to test: three classes with names, 12, 9 and 6 images."""
    home = tmp_path / "pets" / "data"
    names = ["ant", "bee", "cat"]
    write(home / "train-00000-of-00002.parquet", range(12), [n % 3 for n in range(12)], names)
    write(home / "train-00001-of-00002.parquet", range(12, 21), [n % 3 for n in range(9)], names)
    write(home / "test-00000-of-00001.parquet", range(50, 56), [n % 3 for n in range(6)], names)
    (home.parent / "README.md").write_text("pets")
    return home.parent


def config(root: Path, **keys: Any) -> DataConfig:
    return DataConfig(source="parquet", root=str(root), **keys)


def test_rows_become_images_in_their_order(root: Path) -> None:
    data = load_dataset(config(root, val_size=3))
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (18, 3, 6)
    assert data.classes == ("ant", "bee", "cat")
    expected = np.stack([picture(seed).transpose(2, 0, 1) for seed in range(50, 56)])
    np.testing.assert_array_equal(data.test.images, expected)
    np.testing.assert_array_equal(data.test.labels, [0, 1, 2, 0, 1, 2])
    together = {image.tobytes() for image in (*data.train.images, *data.val.images)}
    assert together == {picture(seed).transpose(2, 0, 1).tobytes() for seed in range(21)}
    summary = describe_data(config(root, val_size=3))
    assert (summary.train_size, summary.image_shape, summary.remarks) == (18, (3, 6, 5), ())
    assert read_data(config(root))[0] == 27


def test_they_are_decoded_once_and_resized_as_files_are(root: Path, cache: Path) -> None:
    small = load_dataset(config(root, image_size=4))
    assert small.stored_shape == (3, 4, 4)
    entries = sorted(cache.iterdir())
    assert load_dataset(config(root, image_size=4)).sha256 == small.sha256
    assert sorted(cache.iterdir()) == entries
    # Another table of the same name is other data.
    path = root / "data" / "test-00000-of-00001.parquet"
    write(path, range(60, 66), [0, 1, 2, 0, 1, 2])
    other = load_dataset(config(root, image_size=4))
    assert other.identity["train"] == small.identity["train"]
    assert other.identity["test"] != small.identity["test"]


def test_layouts_of_folders_names_of_columns_and_strings(tmp_path: Path) -> None:
    write(tmp_path / "default" / "train" / "0000.parquet", range(9), ["bee", "ant", "cat"] * 3, column="img")
    write(tmp_path / "default" / "test" / "0000.parquet", range(20, 23), ["cat", "ant", "bee"], column="img")
    write(tmp_path / "default" / "validation" / "0000.parquet", range(30, 36), ["cat", "ant", "bee"] * 2, column="img")
    data = load_dataset(config(tmp_path))
    assert data.classes == ("ant", "bee", "cat")
    assert data.test is not None
    np.testing.assert_array_equal(data.test.labels, [2, 0, 1])
    assert (len(data.train), len(data.val)) == (9, 6)
    unused = load_dataset(config(tmp_path, val_folder="unused"))
    assert (len(unused.train), len(unused.val)) == (6, 3)


def test_a_validation_split_without_a_test_split_has_to_be_named(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", range(12), [n % 2 for n in range(12)])
    with pytest.raises(DataError, match=r"which has train.parquet alone"):
        describe_data(config(tmp_path))
    write(tmp_path / "validation.parquet", range(20, 24), [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"data.val_folder: got null; accepted: test \(validation.parquet holds the"):
        describe_data(config(tmp_path))
    summary = describe_data(config(tmp_path, val_folder="test"))
    assert (summary.train_size, summary.val_size, summary.test_size) == (10, 2, 4)
    assert "test images are those of validation.parquet" in summary.remarks[0]


def test_bytes_alone_and_files_beside_the_table(tmp_path: Path) -> None:
    labels = [0, 1] * 4
    plain = pa.table({"image": [encoded(picture(seed)) for seed in range(8)], "label": labels})
    pq.write_table(plain, tmp_path / "train.parquet")
    rows = []
    for seed in range(20, 24):
        (tmp_path / f"{seed}.png").write_bytes(encoded(picture(seed)))
        rows.append({"bytes": None, "path": f"{seed}.png"})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind), "label": labels[:4]}), tmp_path / "test.parquet")
    data = load_dataset(config(tmp_path))
    assert data.test is not None
    np.testing.assert_array_equal(data.test.images[3], picture(23).transpose(2, 0, 1))
    os.unlink(tmp_path / "21.png")
    with pytest.raises(DataError, match=r"test.parquet:1: unreadable"):
        describe_data(config(tmp_path))


def test_damaged_images_are_named_by_file_and_row(root: Path) -> None:
    path = root / "data" / "train-00001-of-00002.parquet"
    rows = [{"bytes": encoded(picture(seed)), "path": None} for seed in range(9)]
    rows[4] = {"bytes": b"nothing", "path": None}
    rows[7] = {"bytes": encoded(picture(7, (8, 5))), "path": None}
    pq.write_table(pa.table({"image": rows, "label": [n % 3 for n in range(9)]}), path)
    with pytest.raises(DataError) as error:
        load_dataset(config(root))
    assert f"{path}:4: not an image" in str(error.value)
    assert f"{path}:7: 5×8 pixels" in str(error.value)


def test_tables_that_are_none(tmp_path: Path) -> None:
    def given(words: str, change: Any, name: str = "train.parquet", **keys: Any) -> None:
        write(tmp_path / "train.parquet", range(9), [n % 3 for n in range(9)])
        write(tmp_path / "test.parquet", range(20, 23), [0, 1, 2])
        if isinstance(change, bytes):
            (tmp_path / name).write_bytes(change)
        else:
            pq.write_table(pa.table(change), tmp_path / name)
        with pytest.raises(DataError, match=words) as error:
            describe_data(config(tmp_path, **keys))
        assert "\n" not in str(error.value)

    images = [{"bytes": encoded(picture(seed)), "path": None} for seed in range(3)]
    given(r"train.parquet: unreadable", b"PAR1 and no more")
    given(r"has the columns label; accepted: one called image or img", {"label": [1, 2]})
    given(r"has the columns image, target; accepted: one called label", {"image": images, "target": [0, 1, 2]})
    given(r"image is list<.*>; accepted: a struct of bytes", {"image": [[1, 2]] * 3, "label": [0, 1, 2]})
    given(r"label is double; accepted: integers or strings", {"image": images, "label": [0.0, 1.0, 2.0]})
    given(r"test.parquet, row 1: label is -1", {"image": images, "label": [0, -1, 2]}, "test.parquet")
    given(r"test.parquet, row 0: label is nothing", {"image": images, "label": [None, 1, 2]}, "test.parquet")
    given(r"row 2: label is 7; accepted: 0 to 2", {"image": images, "label": [0, 1, 7]}, "test.parquet")
    given(r"row 0: label is 'a'; accepted: one of 0, 1, 2", {"image": images, "label": ["a"] * 3}, "test.parquet")
    given(r"no test image of class '2'", {"image": images, "label": [0, 1, 1]}, "test.parquet")


def test_folders_that_hold_none_or_two_data_sets(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which has no train-\*.parquet; accepted: a folder with"):
        describe_data(config(tmp_path))
    for name in ("small", "large"):
        write(tmp_path / name / "train.parquet", range(9), [n % 3 for n in range(9)])
        write(tmp_path / name / "test.parquet", range(20, 23), [0, 1, 2])
    with pytest.raises(DataError, match=r"train images in large/, small/; accepted: one of these folders"):
        describe_data(config(tmp_path))
    assert describe_data(config(tmp_path / "small")).test_size == 3
    with pytest.raises(DataError, match=r"data.root: got null"):
        describe_data(DataConfig(source="parquet"))


def test_what_opens_rows_travels_without_what_it_read(root: Path) -> None:
    from tune_bn.data.sources.parquet import ParquetImages

    store = ParquetImages()
    name = f"{root / 'data' / 'test-00000-of-00001.parquet'}:2"
    assert store.open(name).read() == encoded(picture(52))
    assert len(pickle.dumps(store)) < 200
