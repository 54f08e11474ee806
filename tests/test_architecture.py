"""What a fresh interpreter loads, and the public names. Who may import whom is for import-linter, in pyproject.toml."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tune_bn

PACKAGE = Path(tune_bn.__file__).parent
LIBRARIES = {
    *("matplotlib", "mlflow", "optuna", "pandas", "psycopg", "pyarrow", "pydantic", "ray", "rich", "scipy"),
    *("sqlalchemy", "supervisor", "torch", "torchvision", "typer"),
}
FORBIDDEN_LIBRARIES = {"ray", "mlflow", "optuna", "pydantic", "typer", "rich"}


def modules_of(room: str) -> list[str]:
    paths = sorted((PACKAGE / room).rglob("*.py"))
    return [".".join(["tune_bn", *path.relative_to(PACKAGE).with_suffix("").parts]) for path in paths]


def test_every_room_has_its_floor() -> None:
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    floors = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {room.strip().removeprefix("tune_bn.") for floor in floors for room in floor.split("|")}
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert named == there - {"__init__"}


def loaded_by(statements: str, folder: Path) -> set[str]:
    """Top-level modules that a fresh interpreter holds after these statements."""
    code = f"{statements}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_no_library(tmp_path: Path) -> None:
    assert not loaded_by("import tune_bn", tmp_path) & (LIBRARIES | {"numpy"})


@pytest.mark.parametrize("inner", ["method", "data", "training", "analysis"])
def test_importing_an_inner_room_loads_no_adapter(inner: str, tmp_path: Path) -> None:
    loaded = loaded_by("\n".join(f"import {name}" for name in modules_of(inner)), tmp_path)
    assert "tune_bn" in loaded
    assert not loaded & FORBIDDEN_LIBRARIES
    if inner == "analysis":
        assert not loaded & {"torch", "torchvision"}


def test_the_ports_and_the_space_file_load_no_torch(tmp_path: Path) -> None:
    statements = "\n".join(
        f"import {name}" for name in (*modules_of("protocols"), "tune_bn.space.space", "tune_bn.cli")
    )
    assert not loaded_by(statements, tmp_path) & {"ray", "mlflow", "optuna", "torch", "torchvision", "numpy"}


def test_the_public_functions_come_with_their_first_use(tmp_path: Path) -> None:
    loaded = loaded_by("import tune_bn\nassert tune_bn.scale_batchnorm and tune_bn.parameter_groups", tmp_path)
    assert "torch" in loaded
    assert not loaded & FORBIDDEN_LIBRARIES


def test_the_public_names() -> None:
    from tune_bn.front import scores, search, study, verdict
    from tune_bn.method import batchnorm, convert, groups, iebn, rates, rbn

    assert tune_bn.scale_batchnorm is batchnorm.scale_batchnorm
    assert tune_bn.parameter_groups is groups.parameter_groups
    assert tune_bn.convert is convert.convert
    assert (tune_bn.check_rates, tune_bn.keep_rates) == (rates.check_rates, rates.keep_rates)
    layers = {"InstanceEnhancementBatchNorm2d": iebn, "RepresentativeBatchNorm2d": rbn}
    assert all(getattr(tune_bn, name) is getattr(home, name) for name, home in layers.items())
    functions = {"check_rates", "convert", "keep_rates", "parameter_groups", "scale_batchnorm"}
    assert (tune_bn.open_study, tune_bn.Study) == (study.open_study, study.Study)
    assert (tune_bn.search, tune_bn.verify_scores, tune_bn.Verdict) == (
        search.search,
        scores.verify_scores,
        verdict.Verdict,
    )
    functions |= {"Study", "Verdict", "begin_study", "current_run", "open_study", "search", "seed_everything"}
    functions |= {"verify_scores"}
    assert {"__version__", *functions, *layers} == set(tune_bn.__all__) <= set(dir(tune_bn))
    with pytest.raises(AttributeError, match="no attribute 'scale_batchnorms'"):
        _ = tune_bn.scale_batchnorms  # type: ignore[attr-defined]
