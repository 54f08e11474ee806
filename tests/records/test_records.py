import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_bn.errors import RecordError
from tune_bn.records.files import canonical_json, sha256_of, write_json, write_text
from tune_bn.records.log import RecordLog
from tune_bn.records.record import GENESIS, Record, run_key

RECORD = Record(
    study="digits-1",
    stage="search",
    arm="candidate",
    trial=3,
    seed=101,
    config={"gamma": 0.2, "c": 1e-05},
    status="completed",
    reason="reached epoch 40",
    epochs=40,
    epochs_planned=40,
    scores={"val_accuracy": 96.5, "best_epoch": 31},
    attempts=1,
    started_at="2026-01-01T00:00:00+00:00",
    duration_seconds=1.4,
    device="cpu",
    versions={"torch": "2.15.0"},
    commit=None,
    space_sha256="5" * 64,
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)
RECORDS = st.builds(
    replace,
    st.just(RECORD),
    arm=TEXT,
    trial=st.none() | st.integers(0, 10**6),
    seed=st.integers(0, 2**63 - 1),
    config=st.dictionaries(TEXT, st.booleans() | st.integers() | FLOATS | TEXT),
    status=st.sampled_from(["completed", "pruned", "diverged", "failed"]),
    stage=st.sampled_from(["search", "select", "confirm"]),
    reason=st.text(),
    scores=st.dictionaries(TEXT, st.floats(-1e300, 1e300)),
)


@pytest.fixture
def log(tmp_path: Path) -> RecordLog:
    return RecordLog(tmp_path / "records.jsonl")


@pytest.fixture(scope="module")
def reused(tmp_path_factory: pytest.TempPathFactory) -> RecordLog:
    """A log for the hundreds of examples of a test, each of which begins by :func:`emptied`: a folder for each would be
    looked for among all that there are."""
    return RecordLog(tmp_path_factory.mktemp("reused") / "records.jsonl")


def emptied(log: RecordLog) -> RecordLog:
    log.path.unlink(missing_ok=True)
    return RecordLog(log.path)


def filled(log: RecordLog, count: int = 3) -> list[Record]:
    return [log.append(replace(RECORD, trial=trial)) for trial in range(count)]


def outcome(log: RecordLog) -> tuple[list[Record], str]:
    """What reading gives, and what it says against the file."""
    try:
        return log.read(), ""
    except RecordError as error:
        return [], str(error)


def test_what_was_appended_is_read(log: RecordLog) -> None:
    assert log.read() == []
    written = filled(log)
    assert log.read() == written == list(log)
    assert [record.trial for record in written] == [0, 1, 2]
    assert [record.previous_sha256 for record in written] == [GENESIS, written[0].sha256, written[1].sha256]


@pytest.mark.long
@settings(deadline=None, max_examples=50)
@given(st.lists(RECORDS, max_size=4))
def test_every_record_survives_the_file(reused: RecordLog, records: list[Record]) -> None:
    log = emptied(reused)
    written = [log.append(record) for record in records]
    assert log.read() == written
    for before, after in zip(records, written, strict=True):
        # Bytes that are no text are written as their escapes.
        expected = replace(before, reason=before.reason.encode("utf-8", "backslashreplace").decode())
        assert replace(after, sha256="", previous_sha256=GENESIS) == expected


def test_a_record_longer_than_any_window_is_followed(log: RecordLog) -> None:
    first = log.append(replace(RECORD, reason="x" * 1_000_000))
    second = log.append(RECORD)
    third = log.append(RECORD)
    assert log.read() == [first, second, third]


@pytest.mark.long
def test_a_line_torn_at_any_byte_is_cut_off_and_no_whole_line_with_it(log: RecordLog) -> None:
    written = filled(log, 2)
    data = log.path.read_bytes()
    first = data.index(b"\n") + 1
    for end in range(len(data) + 1):
        log.path.write_bytes(data[:end])
        whole = written[: (end >= first) + (end == len(data))]
        assert log.read() == whole
        torn = log.recover()
        assert (torn is None) == (end in (0, first, len(data)))
        assert log.read() == whole
        assert log.recover() is None
        added = log.append(RECORD)
        assert log.read() == [*whole, added]


def test_nothing_is_appended_to_a_torn_line(log: RecordLog) -> None:
    filled(log, 1)
    with log.path.open("ab") as handle:
        handle.write(b'{"arm":')
    before = log.path.read_bytes()
    with pytest.raises(RecordError, match="the last line: not a JSON record"):
        log.append(RECORD)
    assert log.path.read_bytes() == before


@pytest.mark.long
@settings(deadline=None, max_examples=400)
@given(st.data())
def test_any_edit_of_one_byte_is_noticed(reused: RecordLog, data: st.DataObject) -> None:
    log = emptied(reused)
    filled(log)
    whole = log.path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    new = data.draw(st.binary(max_size=1) | st.sampled_from([b" ", b"\n", b"\r", b"0", b"E", b"+"]))
    removed = data.draw(st.integers(0, 1))
    edited = whole[:place] + new + whole[place + removed :]
    if edited in (whole, whole[:-1]):  # without its last line break the last line is torn, not edited
        return
    log.path.write_bytes(edited)
    kept = whole.splitlines(keepends=True)
    records, problem = outcome(log)
    assert len(problem.splitlines()) <= 1
    # Or else the file now ends in a torn line, and all before it stands as it was.
    assert problem or b"".join(kept[: len(records)]) == edited[: edited.rfind(b"\n") + 1]


