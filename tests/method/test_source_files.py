"""Which files a network of the user's is made of: what it imports from the user's tree, and nothing else."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tune_bn.method.source_files import own_sources
from tune_bn.method.user_network import source_packages, source_sha256

FILES = {
    "own_net.py": "import torch\nfrom own_helpers import block\nfrom own_pkg.sub import deep\n"
    "def net(in_channels, num_classes):\n    from own_lazy import late\n    return block\n",
    "own_helpers.py": "import own_space.inner\nblock = 1\n",
    "own_space/inner.py": "",
    "own_lazy.py": "late = 1\n",
    "own_pkg/__init__.py": "",
    "own_pkg/top.py": "import importlib\nby_name = importlib.import_module('own_named')\n",
    "own_pkg/sub/__init__.py": "from .. import top\nfrom . import other\nfrom .other import *\n",
    "own_pkg/sub/deep.py": "",
    "own_pkg/sub/other.py": "import own_pkg.sub.deep, own_cycle\n",
    "own_named.py": "",
    "own_cycle.py": "import own_helpers\n",
}
APART = {"own_apart.py": "", "own_pkg/unused.py": "", "own_pkg/notes.txt": "", "own_other.py": "def net(**k): ...\n"}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in {**FILES, **APART}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", FILES)
def test_an_edit_of_whatever_it_imports_changes_the_hash(tree: Path, name: str) -> None:
    before = source_sha256(["own_net:net"])
    assert source_sha256(["own_net:net"]) == before
    (tree / name).write_text(FILES[name] + "# edited\n")
    assert source_sha256(["own_net:net"]) != before


@pytest.mark.parametrize("name", APART)
def test_an_edit_of_anything_else_does_not(tree: Path, name: str) -> None:
    before = source_sha256(["own_net:net"])
    (tree / name).write_text("edited = True\n")
    assert source_sha256(["own_net:net"]) == before


def test_text_that_moves_between_files_changes_the_hash(tree: Path) -> None:
    before = source_sha256(["own_net:net"])
    (tree / "own_lazy.py").write_text("")
    (tree / "own_named.py").write_text("late = 1\n")
    assert source_sha256(["own_net:net"]) != before


def test_the_hash_does_not_depend_on_where_the_tree_lies(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = source_sha256(["own_net:net"])
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in FILES:
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).rename(elsewhere / name)
    monkeypatch.syspath_prepend(elsewhere)
    importlib.invalidate_caches()
    assert source_sha256(["own_net:net"]) == before


def test_a_file_that_is_no_python_counts_by_its_bytes(tree: Path) -> None:
    (tree / "own_lazy.py").write_text("late = (\n")
    before = source_sha256(["own_net:net"])
    (tree / "own_lazy.py").write_text("late = ((\n")
    assert source_sha256(["own_net:net"]) != before


def test_installed_packages_are_told_by_their_versions(tree: Path) -> None:
    assert source_packages(["own_net:net"]) == ""
    (tree / "own_lazy.py").write_text("import yaml, json, numpy\nfrom packaging.version import parse\n")
    packages = dict(part.split() for part in source_packages(["own_net:net"]).split(", "))
    assert set(packages) == {"pyyaml", "packaging"}
    assert packages["packaging"] == importlib.metadata.version("packaging")


def test_an_installed_package_is_hashed_whole(tree: Path) -> None:
    place = tree / "site-packages" / "own_installed"
    (place / "deep").mkdir(parents=True)
    (place / "__init__.py").write_text("def net(**k): ...\n")
    (place / "deep" / "parts.py").write_text("")
    sys.path.insert(0, str(place.parent))
    try:
        before = source_sha256(["own_installed:net"])
        (place / "deep" / "parts.py").write_text("edited = True\n")
        assert source_sha256(["own_installed:net"]) != before
    finally:
        sys.path.remove(str(place.parent))


def test_modules_that_are_not_there_are_passed_over(tree: Path) -> None:
    (tree / "own_lazy.py").write_text("try:\n    import own_missing.part\nexcept ImportError:\n    late = 1\n")
    source_sha256(["own_net:net"])
    files, _ = own_sources(["own_lazy"])
    assert set(files) == {"own_lazy"}
