"""The examples: each passes `check` and comes to a verdict; only Ray is left out, and few trials are made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.study.local_studies import Follower
from tune_bn.front.wiring import conclude, sampler_of
from tune_bn.protocols.trainer import Place
from tune_bn.runners.local import LocalRunner
from tune_bn.space.loading import load_space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.trainers.check import Checker
from tune_bn.trainers.checked import OK, UNKNOWN, Checked, keep, nuisance_middles
from tune_bn.trainers.choose import trainer_of
from tune_bn.trainers.command.from_space import keep_code
from tune_bn.training.versions import commit

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if (path / "space.yaml").exists())
SMALL = ["budget.trials=3", "budget.finalists=1", "seeds.select=[201]", "seeds.confirm=[1,2,3]"]
MAY_BE_UNKNOWN = {
    "no_torch": ["1 the test set is sealed"],
    "hugging_face": ["1 the test set is sealed"],
    "hydra": ["1 the test set is sealed"],
    "lightning": ["1 the test set is sealed"],
    "plain_torch": ["1 the test set is sealed"],
    "function": ["1 the test set is sealed", "5 runs do not touch"],
    "segmentation": ["1 the test set is sealed", "5 runs do not touch"],
    # These are through within a poll, so that nothing can cut them.
    "shell": ["1 the test set is sealed", "4 a resume is exact"],
    "untouched": ["4 a resume is exact"],
}
NEEDS = {"hydra": ["hydra"], "lightning": ["pytorch_lightning"], "hugging_face": ["transformers", "accelerate"]}
"""What an example needs beside the packages of this one; where that is missing, it is skipped."""


def brought_in(name: str, folder: Path) -> Path:
    """A copy of an example, with its data."""
    shutil.copytree(EXAMPLES / name, folder / name)
    if (folder / name / "make_data.py").exists():
        subprocess.run([sys.executable, "make_data.py"], cwd=folder / name, check=True)
    return folder / name / "space.yaml"


def test_there_are_examples_and_each_is_short() -> None:
    assert set(NAMES) == set(MAY_BE_UNKNOWN)
    # What somebody made who ran one here is none of it.
    files = [path for path in EXAMPLES.rglob("*.*") if not {"studies", "data", "outputs"} & {*path.parts}]
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 120, path


@pytest.mark.parametrize("name", ["no_torch", "plain_torch"])
def test_a_script_runs_in_a_python_of_its_own(name: str, tmp_path: Path) -> None:
    space = load_space(brought_in(name, tmp_path))
    session = trainer_of(space).open(Place(threads=1))
    run = session.start({**nuisance_middles(space), **space.baseline}, 1)
    while not run.done:
        run.advance()
    assert space.trainer is not None
    assert len(run.curve) == space.trainer.steps
    session.close()


@pytest.mark.parametrize("name", NAMES)
def test_an_example_passes_the_check_and_comes_to_a_verdict(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    few = []
    if name in ("plain_torch", *NEEDS):
        # Each run of a script of its own would import torch anew.
        request.getfixturevalue("warm_scripts")
        few = ["budget.trials=2", "seeds.confirm=[1,2]"]
    path = brought_in(name, tmp_path)
    # Where it is typed.
    monkeypatch.chdir(path.parent)
    space = load_space(path, [*SMALL, *few])
    trainer = trainer_of(space)
    checked: Checked = Checker(space, trainer, Place(threads=1), tmp_path / "check").run()
    found = {finding.trap: finding.verdict for finding in checked.findings}
    assert checked.ok, checked.findings
    assert {trap for trap, verdict in found.items() if verdict == UNKNOWN} <= set(MAY_BE_UNKNOWN[name])
    assert list(found.values()).count(OK) >= 4
    keep(tmp_path / "studies", space, trainer, checked)

    folder = StudyFolder(tmp_path / "studies/one")
    folder.created(space)
    keep_code(trainer, folder.path)
    runner = LocalRunner(trainer, checkpoints=folder.checkpoints)
    study = Study(
        folder,
        space,
        runner=runner,
        make_sampler=lambda arm, outcomes: sampler_of(space, folder, arm, outcomes, trainer.score.goal),
        observer=Follower(),
        trainer=trainer,
        commit=commit(),
    )
    study.run()
    verdict = conclude(folder)
    runner.close()
    assert not verdict.is_invalid, verdict.reason
    confirmed = [record for record in folder.records if record.stage == "confirm"]
    # Where the learning rate is tuned, the baseline has rivals.
    arms = [*verdict.baselines, *verdict.rivals, *verdict.candidates]
    assert len(arms) == 2 or space.nuisance
    assert len(confirmed) == len(arms) * len(space.seeds.confirm)
    assert all(trainer.score.test in record.scores for record in confirmed)
    assert not any(trainer.score.test in record.scores for record in folder.records if record.stage != "confirm")
    report = (folder.path / "report.md").read_text(encoding="utf-8")
    assert trainer.score.test.replace("_", " ") in report
    assert "What `tune_bn check` found:" not in report, "this study was begun without its check"
    assert "It was never tried by `tune_bn check`" in report
