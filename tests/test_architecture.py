"""Who may import whom, over the source of every module and in fresh interpreters. CONTRIBUTING.md draws the picture."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tune_bn

PACKAGE = Path(tune_bn.__file__).parent

PORTS = {"tune_bn.protocols.runner", "tune_bn.protocols.sampler", "tune_bn.protocols.observer"}
ADAPTERS = {"runners", "samplers", "tracking", "console", "report"}
OUTER = {
    *("cli", "__main__", "wiring", "validate", "status", "export", "tables", "service", "api_reference"),
    *("train_command", "paper_command", "inspect_command"),
}
"""The verbs: what the command line consists of."""

KNOWN_TO = {
    "ray": {"runners", "service"},
    "supervisor": {"service"},
    "psycopg": {"service"},
    "pandas": {"export"},
    "pyarrow": {"tables"},
    "optuna": {"samplers", "report"},
    "mlflow": {"tracking", "service"},
    "sqlalchemy": {"tracking"},
    "matplotlib": {"report"},
    "rich": {"console", "status", "paper_command", "inspect_command"},
    "typer": {"cli", "api_reference"},
    "pydantic": {"spec", "sections", "spec_errors"},
    "torch": {"method", "training", "runners", "train_command", "inspect_command"},
    "torchvision": {"method", "training"},
    "scipy": {"analysis", "training", "report"},
}
"""The rooms that may import each of these libraries; no other room may."""

MAY_IMPORT = {
    "errors": set(),
    "config": {"errors"},
    "records": {"errors"},
    "layers": {"errors"},
    "provenance": set(),
    "method": {"errors", "config", "layers"},
    "machine": {"errors"},
    "training": {"", "errors", "config", "records", "provenance", "layers", "machine", "method"},
    "process": set(),
    "analysis": {"errors", "records", "provenance", "process"},
    "report": {"errors", "records", "curves", "layers", "provenance", "space_file", "analysis", "training"},
}
"""What an inner room may know of the rest of the package; '' is the package itself, for its version."""

FORBIDDEN_LIBRARIES = {"ray", "mlflow", "optuna", "pydantic", "typer", "rich"}


def module_name(path: Path) -> str:
    parts = ["tune_bn", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str, name: str, *, package: bool = False) -> set[str]:
    """Every module that a source names in an import, wherever it stands; relative names are resolved."""
    return set(_imports(ast.parse(source), name if package else name.rpartition(".")[0]))


def _imports(tree: ast.AST, home: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = home.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in FILES else origin
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                first = node.args[0] if node.args else None
                yield first.value if isinstance(first, ast.Constant) else f"tune_bn.?{ast.unparse(node)}"


def room(name: str) -> str:
    """First part of a module's name within the package; '' for the package itself, the library for others."""
    parts = name.split(".")
    return ".".join(parts[1:2]) if parts[0] == "tune_bn" else parts[0]


GRAPH = {
    name: imports(path.read_text(encoding="utf-8"), name, package=path.name == "__init__.py")
    for name, path in FILES.items()
}
OWN = {name: {other for other in found if other.partition(".")[0] == "tune_bn"} for name, found in GRAPH.items()}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import ray.tune as t", {"ray.tune"}),
        ("def f():\n    if True:\n        from mlflow.entities import Run", {"mlflow.entities"}),
        ("from tune_bn.records import log", {"tune_bn.records"}),
        ("from tune_bn import __version__", {"tune_bn"}),
        ("from . import plan", {"tune_bn.analysis.plan"}),
        ("from .paired import holm", {"tune_bn.analysis.paired"}),
        ("from ..runners import local", {"tune_bn.runners.local"}),
        ("from .. import study", {"tune_bn.study.study"}),
        ("import importlib\nimportlib.import_module('ray')", {"importlib", "ray"}),
        ("__import__('optuna')", {"optuna"}),
    ],
)
def test_no_way_of_importing_escapes_the_search(source: str, found: set[str]) -> None:
    assert imports(source, "tune_bn.analysis.verdict") == found


def test_every_module_is_searched() -> None:
    assert {"tune_bn", "tune_bn.method.batchnorm", "tune_bn.training.loop", "tune_bn.cli"} <= set(FILES)
    assert set.union(*GRAPH.values()) >= {"ray", "mlflow", "optuna", "torch"}


