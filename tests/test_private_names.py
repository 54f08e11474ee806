"""Names that Ray, Optuna and MLflow do not promise are used in one module each, where an upgrade is met by tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tune_bn

PACKAGE = Path(tune_bn.__file__).parent
LIBRARIES = ("ray", "optuna", "mlflow")
COMPAT = {
    PACKAGE / home for home in ("runners/ray/compat.py", "samplers/optuna/compat.py", "observers/mlflow/compat.py")
}
MODULES = sorted(
    path
    for folder in (PACKAGE, PACKAGE.parent / "benchmarks", PACKAGE.parent / "cluster")
    for path in folder.rglob("*.py")
)


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def private_names(source: str, *, adapter: bool) -> list[str]:
    """``line: code`` of each private name of these libraries.

    Of an object nobody can tell whose it is; so in an adapter's modules any private attribute counts that the module
    does not define itself, and everywhere else that of a name below one of the libraries.
    """
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    own |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    found = []
    for node in nodes:
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in LIBRARIES:
                private = any(map(is_private, [*module.split("."), *(name.name for name in names)]))
            case ast.Import(names=names):
                paths = [name.name.split(".") for name in names]
                private = any(path[0] in LIBRARIES and any(map(is_private, path)) for path in paths)
            case ast.Attribute(value=value, attr=attr) if is_private(attr):
                base = ast.unparse(value)
                # That of its own class may be inherited, and so be the library's.
                elsewhere = attr not in own or (isinstance(node.ctx, ast.Store) and base not in ("self", "cls"))
                private = base.split(".")[0] in LIBRARIES or (adapter and elsewhere and attr != "_replace")
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]
            ):
                private = adapter and is_private(name)
            case _:
                continue
        if private:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_module_but_compat_uses_private_names(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    adapter = any(name.split(".")[0] in LIBRARIES for name in modules)
    found = private_names(source, adapter=adapter)
    assert path in COMPAT or not found, f"move it to compat.py of its library: {found}"


@pytest.mark.parametrize(
    "source",
    [
        "from ray._private import services",
        "from ray import _raylet",
        "import ray._private.services",
        "import optuna.storages._rdb",
        "ray._private.services.find_node_ids()",
        "def f(controller):\n    return controller._trials",
        "class A(JobConfig):\n    def f(self):\n        self._py_driver_sys_path[:] = []",
        "getattr(study, '_storage')",
        "class A:\n    _exec_cmd: int\n\nserver._exec_cmd = become",
    ],
)
def test_a_private_name_is_found(source: str) -> None:
    assert len(private_names(source, adapter=True)) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "from ray.tune import Trainable",
        "import optuna",
        "class A:\n    def __init__(self):\n        self._x = 1\n\n    def f(self):\n        return self._x",
        "class A:\n    def _g(self):\n        return type(self).__name__\n\n    def f(self):\n        return self._g()",
    ],
)
def test_what_is_public_or_ones_own_is_none(source: str) -> None:
    assert private_names(source, adapter=True) == []
