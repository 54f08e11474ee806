"""What a check says of scripts that are right, though much looks as if they were not, and of those that fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tune_bn.script
from tests.trainers.test_check_finds_traps import RIGHT, checked
from tune_bn.trainers.checked import OK, WRONG, Checked
from tune_bn.trainers.short_runs import Short, alike, results_of

COARSE = RIGHT.replace("val=value, loss=1 / (1 + value)", "val=0.1")
"""As an accuracy that stays at chance for as long as a check lasts."""


def told(found: Checked, line: str) -> tuple[str, str]:
    """Verdict and words of a line."""
    return next((one.verdict, one.words) for one in found.findings if one.trap.startswith(line))


def test_a_score_at_chance_accuses_nobody_where_a_loss_stands_beside_it(tmp_path: Path) -> None:
    found = checked(tmp_path, RIGHT.replace("val=value", "val=0.1"))
    assert (told(found, "2")[0], told(found, "3")[0]) == (OK, OK), found.findings
    assert re.search(r"others differ by up to 0\.\d+ in loss$", told(found, "2")[1]), found.findings


def test_a_seed_that_does_nothing_is_named_though_the_score_is_at_chance(tmp_path: Path) -> None:
    found = checked(tmp_path, RIGHT.replace("val=value", "val=0.1").replace("run.seed", "1"))
    assert told(found, "2") == (WRONG, "seeds 101 and 201 give the same scores: the seed does nothing")
    assert told(found, "3")[0] == OK, found.findings


def test_a_resume_that_goes_on_otherwise_shows_in_the_loss(tmp_path: Path) -> None:
    script = RIGHT.replace("val=value", "val=0.1").replace('value = state["value"]', "pass")
    verdict, words = told(checked(tmp_path, script), "4")
    assert verdict == WRONG
    assert re.search(r"it goes on otherwise: loss .*\(seeds differ by up to 0\.\d+ in loss\)$", words)


def test_a_score_at_chance_alone_is_too_coarse(tmp_path: Path) -> None:
    found = checked(tmp_path, COARSE)
    for line in "23":
        verdict, words = told(found, line)
        assert verdict == WRONG
        assert "val was 0.1 in all 4 steps, too coarse to tell; accepted: a finer metric reported beside it" in words


def short(of: int, **metrics: float) -> Short:
    return Short([0.1, 0.1], 0.0, 0.0, rows=[{"val": 0.1, **metrics}] * 2, seed=of)


def test_what_a_script_repeats_and_what_it_times_is_no_result() -> None:
    first = short(101, loss=1.0, rate=0.5, seed=101, seconds=3.1)
    again = short(101, loss=1.0, rate=0.5, seed=101, seconds=3.2)
    other = short(201, loss=2.0, rate=0.5, seed=201, seconds=3.3)
    names = results_of(first, again, [other])
    assert names == ["loss"]
    assert not alike(first, other, names)
    # Only the rate that it was told is another.
    assert alike(first, short(101, loss=1.0, rate=0.7, seed=101, seconds=3.0), names)
    assert not alike(first, short(101, loss=1.1, rate=0.5, seed=101, seconds=3.1), names)


CHECKSUM = """
import hashlib
def NAME(path):
    return hashlib.md5(open(path, "rb").read()).hexdigest()
"""


@pytest.mark.parametrize(("name", "verdict"), [("calculate_md5", OK), ("load", WRONG)])
def test_a_checksum_of_torchvision_is_no_look_at_the_data(name: str, verdict: str, tmp_path: Path) -> None:
    place = tmp_path / "lib/torchvision/datasets"
    place.mkdir(parents=True)
    for package in (place, place.parent):
        (package / "__init__.py").touch()
    (place / "utils.py").write_text(CHECKSUM.replace("NAME", name))
    reads = f"sys.path.insert(0, {str(tmp_path / 'lib')!r})\nfrom torchvision.datasets import utils\n"
    reads += f"utils.{name}(str(run.data) + '/../outer/test.txt')\n"
    found = checked(tmp_path, RIGHT.replace("rng = random", reads + "rng = random", 1))
    assert told(found, "1")[0] == verdict, found.findings


def test_what_a_script_that_failed_has_said_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "studies/checks/mine.log"
    found = checked(
        tmp_path, "print('so far so good')\n" + RIGHT.replace("rng = random", "1 / 0\nrng = random", 1), log
    )
    assert found.findings[0].verdict == WRONG
    assert f"ZeroDivisionError: division by zero (log: {log})" in found.findings[0].words
    assert "so far so good" in log.read_text()
    assert 'train.py", line' in log.read_text()


def test_what_torch_saves_and_loads_is_seen_though_its_own_code_opens_it(tmp_path: Path) -> None:
    (tmp_path / "told").mkdir()
    script = "import torch; torch.save({'a': 1}, 'saved.pt'); torch.load('saved.pt', mmap=True)"
    place = Path(tune_bn.script.__file__).parent / "audit"
    env = {**os.environ, "PYTHONPATH": str(place), "TUNE_BN_AUDIT": str(tmp_path / "told")}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, check=True)
    told = "".join(path.read_text() for path in (tmp_path / "told").iterdir()).splitlines()
    assert {f"w {tmp_path}/saved.pt", f"r {tmp_path}/saved.pt"} <= set(told)
