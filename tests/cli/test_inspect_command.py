"""``tune_bn inspect`` in each of its forms: a study, one of its runs, a checkpoint, a network at its first step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.records.synthetic_layers import diagnostics
from tests.study.local_studies import CONTENT, study_in, tiny_dataset
from tests.study.workers import loops, task_worker
from tune_bn.cli import main
from tune_bn.cli.inspection import as_text
from tune_bn.front.wiring import conclude
from tune_bn.protocols.runner import Task
from tune_bn.records.diagnostics import read_diagnostics, to_json
from tune_bn.records.files import write_json
from tune_bn.records.log import RecordLog
from tune_bn.records.record import DIVERGED, FAILED, PRUNED
from tune_bn.runners.worker import WorkerOptions
from tune_bn.space.file import dump_yaml
from tune_bn.space.loading import parse_space
from tune_bn.study.folder import StudyFolder
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun

SPACE = parse_space(CONTENT | {"budget": {"trials": 2, "finalists": 1}}, "tiny")
OWN = ("--gamma", "0.2", "--c", "1")
CONFIG = SPACE.run_config({"gamma": 0.2, "c": 10})


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished study, and the space file that it was made from."""
    threads = torch.get_num_threads()
    home = tmp_path_factory.mktemp("home")
    study = study_in(home / "studies" / "tiny-1", tiny_dataset(), SPACE)
    study.run()
    conclude(study.folder)
    (home / "tiny.yaml").write_text(dump_yaml(SPACE.to_dict()))
    yield home
    torch.set_num_threads(threads)


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def inspect(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Type ``tune_bn inspect …``: what it prints to standard output, and to standard error."""

    def type_in(*arguments: str | Path) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ending:
            main(["inspect", *map(str, arguments)])
        printed = capsys.readouterr()
        assert ending.value.code == 0, printed.err
        return printed.out, printed.err

    return type_in


@pytest.fixture
def refusal(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The one line that a refused command says; nothing was written."""

    def type_in(*arguments: str | Path) -> str:
        before = sorted(home.rglob("*"))
        with pytest.raises(SystemExit) as ending:
            main(["inspect", *map(str, arguments)])
        printed = capsys.readouterr()
        assert (ending.value.code, printed.out) == (2, "")
        assert sorted(home.rglob("*")) == before
        (line,) = printed.err.splitlines()
        return line.removeprefix("error: ")

    return type_in


def test_a_study_shows_its_arms_and_where_their_pictures_are(inspect: Any) -> None:
    text, _ = inspect("tiny-1")
    overview, *_ = text.split("\n\n")
    assert [line.split()[0] for line in overview.splitlines()] == ["arm", "baseline", "candidate-1"]
    for arm in ("baseline", "candidate-1"):
        assert f"\n{arm}: γ = " in text
        assert f"picture: studies/tiny-1/plots/layers-{arm}.png" in text
        assert (StudyFolder(Path("studies/tiny-1")).plots / f"layers-{arm}.png").is_file()
    assert text.count("stages.2.0.bn2") == 2
    assert max(map(len, text.splitlines())) <= 80


def test_one_arm_and_json_for_programs(inspect: Any, home: Path) -> None:
    text, _ = inspect("tiny-1", "--arm", "candidate-1")
    assert "baseline" not in text
    stored = json.loads((home / "studies/tiny-1/diagnostics/candidate-1.json").read_text())
    assert json.loads(inspect("tiny-1", "--arm", "candidate-1", "--json")[0]) == stored
    every = json.loads(inspect("tiny-1", "--json")[0])
    assert [one["arm"] for one in every] == ["baseline", "candidate-1"]
    assert every[1] == stored


def test_a_study_elsewhere_is_found_by_its_folder_and_by_output(inspect: Any, home: Path) -> None:
    (home / "studies").rename(home / "elsewhere")
    assert inspect("elsewhere/tiny-1", "--json") == inspect("tiny-1", "--output", "elsewhere", "--json")


def test_a_confirmed_run_is_not_trained_again(inspect: Any) -> None:
    text, said = inspect("tiny-1", "--run", "confirm-baseline-s1")
    assert said == ""
    assert "baseline: γ = 1, c = 1, seed 1, after epoch 2" in text


def test_any_other_run_is_trained_again_once(inspect: Any, home: Path) -> None:
    text, said = inspect("tiny-1", "--run", "confirm-baseline-s2")
    assert "confirm-baseline-s2: no diagnostics are stored; training it again on cpu, 2 epochs" in said
    # The run is the recorded one.
    assert "note:" not in said
    assert "confirm-baseline-s2: γ = 1, c = 1, seed 2, after epoch 2" in text
    assert "picture: studies/tiny-1/plots/layers-confirm-baseline-s2.png" in text
    found = read_diagnostics(home / "studies/tiny-1/diagnostics/confirm-baseline-s2.json")
    assert (found.run, found.arm, found.seed, found.epoch) == ("confirm-baseline-s2", None, 2, 2)
    assert inspect("tiny-1", "--run", "confirm-baseline-s2") == (text, "")
    # It stands for no arm.
    assert [one["arm"] for one in json.loads(inspect("tiny-1", "--json")[0])] == ["baseline", "candidate-1"]


def rewrite(home: Path, key: str, **changes: Any) -> None:
    """Change one record, as if it had been written so."""
    log = RecordLog(home / "studies/tiny-1/records.jsonl")
    records = log.read()
    log.path.unlink()
    for record in records:
        log.append(replace(record, **changes) if record.key == key else record)


def test_a_run_that_was_stopped_early_is_trained_as_far_as_it_came(inspect: Any, home: Path) -> None:
    (key,) = (r.key for r in RecordLog(home / "studies/tiny-1/records.jsonl") if r.stage == "select" and r.seed == 201)
    rewrite(home, key, status=PRUNED, epochs=1, scores={"val_accuracy": 1.5, "best_epoch": 1})
    text, said = inspect("tiny-1", "--run", key)
    assert "seed 201, after epoch 1" in text
    # That is not the score which was recorded, and the user is told.
    assert "its record says 1.50 %: not the same run bit for bit" in said


@pytest.mark.parametrize("status", [DIVERGED, FAILED])
def test_a_run_without_weights_is_refused(refusal: Any, home: Path, status: str) -> None:
    rewrite(home, "confirm-baseline-s2", status=status, reason="it was so")
    line = refusal("tiny-1", "--run", "confirm-baseline-s2")
    assert line.startswith(f"--run: got 'confirm-baseline-s2', which {status} (it was so); accepted: a run that was ")


def test_a_network_before_its_first_step(inspect: Any, home: Path) -> None:
    text, said = inspect("--space", "tiny.yaml", "--gamma", "0.1", "--seed", "3")
    assert said == ""
    assert text.startswith("resnet8: γ = 0.1, c = 1, seed 3, before the first step\n")
    assert max(map(len, text.splitlines())) <= 80
    found = json.loads(inspect("--space", "tiny.yaml", "--gamma", "0.1", "--json")[0])
    first, *others = [layer["gradient"]["ratio"] for layer in found["layers"]]
    assert first == pytest.approx(0.1, abs=0.02)
    assert others == pytest.approx([1.0] * 6, abs=0.1)
    assert not list(home.glob("*.json"))


def test_files_for_a_paper(inspect: Any, home: Path) -> None:
    _, said = inspect("--space", "tiny.yaml", "--set", "model.gamma=0.5", "--output", "new/files")
    assert said.splitlines() == [
        f"wrote new/files/{name}" for name in ("diagnostics.json", "diagnostics.md", "layers.png")
    ]
    found = read_diagnostics(home / "new/files/diagnostics.json")
    assert {layer.gamma.initial for layer in found.layers} == {0.5}
    assert found.config == {"arch": "resnet8", "gamma": 0.5, "c": 1.0}


@pytest.fixture(scope="module")
def data() -> DeviceData:
    return DeviceData(tiny_dataset(), torch.device("cpu"))


def trained(data: DeviceData, folder: Path) -> tuple[TrainingRun, Path]:
    """A run after its first epoch, and the checkpoint that its worker wrote then."""
    task = Task("search", "candidate", 0, {"gamma": 0.2, "c": 10.0}, CONFIG, (101, 102))
    options = WorkerOptions(folder, checkpoint_seconds=1e-9, report_seconds=1e-9)
    worker = task_worker(task, tiny_dataset(), options, data=data)
    worker.step()
    worker.close()
    return loops(worker)[1], folder / task.key / "latest.pt"


def gammas(found: dict[str, Any]) -> dict[str, float]:
    return {layer["name"]: layer["gamma"]["mean"] for layer in found["layers"]}


def own_gammas(run: TrainingRun) -> dict[str, Any]:
    return {
        name.removesuffix(".weight"): pytest.approx(float(value.double().mean()))
        for name, value in run.model.state_dict().items()
        if value.dim() == 1 and name.endswith(".weight")
    }


def test_a_checkpoint_of_a_study_names_its_seed_and_epoch(inspect: Any, home: Path, data: DeviceData) -> None:
    run, file = trained(data, home / "checkpoints")
    arguments = ("--checkpoint", file, "--space", "tiny.yaml", "--json")
    found = json.loads(inspect(*arguments, "--seed", "102")[0])
    assert (found["seed"], found["epoch"]) == (102, 1)
    assert gammas(found) == own_gammas(run)
    assert found["layers"][0]["gamma"]["initial"] == pytest.approx(0.2)
    assert json.loads(inspect(*arguments)[0])["seed"] == 101
    # The space says γ = 1, c = 1; what the run was trained with says its checkpoint.
    assert found["config"] == {"arch": "resnet8", "gamma": 0.2, "c": 10.0}
    drifts = [layer["gamma"]["relative_drift"] for layer in found["layers"]]
    assert 0 < max(drifts) < 0.5, "measured from where the run began"


def test_a_checkpoint_in_its_study_needs_no_space(inspect: Any, refusal: Any, home: Path, data: DeviceData) -> None:
    _, file = trained(data, home / "studies" / "tiny-1" / "checkpoints")
    found = json.loads(inspect("--checkpoint", file, "--json")[0])
    assert found["config"] == {"arch": "resnet8", "gamma": 0.2, "c": 10.0}
    assert (
        inspect("--checkpoint", file, "--gamma", "0.2", "--c", "10", "--json")[0]
        == inspect("--checkpoint", file, "--json")[0]
    )
    assert refusal("--checkpoint", file, "--gamma", "0.3").startswith("--gamma: got 0.3; accepted: gamma = 0.2, with ")
    assert refusal("--checkpoint", file, "--c", "1").startswith("--c: got 1.0; accepted: c = 10.0, with which ")
    line = refusal("--checkpoint", file, "--set", "model.norm=rbn")
    assert line.startswith("--space: tiny has another model than ")
    assert "(they differ in model.norm); accepted: the space.yaml of its study" in line


def test_weights_that_do_not_say_what_they_began_with_are_asked_for_it(
    inspect: Any, refusal: Any, home: Path, data: DeviceData
) -> None:
    _, file = trained(data, home / "checkpoints")
    content = torch.load(file, weights_only=True)
    del content["task"]
    torch.save(content, home / "older.pt")
    torch.save(content["runs"][0]["model"], home / "mine.pt")
    for name in ("older.pt", "mine.pt"):
        arguments = ["--checkpoint", name, "--space", "tiny.yaml"]
        assert refusal(*arguments).startswith(f"--gamma: not given, and {name} does not say it; accepted: the initial ")
        assert refusal(*arguments, "--gamma", "0.2").startswith(f"--c: not given, and {name} does not say it; ")
        assert "γ = 0.2, c = 10, seed" in inspect(*arguments, "--gamma", "0.2", "--c", "10")[0]
    by_stage = "model.gamma={per_stage: [0.2, 0.2, 0.3]}"
    assert "γ.3 = 0.3" in inspect("--checkpoint", "mine.pt", "--space", "tiny.yaml", "--set", by_stage, "--c", "10")[0]


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model", "DataParallel"])
def test_weights_of_the_users_own_making(inspect: Any, home: Path, data: DeviceData, wrap: str) -> None:
    run = TrainingRun(CONFIG, data, 5)
    run.train_epoch()
    weights: dict[str, Any] = dict(run.model.state_dict())
    if wrap in ("state_dict", "model"):
        weights = {wrap: weights, "epoch": 7}
    if wrap == "DataParallel":
        weights = {f"module.{name}": value for name, value in weights.items() if "num_batches" not in name}
    torch.save(weights, home / "mine.pt")
    found = json.loads(inspect("--checkpoint", "mine.pt", "--space", "tiny.yaml", *OWN, "--json")[0])
    assert (found["seed"], found["epoch"]) == (0, None)
    assert gammas(found) == own_gammas(run)
    text, _ = inspect("--checkpoint", "mine.pt", "--space", "tiny.yaml", *OWN)
    assert text.startswith("resnet8: γ = 0.2, c = 1, seed 0, weights of a checkpoint\n")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda w: w.pop("bn1.weight"), "it lacks 'bn1.weight'; accepted: "),
        (lambda w: (w.pop("bn1.weight"), w.pop("fc.bias")), "it lacks 'bn1.weight' (and 1 more); accepted: "),
        (lambda w: w.update({"fc.2.weight": torch.ones(1)}), "it has 'fc.2.weight', which the network lacks; accepted"),
        (
            lambda w: w.update({"fc.weight": torch.ones(3, 64)}),
            "'fc.weight' has the shape (3, 64), in the network (10, 64); accepted: weights of the network that --space",
        ),
    ],
)
def test_weights_of_another_network_are_refused(
    refusal: Any, home: Path, data: DeviceData, change: Any, problem: str
) -> None:
    weights = dict(TrainingRun(CONFIG, data, 5).model.state_dict())
    change(weights)
    torch.save(weights, home / "mine.pt")
    line = refusal("--checkpoint", "mine.pt", "--space", "tiny.yaml", *OWN)
    assert line.startswith(f"--checkpoint: mine.pt does not fit resnet8 with norm: scaled: {problem}")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "which torch.load does not read with weights_only=True; accepted: "),
        (b"PK\x03\x04 but no archive", "which torch.load does not read with weights_only=True; accepted: "),
        ([1, 2], "which holds a list; accepted: "),
        ({}, "which holds a dict of nothing; accepted: "),
        ({"epoch": 7, "loss": 0.5}, "which holds a dict of epoch, loss; accepted: "),
        (torch.nn.Linear(2, 2), "which torch.load does not read with weights_only=True (it holds torch.nn.modules.lin"),
    ],
    ids=["empty", "torn", "list", "nothing", "numbers", "a pickled module"],
)
def test_a_file_without_weights_is_refused(refusal: Any, home: Path, content: Any, problem: str) -> None:
    file = home / "mine.pt"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    line = refusal("--checkpoint", "mine.pt", "--space", "tiny.yaml")
    assert line.startswith(f"--checkpoint: got 'mine.pt', {problem}")
    assert "accepted: a state dict" in line


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["absent"], "STUDY: got absent; accepted: a study in "),
        (["tiny-1", "--arm", "nobody"], "--arm: got 'nobody'; accepted: baseline, candidate-1; or --run KEY "),
        (["tiny-1", "--run", "x"], "--run: got 'x'; accepted: the key of one of "),
        (["tiny-1", "--gamma", "0.1"], "--gamma: got '0.1'; accepted: without STUDY"),
        (["tiny-1", "--space", "tiny.yaml"], "--space: got 'tiny.yaml'; accepted: without STUDY"),
        (["tiny-1", "--seed", "0"], "--seed: got '0'; accepted: without STUDY"),
        (["tiny-1", "--arm", "baseline", "--run", "x"], "--run: got 'x'; accepted: without --arm"),
        (["--arm", "baseline"], "--arm: got 'baseline'; accepted: with STUDY"),
        (["--run", "confirm-baseline-s1"], "--run: got 'confirm-baseline-s1'; accepted: with STUDY"),
        (["--space", "absent.yaml"], "--space: got 'absent.yaml', which is not found; accepted: "),
        (["--space", "tiny.yaml", "--gamma", "2"], "--gamma: got 2.0; accepted: a number in (0, 1]"),
        (["--space", "tiny.yaml", "--set", "data.train_size=9999"], "tiny.yaml with data.train_size=9999: data.train_"),
        (["--space", "tiny.yaml", "--checkpoint", "absent.pt"], "--checkpoint: got 'absent.pt', which is no file; acc"),
        (["--space", "tiny.yaml", "--checkpoint", "studies"], "--checkpoint: got 'studies', which is no file; accepte"),
        (["--space", "tiny.yaml", "--output", "tiny.yaml"], "--output: tiny.yaml cannot be written (Not a directory)"),
    ],
)
def test_bad_input_is_refused_in_one_line(refusal: Any, arguments: list[str], problem: str) -> None:
    assert refusal(*arguments).startswith(problem)


