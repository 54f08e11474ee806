"""What a driver tells Ray's workers about itself, and how they find modules."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tune_bn.runners.ray.compat import OwnPathJob


class InstalledFirst(OwnPathJob):
    """A job whose workers look for modules as any Python does: in what is installed.

    Ray puts the driver's current folder, and that of its script, before everything else in ``sys.path`` of the workers.
    A ``random.py`` or ``torch/`` of the user's in that folder would end them all. Networks of the user's are found
    nevertheless: :func:`tune_bn.method.user_network.load_function` adds the current folder, as the last one, and other
    machines are sent the modules.
    """

    def driver_folders(self) -> list[str]:
        """Where this package is, if it runs from a checkout that was never installed: workers could not import it."""
        try:
            distribution("tune_bn")
        except PackageNotFoundError:
            return [str(Path(__file__).parents[3])]
        return []
