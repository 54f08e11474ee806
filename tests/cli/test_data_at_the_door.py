"""What is wrong with the data is said before a cluster is taken and before there is a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from tune_bn.cli import app
from tune_bn.cli.jobs import carry_out_as_job
from tune_bn.errors import DataError, TuneBNError
from tune_bn.front.runners import Runners
from tune_bn.front.wiring import run_study
from tune_bn.observers.console.observer import ConsoleObserver
from tune_bn.space.file import dump_yaml
from tune_bn.space.loading import parse_space

SPACE: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "resnet8"},
    "train": {"epochs": 1, "batch_size": 8},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}},
    "budget": {"trials": 1, "finalists": 1},
    "seeds": {"search": [101], "select": [201], "confirm": [1, 2]},
}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for label, shade in (("cat", 0), ("dog", 90)):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(10):
                Image.new("RGB", (8, 8), (number, shade, 7 * (split == "test"))).save(folder / f"{number}.png")
    (tmp_path / "tiny.yaml").write_text(dump_yaml(SPACE | {"data": {"source": "folder", "root": "images"}}))
    return tmp_path


def damage(workplace: Path) -> None:
    """The headers stay whole."""
    for number in (6, 8):
        path = workplace / "images/train/dog" / f"{number}.png"
        path.write_bytes(path.read_bytes()[:-25])


def validate(*options: str) -> str:
    result = CliRunner().invoke(app, ["validate", "--space", "tiny.yaml", *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_an_image_that_is_none_does_not_hide_those_that_are_cut_off(workplace: Path) -> None:
    damage(workplace)
    (workplace / "images/train/cat/6.png").write_text("no image")
    result = CliRunner().invoke(app, ["validate", "--space", "tiny.yaml", "--data"])
    told = str(result.exception)
    assert "cat/6.png: not an image that Pillow can identify" in told
    assert "and 2 more: " in told
    assert "dog/6.png: unreadable" in told
    assert "dog/8.png: unreadable" in told


@pytest.mark.long
def test_validate_reads_the_images_where_it_is_asked_to(workplace: Path) -> None:
    (workplace / "images/train/cat/@eaDir/0.png").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(workplace / "images/train/cat/@eaDir/0.png/SYNOPHOTO_THUMB_S.jpg")
    text = validate("--data")
    assert "           passed over, as they are no images of the data: 1 file in 1 folder (@eaDir 1)\n" in text
    assert "data  40/40 images decoded\n" in text
    assert "not tried  the whole course of a run; whether Ray starts\n" in text
    assert text.endswith("images     all 40 can be read\n           none occurs in two splits or in two classes\n")
    (workplace / "images/test/dog/3.png").write_bytes((workplace / "images/train/dog/3.png").read_bytes())
    assert "1 test image is a training image too: " in validate("--data")
    damage(workplace)
    text = validate()
    assert "images  " not in text
    assert "whether every image can be read (--data)" in text
    with pytest.raises(DataError, match=r"dog/6.png: unreadable .*; and 1 more: .*dog/8.png: unreadable"):
        validate("--data")


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def never(*_: Any, **__: Any) -> Any:
        pytest.fail("must not come to this")

    monkeypatch.setattr("tune_bn.runners.ray.start.connect", never)
    return never


def test_a_search_decodes_before_it_takes_the_cluster(workplace: Path, forbidden: Callable[..., Any]) -> None:
    damage(workplace)
    space = parse_space(SPACE | {"data": {"source": "folder", "root": "images"}}, "x")
    with pytest.raises(DataError, match=r"dog/6.png: unreadable"):
        run_study(forbidden, space, runners=Runners(space, None, ConsoleObserver()), console=ConsoleObserver())


def test_a_job_decodes_before_there_is_a_study(
    workplace: Path, forbidden: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Server:
        submit = follow = forbidden

    monkeypatch.setattr("tune_bn.service.jobs.JobServer", Server)
    damage(workplace)
    space = parse_space(SPACE | {"data": {"source": "folder", "root": "images"}}, "x")
    with pytest.raises(DataError, match=r"dog/6.png: unreadable"):
        carry_out_as_job(forbidden, space, "tiny.yaml")


@pytest.mark.long
def test_a_question_about_val_names_the_space_file(workplace: Path) -> None:
    (workplace / "images/test").rename(workplace / "images/val")
    with pytest.raises(DataError, match=r"^tiny.yaml: data.val_folder: got null; accepted: test \(val/ holds the test"):
        validate()
    assert "test images are those of val/; validation" in validate("--set", "data.val_folder=test")


@pytest.fixture
def rays(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What became of the Ray of this machine, which is none."""
    happened: list[str] = []
    monkeypatch.setattr("tune_bn.runners.ray.start.connect", lambda options: happened.append("started"))
    monkeypatch.setattr("tune_bn.runners.ray.start.disconnect", lambda: happened.append("left"))
    return happened


def search_refused(space: dict[str, Any]) -> str:
    Path("asked.yaml").write_text(dump_yaml(space))
    with pytest.raises(TuneBNError) as refused:
        CliRunner().invoke(app, ["search", "--space", "asked.yaml"], catch_exceptions=False)
    assert not Path("studies").exists()
    return str(refused.value)


def test_data_that_is_not_there_is_said_before_a_ray_of_this_machine_starts(workplace: Path, rays: list[str]) -> None:
    assert "nowhere" in search_refused(SPACE | {"data": {"source": "folder", "root": "nowhere"}})
    assert rays == []


@pytest.mark.parametrize("late", ["a network", "an image"])
def test_what_is_seen_later_ends_the_ray_that_started_meanwhile(workplace: Path, rays: list[str], late: str) -> None:
    space = SPACE | {"data": {"source": "folder", "root": "images"}}
    if late == "an image":
        damage(workplace)
        assert "dog/6.png: unreadable" in search_refused(space)
    else:
        assert "no module missing_module" in search_refused(space | {"model": {"arch": "missing_module:network"}})
    assert rays == ["started", "left"]