@pytest.mark.parametrize("exponent", [b"1e-5", b"1E-05", b"0.00001", b"1.0e-05"])
def test_another_spelling_of_the_same_number_is_an_edit(log: RecordLog, exponent: bytes) -> None:
    filled(log, 1)
    data = log.path.read_bytes()
    assert b"1e-05" in data
    log.path.write_bytes(data.replace(b"1e-05", exponent))
    with pytest.raises(RecordError, match="the record was edited"):
        log.read()


@pytest.mark.parametrize("order", [[1, 2], [0, 2], [0, 2, 1], [0, 0, 1, 2]])
def test_lines_that_were_removed_moved_or_doubled_are_noticed(log: RecordLog, order: list[int]) -> None:
    filled(log)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[index] for index in order))
    with pytest.raises(RecordError, match=r"records\.jsonl:\d: this record does not follow the one before it"):
        log.read()


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("stage", "train", "search, select, confirm"),
        ("status", "ok", "completed, pruned, diverged, failed"),
        ("seed", True, "int"),
        ("seed", 1.0, "int"),
        ("trial", "3", "int or null"),
        ("config", [], "dict"),
        ("scores", {"val_accuracy": "97"}, "a finite number"),
        ("scores", {"val_accuracy": 10**400}, "a finite number"),
        ("epochs", None, "int"),
        ("reason", 3, "str"),
        ("duration_seconds", "1", "int or float"),
    ],
)
def test_a_sealed_line_of_the_wrong_shape_is_refused(log: RecordLog, key: str, value: Any, accepted: str) -> None:
    content = asdict(RECORD) | {key: value}
    del content["sha256"]
    log.path.write_text(canonical_json(content | {"sha256": sha256_of(content)}) + "\n")
    with pytest.raises(RecordError, match=rf"records\.jsonl:1: {key}.*: got .*; accepted: {accepted}$"):
        log.read()


@pytest.mark.parametrize(
    "change", [{"schema_version": 4}, {"schema_version": None}, {"schema_version": True}, {"more": 1}, {"seed": None}]
)
def test_another_schema_is_refused(log: RecordLog, change: dict[str, Any]) -> None:
    content = asdict(RECORD) | change
    if content["seed"] is None:
        del content["seed"]
    log.path.write_text(canonical_json(content) + "\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:1: (schema_version|missing or unknown keys)"):
        log.read()


@pytest.mark.long
@settings(deadline=None, max_examples=200)
@given(st.binary() | st.lists(JSON.map(canonical_json)).map(lambda lines: "".join(f"{x}\n" for x in lines).encode()))
def test_any_bytes_are_read_or_refused(reused: RecordLog, data: bytes) -> None:
    log = emptied(reused)
    log.path.write_bytes(data)
    records, problem = outcome(log)
    assert records == []
    assert len(problem.splitlines()) <= 1


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"a":' * 100_000, "NaN", "1" * 5000, "\ud800".encode("utf-8", "surrogatepass")]
)
def test_lines_that_are_made_to_hurt_are_refused(log: RecordLog, line: str | bytes) -> None:
    log.path.write_bytes((line.encode() if isinstance(line, str) else line) + b"\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:1: "):
        log.read()


def test_a_full_disk_leaves_whole_lines(log: RecordLog) -> None:
    """A limit on the size of files stops a write halfway, as a full disk does."""
    written = filled(log, 2)
    code = """
import resource, sys
from pathlib import Path
from tune_bn.errors import StudyError
from tune_bn.records.log import RecordLog
log = RecordLog(Path(sys.argv[1]))
record, size = log.read()[0], log.path.stat().st_size
for room in (0, 1, 100, 500):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
    try:
        log.append(record)
    except StudyError as error:
        assert "cannot be written (File too large); what finished is kept" in str(error), error
    else:
        sys.exit("the write did not fail")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert log.path.stat().st_size == size, log.path.read_bytes()
log.append(record)
"""
    subprocess.run([sys.executable, "-c", code, str(log.path)], check=True)
    assert log.read()[:2] == written
    assert len(log.read()) == 3


@pytest.mark.long
@given(JSON)
def test_canonical_json_is_read_back_and_written_the_same(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@pytest.mark.long
@given(st.dictionaries(TEXT, JSON, min_size=2))
def test_the_order_of_keys_does_not_count(value: dict[str, Any]) -> None:
    assert sha256_of(dict(reversed(value.items()))) == sha256_of(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_canonical_json_has_no_nan(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_json(path, {"γ": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"γ": 1}
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert json.loads(path.read_text(encoding="utf-8")) == {"γ": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_keys_of_runs() -> None:
    assert run_key("search", "candidate", 7, 101) == "search-candidate-t00007-s101"
    assert run_key("confirm", "baseline", None, 1) == "confirm-baseline-s1"
    assert RECORD.key == "search-candidate-t00003-s101"
