"""The pages of docs/ that are written from the code are those that the code would write now."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from docs.generate.api import MODULES, api_page, cli_page, public_names
from tune_bn.cli import app

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(("name", "write"), [("api.md", api_page), ("cli.md", cli_page)])
def test_the_page_is_up_to_date(name, write) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == write(), "make docs writes it anew"


def test_the_page_covers_every_public_name() -> None:
    page = api_page()
    names = {f"{module}.{name}" for module in MODULES for name in public_names(import_module(module))}
    assert {"tune_bn.scale_batchnorm", "tune_bn.analysis.judge", "tune_bn.errors.ConfigError"} <= names
    assert [name for name in names if f"### {name}\n" not in page] == []


def test_the_page_covers_every_verb() -> None:
    page = cli_page()
    verbs = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert "search" in verbs
    assert [verb for verb in verbs if f"## `tune_bn {verb}`" not in page] == []


def test_a_signature_is_laid_out_and_keeps_its_defaults() -> None:
    page = api_page()
    assert "    weight_decay: float = 0.0001,\n    *,\n" in page
    assert "norm: str = 'rbn'" in page
