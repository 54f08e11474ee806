import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tune_bn
from tune_bn.errors import SpecError
from tune_bn.space.loading import load_space
from tune_bn.space.locate import find_space, shipped_spaces

SHIPPED = sorted(path.name for path in shipped_spaces().glob("*.yaml"))
CHECKOUT = Path(tune_bn.__file__).parent.parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_package_brings_its_spaces() -> None:
    assert {"digits.yaml", "resnet.yaml"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_space_is_found_by_its_name_and_valid(name: str) -> None:
    path = find_space(name)
    assert path == shipped_spaces() / name
    assert load_space(path).name == name.removesuffix(".yaml")


def test_resnet_is_the_recipe_of_the_paper() -> None:
    space = load_space(find_space("resnet.yaml"))
    train, data = space.train, space.data
    assert (space.model.arch, data.source, data.flip, data.crop_padding) == ("resnet18", "cifar10", True, 0)
    assert (train.epochs, train.batch_size, train.lr, train.momentum) == (180, 128, 0.1, 0.9)
    assert (train.weight_decay, train.schedule, train.precision) == (1e-4, "cosine", "fp32")
    # 45,000 of 50,000 images are left to train on.
    assert (data.train_size, data.val_size, data.test_size) == (None, 5000, None)
    assert space.seeds.confirm == list(range(1, 16))
    assert space.baseline == {"gamma": 1.0, "c": 1.0}
    assert [point["gamma"] for point in space.start_points()] == [0.1, 0.25, 0.5, 0.05, 1.0, 0.75, 0.01]
    assert space.resources.gpu == 1


def test_a_path_goes_before_the_own_folder_and_that_before_the_package(tmp_path: Path) -> None:
    own = tmp_path / "search_spaces" / "digits.yaml"
    own.parent.mkdir()
    own.touch()
    assert find_space("digits.yaml").resolve() == own
    here = tmp_path / "digits.yaml"
    here.touch()
    assert find_space("digits.yaml").resolve() == here
    assert find_space(str(own)) == own


@pytest.mark.parametrize("name", ["absent.yaml", "absent/digits.yaml", "../search_spaces/digits.yaml", "digits", ""])
def test_a_space_that_is_not_found_is_told_those_that_are(tmp_path: Path, name: str) -> None:
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "mine.yaml").touch()
    with pytest.raises(SpecError) as caught:
        find_space(name)
    there = ", ".join(sorted([*SHIPPED, "mine.yaml"]))
    assert str(caught.value).startswith(f"--space: got {name!r}, which is ")
    meant = "" if name in ("", "absent.yaml") else "digits.yaml (did you mean it?), "
    assert str(caught.value).endswith(f"; accepted: {meant}a path, or one of {there}")


@pytest.mark.parametrize("name", [".", "/", "sub"])
def test_a_folder_is_no_space(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(SpecError, match=r"--space: got .*, which is a folder; accepted: "):
        find_space(name)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(SpecError, match=r"File name too long"):
        find_space("x" * 300)


@pytest.mark.skipif(not (CHECKOUT / "pyproject.toml").exists(), reason="the tests run without the sources beside them")
def test_the_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    """Built and installed with pip, offline; its libraries are those of this interpreter."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("tune_bn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {f"tune_bn/search_spaces/{name}" for name in SHIPPED} <= set(archive.namelist())
    target = tmp_path / "installed"
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-m", "tune_bn", "validate", "--space", "resnet.yaml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.startswith(f"{target}/tune_bn/search_spaces/resnet.yaml: valid")
    assert "45,000 train, 5,000 validation, 10,000 test images" in done.stdout