def test_a_seed_that_a_checkpoint_lacks_is_refused(refusal: Any, home: Path, data: DeviceData) -> None:
    _, file = trained(data, home / "checkpoints")
    line = refusal("--checkpoint", file, "--space", "tiny.yaml", "--seed", "7")
    assert line.startswith("--seed: got 7; accepted: 101, 102, which ")


def test_a_study_that_was_not_inspected_says_what_to_do(refusal: Any, home: Path) -> None:
    shutil.rmtree(home / "studies/tiny-1/diagnostics")
    line = refusal("tiny-1")
    assert line.startswith("STUDY: got tiny-1, which has no diagnostics yet; accepted: ")
    assert "--run KEY" in line


def test_a_damaged_file_is_refused_by_name(refusal: Any, home: Path) -> None:
    (home / "studies/tiny-1/diagnostics/baseline.json").write_text("{}")
    assert "diagnostics/baseline.json: no diagnostics (schema_version: got None; accepted: 1); accepted: " in refusal(
        "tiny-1"
    )


def test_what_could_not_be_seen_is_said(inspect: Any, home: Path) -> None:
    path = home / "studies/tiny-1/diagnostics/baseline.json"
    write_json(path, to_json(replace(read_diagnostics(path), layers=(), problem="RuntimeError: no memory")))
    assert "after epoch 2\nnot known: RuntimeError: no memory" in inspect("tiny-1", "--arm", "baseline")[0]


def test_a_deep_network_is_thinned_unless_asked() -> None:
    found = diagnostics(53, arm="ours")
    rows = [line for line in as_text([found], every=False).splitlines() if line.startswith("layer")][1:]
    assert len(rows) == 20
    assert rows[0].startswith(found.layers[0].name)
    assert rows[-1].startswith(found.layers[-1].name)
    assert "20 of 53 layers; --all shows every one" in as_text([found], every=False)
    every = as_text([found], every=True)
    assert [line.split()[0] for line in every.splitlines() if line.startswith("layer")][1:] == [
        layer.name for layer in found.layers
    ]
    assert "--all" not in every


def test_of_many_arms_only_the_overview_is_printed() -> None:
    text = as_text([diagnostics(7, arm=f"arm-{number}") for number in range(14)], every=False)
    assert sum(line.startswith("arm-") for line in text.splitlines()) == 14
    assert "--arm NAME shows the layers of one arm" in text
    assert "layer1.0.bn1" not in text
