"""Where the libraries of an extra are missing, each verb says in one line which extra brings them, and exits with 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import make_study
from tune_bn.errors import MissingExtra
from tune_bn.host.extras import EXTRAS, installed, missing_extra, require

ROOT = Path(__file__).parents[2]
HEAVY = {name for names in EXTRAS.values() for name in names}

# A fresh interpreter that cannot find these packages, as if they had never been installed.
HIDING = """
import sys
hidden = set(sys.argv[1].split(","))
class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hiding())
from tune_bn.cli import main
main(sys.argv[2:])
"""


def verb(folder: Path, hidden: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HIDING, ",".join(hidden), *arguments]
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two studies, of which one has no verdict yet, and a table of scores."""
    place = tmp_path_factory.mktemp("light")
    for name in ("made", "open"):
        make_study().write(place / "studies" / name)
    rows = [
        f"{arm},{seed},{90 + seed * seed % 7 / 10 + (arm == 'a') * (2 + seed % 3 / 50):.3f}"
        for seed in range(8)
        for arm in "ab"
    ]
    (place / "scores.csv").write_text("\n".join(["arm,seed,score", *rows]), encoding="utf-8")
    return place


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("verify", "--scores", "scores.csv", "--baseline", "b", "--goal", "max"),
        ("verify", "made"),
        ("verify", "made", "--json"),
        ("report", "made"),
        ("status",),
        ("status", "--json"),
        ("power", "--effect", "0.5", "--std", "0.4"),
        ("paper", "table1a"),
    ],
    ids=" ".join,
)
def test_light_verbs_need_no_extra(folder: Path, arguments: tuple[str, ...]) -> None:
    done = verb(folder, HEAVY, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize(
    ("hidden", "arguments", "extra"),
    [
        ("torch", ("search",), "[train]"),
        ("torch,torchvision,ray", ("search",), "[train,ray]"),
        ("torch,torchvision,ray,mlflow,pandas,pyarrow", ("search",), "[all]"),
        ("ray", ("search",), "[ray]"),
        ("mlflow", ("search",), "[mlflow]"),
        ("torch", ("search", "--study", "made", "--resume", "--space", "studies/made/space.yaml"), "[train]"),
        ("ray", ("confirm", "open"), "[ray]"),
        ("torch", ("train",), "[train]"),
        ("torch,torchvision", ("validate",), "[train]"),
        ("torch", ("inspect", "--space", "digits.yaml"), "[train]"),
        ("torch", ("reproduce", "table1a", "--cell", "gamma=0.1,lr=0.1"), "[train]"),
        ("pandas", ("export", "made", "made.csv"), "[tables]"),
        (
            "mlflow",
            (
                "verify",
                "--mlflow",
                "http://127.0.0.1:9",
                *["--experiment", "e", "--arm", "params.a", "--metric", "m"],
                "--unpaired",
            ),
            "[mlflow]",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_missing_extra_is_one_line(folder: Path, hidden: str, arguments: tuple[str, ...], extra: str) -> None:
    done = verb(folder, set(hidden.split(",")), *arguments)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("error: ")
    assert lines[-1].endswith(f"accepted: pip install 'tune_bn{extra}'")
    assert "Traceback" not in done.stderr
    assert not (folder / "made.csv").exists()
    assert {path.name for path in (folder / "studies").iterdir()} == {"made", "open"}


def test_a_parquet_table_without_its_reader(folder: Path) -> None:
    (folder / "scores.parquet").write_bytes(b"PAR1 and more")
    done = verb(folder, {"pyarrow"}, "verify", "--scores", "scores.parquet", "--baseline", "b")
    assert done.returncode == 2
    assert done.stderr.endswith("accepted: pip install 'tune_bn[tables]'\n")


def test_python_names_the_extra(folder: Path) -> None:
    code = HIDING.partition("from tune_bn.cli")[0] + (
        "import json, tune_bn\nfrom tune_bn.errors import MissingExtra\nfound = []\n"
        "for call in (lambda: tune_bn.scale_batchnorm, lambda: tune_bn.search('digits.yaml'),\n"
        "             lambda: tune_bn.open_study('studies/made').runs.to_pandas()):\n"
        "    try:\n        call()\n    except MissingExtra as error:\n        found.append(str(error))\n"
        "study = tune_bn.open_study('studies/made')\n"
        "found.append(study.verdict.supported)\nprint(json.dumps(found))"
    )
    command = [sys.executable, "-c", code, "torch,ray,pandas,mlflow,pydantic"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    method, search, frame, supported = json.loads(done.stdout)
    assert (
        method == "tune_bn.scale_batchnorm needs torch, which is not installed; accepted: pip install 'tune_bn[train]'"
    )
    assert search.startswith("tune_bn.search needs torch, ray and mlflow, which are not installed")
    assert search.endswith("'tune_bn[all]'")
    assert frame == "to_pandas() needs pandas, which is not installed; accepted: pip install 'tune_bn[tables]'"
    assert supported is True


def test_an_import_that_fails_within_a_library_is_not_called_missing() -> None:
    assert missing_extra(ImportError("cannot import name 'x' from 'torch'", name="torch")) is None
    assert missing_extra(ModuleNotFoundError("no such", name="my_network")) is None
    assert missing_extra(ValueError("torch")) is None


def test_require_names_all_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert not installed("ray")
    with pytest.raises(MissingExtra, match=r"^a search needs ray, which is not installed; .*'tune_bn\[ray\]'$"):
        require("a search", "train", "ray")
    require("a table", "tables")


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"]) - {"all", "dev", "docs"}
    (everything,) = project["optional-dependencies"]["all"]
    assert everything == f"tune_bn[{','.join(extra for extra in EXTRAS if extra != 'cluster')}]"
    light = {line.partition(">")[0] for line in project["dependencies"]}
    assert not light & HEAVY
    assert {"numpy", "scipy", "typer", "pydantic", "pyyaml"} <= light


@pytest.mark.parametrize("hidden", ["ray", "ray,mlflow"])
def test_a_finished_study_is_shown_again_without_what_would_train_it(tmp_path: Path, hidden: str) -> None:
    make_study().write(tmp_path / "studies" / "made")
    assert verb(tmp_path, set(), "verify", "made").returncode == 0
    done = verb(tmp_path, set(hidden.split(",")), "confirm", "made")
    assert done.returncode == 0, done.stderr
    assert "nothing is left to run" in done.stdout
    assert ("mlflow" in done.stderr) == ("mlflow" in hidden), "what is not shown to MLflow is said"