@pytest.mark.parametrize("library", sorted(KNOWN_TO))
def test_a_library_is_known_to_its_own_rooms_alone(library: str) -> None:
    users = {name for name, found in GRAPH.items() if library in {other.partition(".")[0] for other in found}}
    assert users, f"nothing imports {library}"
    assert not {name for name in users if room(name) not in KNOWN_TO[library]}


def test_the_report_asks_optuna_in_one_place_and_when_it_has_to() -> None:
    users = {name for name, found in GRAPH.items() if room(name) == "report" and any("optuna" in o for o in found)}
    assert users == {"tune_bn.report.figures.importance"}
    top = {
        alias.name
        for node in ast.parse(FILES["tune_bn.report.figures.importance"].read_text()).body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert not any("optuna" in name for name in top)


@pytest.mark.parametrize("inner", sorted(MAY_IMPORT))
def test_an_inner_room_knows_only_what_lies_further_in(inner: str) -> None:
    mine = {name: found for name, found in OWN.items() if room(name) == inner}
    assert mine
    allowed = MAY_IMPORT[inner] | {inner}
    assert not {
        f"{name} imports {other}" for name, found in mine.items() for other in found if room(other) not in allowed
    }


def test_only_the_verbs_know_adapters() -> None:
    wrong = {
        f"{name} imports {other}"
        for name, found in OWN.items()
        for other in found
        if room(name) not in OUTER
        and room(other) in ADAPTERS | OUTER
        and room(other) != room(name)
        and other not in PORTS
    }
    assert not wrong


def test_the_ports_know_no_adapter() -> None:
    inner = {"errors", "config", "records", "training"}
    assert not {f"{port} imports {o}" for port in PORTS for o in OWN[port] if room(o) not in inner and o not in PORTS}


def loaded_by(statements: str, folder: Path) -> set[str]:
    """Top-level modules that a fresh interpreter holds after these statements."""
    code = f"{statements}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_no_library(tmp_path: Path) -> None:
    assert not loaded_by("import tune_bn", tmp_path) & (set(KNOWN_TO) | {"numpy"})


@pytest.mark.parametrize("inner", ["method", "training", "analysis"])
def test_importing_an_inner_room_loads_no_adapter(inner: str, tmp_path: Path) -> None:
    names = [name for name in FILES if room(name) == inner]
    loaded = loaded_by("\n".join(f"import {name}" for name in names), tmp_path)
    assert "tune_bn" in loaded
    assert not loaded & FORBIDDEN_LIBRARIES
    if inner == "analysis":
        assert not loaded & {"torch", "torchvision"}


def test_the_ports_and_the_space_file_load_no_torch(tmp_path: Path) -> None:
    statements = "\n".join(f"import {name}" for name in (*sorted(PORTS), "tune_bn.space.space", "tune_bn.cli"))
    assert not loaded_by(statements, tmp_path) & {"ray", "mlflow", "optuna", "torch", "torchvision", "numpy"}


def test_the_public_functions_come_with_their_first_use(tmp_path: Path) -> None:
    loaded = loaded_by("import tune_bn\nassert tune_bn.scale_batchnorm and tune_bn.parameter_groups", tmp_path)
    assert "torch" in loaded
    assert not loaded & FORBIDDEN_LIBRARIES


def test_the_public_names() -> None:
    from tune_bn.method import batchnorm, convert, groups, iebn, rates, rbn

    assert tune_bn.scale_batchnorm is batchnorm.scale_batchnorm
    assert tune_bn.parameter_groups is groups.parameter_groups
    assert tune_bn.convert is convert.convert
    assert (tune_bn.check_rates, tune_bn.keep_rates) == (rates.check_rates, rates.keep_rates)
    layers = {"InstanceEnhancementBatchNorm2d": iebn, "RepresentativeBatchNorm2d": rbn}
    assert all(getattr(tune_bn, name) is getattr(home, name) for name, home in layers.items())
    functions = {"check_rates", "convert", "keep_rates", "parameter_groups", "scale_batchnorm"}
    assert {"__version__", *functions, *layers} == set(tune_bn.__all__) <= set(dir(tune_bn))
    with pytest.raises(AttributeError, match="no attribute 'scale_batchnorms'"):
        _ = tune_bn.scale_batchnorms  # type: ignore[attr-defined]
