"""What workers are told of where to look for modules; how they then behave is tested with networks of the user's."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import tune_bn
from tune_bn.runners.ray import job as ray_job
from tune_bn.runners.ray.job import InstalledFirst


def told(job: InstalledFirst) -> list[str]:
    # As Ray does it when a driver connects; this fails where a later Ray does it otherwise.
    job._py_driver_sys_path.extend(["/home/me", "/home/me/scripts"])
    return list(job._get_proto_job_config().py_driver_sys_path)


def test_no_folder_of_the_driver_comes_before_what_is_installed() -> None:
    assert told(InstalledFirst()) == []


def test_a_checkout_that_was_never_installed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(ray_job, "distribution", absent)
    assert told(InstalledFirst()) == [str(Path(tune_bn.__file__).parents[1])]
