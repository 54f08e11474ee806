"""What a driver tells Ray's workers about itself, and how they find modules."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from ray.job_config import JobConfig

import tune_bn


class InstalledFirst(JobConfig):  # type: ignore[misc]
    """A job whose workers look for modules as any Python does: in what is installed.

    Ray puts the driver's current folder, and that of its script, before everything else in ``sys.path`` of the workers.
    A ``random.py`` or ``torch/`` of the user's in that folder would end them all. Networks of the user's are found
    nevertheless: :func:`tune_bn.method.user_network.load_function` adds the current folder, as the last one, and other
    machines are sent the modules.
    """

    def _get_proto_job_config(self) -> Any:
        self._py_driver_sys_path[:] = _own_folder()
        return super()._get_proto_job_config()


def _own_folder() -> list[str]:
    """Where this package is, if it runs from a checkout that was never installed: workers could not import it."""
    try:
        distribution("tune_bn")
    except PackageNotFoundError:
        return [str(Path(tune_bn.__file__).parents[1])]
    return []
