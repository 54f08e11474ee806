"""What :mod:`benchmarks.hostile.fuzz` feeds, and with what: the doors through which files and words of others come in.

A target takes bytes. It may refuse them with a :class:`tune_bn.errors.TuneBNError` of one line; whatever else it raises
is a finding. Its structured inputs are a real file with some values exchanged: most of them get past the parser.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

from tune_bn.analysis.columns import read_scores
from tune_bn.analysis.plan import read_plan
from tune_bn.analysis.scores import verdict_on_scores
from tune_bn.analysis.table_test import TableTest
from tune_bn.analysis.verdict import renew_verdict, verdict_on_study
from tune_bn.cli.status import describe_study
from tune_bn.cli.validate import planned
from tune_bn.errors import TuneBNError
from tune_bn.records.curves import CurveLog
from tune_bn.records.files import canonical_json, sha256_of, write_json
from tune_bn.records.log import RecordLog
from tune_bn.records.record import Record
from tune_bn.report.study import load, trials_of
from tune_bn.space.file import dump_yaml, parse_yaml
from tune_bn.space.loading import load_space, parse_space
from tune_bn.space.locate import find_space
from tune_bn.study.folder import StudyFolder
from tune_bn.training.points import epoch_point

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
WORDS = st.sampled_from(
    [
        *("gamma", "c", "lr", "log_uniform", "uniform", "choice", "int_uniform", "per_stage", "linear", "when"),
        *("given", "baseline", "candidate-1", "confirm", "search", "completed", "failed", "diverged", "pruned"),
        *("test_accuracy", "val_accuracy", "group_sequential", "fixed", "grid", "qmc", "cmaes", "asha", "median"),
        *("resnet8", "resnet18", "torchvision/resnet18", "torchvision/x", "a.b:c", "os:system", "digits", "folder"),
        *("cifar10", "paper_grid", "none", "bf16", "rbn", "iebn_star", "../../x", "/etc/passwd", "file:///x"),
        *("sqlite:///x", "http://x", "1e400", "0x1F", "010", "~", "<<", "*", "&", "!", "{}", "[", "#", "--"),
    ]
)
NUMBERS = (
    st.sampled_from([0, 1, -1, 2, 3, 2**31, 2**63, 2**64, 10**12, 10**400, -(10**400)])
    | st.sampled_from([0.0, -0.0, 1e-320, 1e308, 5e-324])
    | st.integers(-5, 300)
    | st.floats()
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | WORDS, inner, max_size=4),
    max_leaves=6,
)
_SHORT = [
    b"",
    b"\n",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\xc2\x85",
    b"\r",
    b",",
    b'"',
    b"{",
    b"[",
    b"}",
    b"]",
    b":",
]
_LONG = [b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b"- " * 2000, b"nan", b"1e999", b"&a [*a]", b"<<: ", b"null", b"-"]
SCRAPS = st.sampled_from(_SHORT) | st.sampled_from(_LONG) | st.binary(max_size=8)


@dataclass(frozen=True)
class Target:
    """One door."""

    name: str
    seeds: Sequence[bytes]
    """Inputs to begin with; damage is done to them too."""
    structured: st.SearchStrategy[bytes]
    check: Callable[[bytes], None]
    """Raises what a user would see as a traceback."""
    share: float
    """Of all inputs."""

    @property
    def inputs(self) -> st.SearchStrategy[bytes]:
        """Structured inputs, seeds with some bytes exchanged, and any bytes."""
        return self.structured | st.sampled_from(self.seeds).flatmap(damaged) | st.binary(max_size=64)


@st.composite
def damaged(draw: Draw[Any], seed: bytes) -> bytes:
    """The seed with one to three of its stretches cut out, doubled or exchanged."""
    data = seed
    for _ in range(draw(st.integers(1, 3))):
        place, length = draw(st.integers(0, len(data))), draw(st.integers(0, 20))
        data = data[:place] + draw(SCRAPS) + data[place + length :]
    return data


@st.composite
def edited(draw: Draw[Any], content: Any) -> Any:
    """The content with one to three of its values exchanged, removed or added, at any depth."""
    root = json.loads(json.dumps({"": content}))
    for _ in range(draw(st.integers(1, 3))):
        node, key = root, ""
        while isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 3)):
            node = node[key]
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        match draw(st.integers(0, 4)):
            case 0 if isinstance(node, dict) and node is not root:
                node[draw(TEXT | WORDS)] = draw(VALUES)
            case 1 if node is not root:
                del node[key]
            case _:
                node[key] = draw(VALUES)
    return root[""]


def one_line(work: Callable[[], Any]) -> None:
    """Do the work; a refusal must be one line."""
    try:
        work()
    except TuneBNError as error:
        if len(str(error).splitlines()) > 1:
            raise AssertionError(f"an error of several lines: {error}") from error


def targets(folder: Path, study: Path) -> list[Target]:
    """All targets but the command line.

    Args:
        folder: an empty folder for their files.
        study: a whole study whose files are exchanged one at a time.
    """
    space = parse_yaml(find_space("digits.yaml"))
    records = RecordLog(study / "records.jsonl").read()
    plan = read_plan(study / "plan.json")
    verdict = json.loads((study / "verdict.json").read_text(encoding="utf-8"))
    curve = {"run": records[0].key, "curve": [{"step": 1, **epoch_point(1, 0.5, 80.0, 0.5, 80.0, 0.1).metrics}]}
    table = "arm,seed,score\n" + "".join(f"{arm},{seed},{90 + seed + len(arm)}\n" for arm in "abb" for seed in range(4))
    parts = {
        name: (study / name).read_bytes()
        for name in ("space.yaml", "records.jsonl", "plan.json", "verdict.json", "curves.jsonl")
    }
    return [
        Target("space", _spaces(), _edits(space, dump_yaml), _at(folder / "space.yaml", _read_space), 0.20),
        Target(
            "records",
            [parts["records.jsonl"]],
            _record_lines(records),
            _in_study(folder / "records", parts, "records.jsonl", _read_study),
            0.11,
        ),
        Target(
            "curves",
            [parts["curves.jsonl"][:2000]],
            _edits(curve, lambda content: json.dumps(content) + "\n"),
            _at(folder / "curves.jsonl", _read_curves),
            0.24,
        ),
        Target(
            "plan",
            [parts["plan.json"]],
            edited(plan.to_json()).map(_resealed),
            _in_study(folder / "plan", parts, "plan.json", verdict_on_study),
            0.11,
        ),
        Target(
            "verdict",
            [parts["verdict.json"]],
            _edits(verdict, json.dumps),
            _in_study(folder / "verdict", parts, "verdict.json", load),
            0.04,
        ),
        Target("scores", [table.encode()], _tables(), _at(folder / "scores.csv", _judge_table), 0.24),
    ]


def _spaces() -> list[bytes]:
    names = ("digits.yaml", "resnet.yaml", "table2b.yaml", "folder.yaml", "digits_methods.yaml")
    return [find_space(name).read_bytes() for name in names]


def _edits(content: Any, written: Callable[[Any], str]) -> st.SearchStrategy[bytes]:
    return edited(content).map(lambda found: written(found).encode("utf-8", "surrogatepass"))


def _at(path: Path, work: Callable[[Path], Any]) -> Callable[[bytes], None]:
    path.parent.mkdir(parents=True, exist_ok=True)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        one_line(lambda: work(path))

    return check


def _in_study(
    folder: Path, parts: Mapping[str, bytes], name: str, work: Callable[[Path], Any]
) -> Callable[[bytes], None]:
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in parts.items():
        (folder / part).write_bytes(content)

    def check(data: bytes) -> None:
        (folder / name).write_bytes(data)
        one_line(lambda: work(folder))

    return check


def _read_space(path: Path) -> None:
    space = load_space(path)
    again = parse_space(space.to_dict(), "what was written")
    if again.sha256 != space.sha256:
        raise AssertionError("a space that is written out has another hash")
    planned(space)
    # A grid of more configurations than anybody would try is no error of the file.
    space.start_points()
    _ = space.archs


def _read_study(place: Path) -> None:
    describe_study(StudyFolder(place))
    canonical_json(verdict_on_study(place).to_json())
    records = RecordLog(place / "records.jsonl").read()
    for stage in ("search", "select", "confirm"):
        trials_of(records, stage)
    log = RecordLog(place / "records.jsonl")
    log.recover()
    if records:
        log.append(records[-1])
        log.read()


def _read_curves(path: Path) -> None:
    log = CurveLog(path)
    log.read()
    log.append("confirm-baseline-s1", [epoch_point(1, float("nan"), 80.0, 0.5, 80.0, 0.1)])
    if "confirm-baseline-s1" not in log.read():
        raise AssertionError("the curve that was appended is not read")


def _judge_table(path: Path) -> None:
    scores = read_scores(path)
    verdict = verdict_on_scores(scores, TableTest(baseline=scores.arms[0]))
    json.dumps(verdict.to_json(), allow_nan=False).encode()


@st.composite
def _record_lines(draw: Draw[Any], records: Sequence[Record]) -> bytes:
    """Records with edited fields, chained and sealed as a forger would, so that what reads them sees the fields."""
    chosen = draw(st.lists(st.sampled_from(records), min_size=1, max_size=3))
    edit = draw(st.integers(0, len(chosen) - 1))
    lines, previous = [], "0" * 64
    for index, record in enumerate(chosen):
        content: Any = asdict(replace(record, previous_sha256=previous))
        del content["sha256"]
        if index == edit:
            content = draw(edited(content))
        with suppress(ValueError, UnicodeEncodeError):
            previous = sha256_of(content)
        content = content | {"sha256": previous} if isinstance(content, dict) else content
        lines.append(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def _resealed(plan: Any) -> bytes:
    if isinstance(plan, dict):
        plan = {key: value for key, value in plan.items() if key != "plan_sha256"}
        with suppress(ValueError, UnicodeEncodeError):
            plan["plan_sha256"] = sha256_of(plan)
    return json.dumps(plan).encode("utf-8", "surrogatepass")


@st.composite
def _tables(draw: Draw[Any]) -> bytes:
    cells = st.sampled_from(["a", "b", "1", "2", "03", "nan", "-inf", "1e308", "-1e308", "1e-320", '"a""b"', "", " "])
    header = draw(st.permutations(["arm", "seed", "score"]) | st.lists(TEXT, max_size=4))
    pairs = [
        [arm, str(seed), draw(NUMBERS.map(str) | cells)] for arm in "abc" for seed in range(draw(st.integers(1, 4)))
    ]
    rows = draw(st.lists(st.lists(cells | TEXT, min_size=2, max_size=4), max_size=3)) + pairs
    given = {"arm": 0, "seed": 1, "score": 2}
    if set(header) == set(given):
        rows = [[row[given[name]] if given[name] < len(row) else "" for name in header] for row in rows]
    return "\n".join(",".join(row) for row in [header, *rows]).encode("utf-8", "surrogatepass")


def make_study(folder: Path) -> Path:
    """A small study with every file that a finished one has, its records made up."""
    space = load_space(find_space("digits.yaml"), ["seeds.confirm={from: 1, to: 4}"])
    folder.mkdir(parents=True)
    (folder / "space.yaml").write_text(dump_yaml(space.to_dict()), encoding="utf-8")
    from benchmarks.load.made_up import plan_of, records_of

    plan = plan_of(folder.name, space)
    log = RecordLog(folder / "records.jsonl")
    for record in records_of(folder.name, space, plan):
        written = log.append(record)
        points = [epoch_point(epoch, 2.0 / epoch, 80.0, 2.0 / epoch, 80.0 + epoch / 10, 0.1) for epoch in range(1, 4)]
        CurveLog(folder / "curves.jsonl").append(written.key, points)
    write_json(folder / "plan.json", plan.to_json())
    renew_verdict(folder)
    return folder
