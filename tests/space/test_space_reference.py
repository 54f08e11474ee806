import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

import tune_bn
from tune_bn.space.messages import section_of
from tune_bn.space.reference import reference
from tune_bn.space.space import Space

PAGE = Path(tune_bn.__file__).parent.parent / "docs" / "space.md"


def keys() -> list[str]:
    found = []
    for name, field in Space.model_fields.items():
        section: Any = section_of(field.annotation)
        inner = (
            [item.name for item in fields(section)] if is_dataclass(section) else getattr(section, "model_fields", [])
        )
        found += [f"{name}.{key}" for key in inner] or [name]
    return found


@pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the docs beside them")
def test_the_page_is_what_the_code_says() -> None:
    """`python -m tune_bn.space.reference > docs/space.md` mends it."""
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_key_has_a_row_with_all_its_words() -> None:
    rows = [line.replace("\\|", "or").split(" | ") for line in reference().splitlines() if line.startswith("| ")]
    by_key = {cells[0].strip("| *`"): [cell.strip(" |") for cell in cells[1:]] for cells in rows}
    for key in keys():
        assert len(by_key[key]) == 3, key
        assert all(by_key[key]), key
    assert by_key["train.weight_decay"][0] == "`0.0001`"
    assert by_key["trainer.steps"][0] == by_key["name"][0] == "(must be given)"
    assert "Undefined" not in reference()
    assert "MISSING" not in reference()
    assert by_key["seeds.confirm"][0] == "`{from: 1, to: 15}`"
    assert by_key["tracking.uri"][0] == "`null`"


def test_the_command_prints_the_page() -> None:
    command = [sys.executable, "-X", "utf8", "-m", "tune_bn.space.reference"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == reference()
