"""What the devices of a worker use: counters of NVML and RAPL, read without a library of their own.

A GPU since Volta counts its millijoules; of one that does not the power limit is known. RAPL counts microjoules of each
CPU package and begins anew at a range that a busy package reaches within the hour, so it is read often. Where nothing
can be read, as in most containers, nothing is told.
"""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

RAPL = Path("/sys/class/powercap")


@dataclass
class Counter:
    """One source of joules.

    Args:
        source: ``gpu:UUID`` or ``cpu:HOST:PACKAGE``.
        read: the counter in joules, since whenever.
        wraps: at how many joules it begins anew; None: never.
        watts: the power limit, where there is no counter; then ``read`` is not asked.
    """

    source: str
    read: Callable[[], float] | None
    wraps: float | None = None
    watts: float | None = None
    joules: float = 0.0
    _last: float | None = field(default=None, repr=False)

    def update(self) -> None:
        """Read it, and add what was used since the last time."""
        if self.read is None:
            return
        now = self.read()
        if self._last is not None:
            used = now - self._last
            # A driver that was loaded anew begins at 0 too; what was lost then is not known.
            self.joules += used if used >= 0 else used + self.wraps if self.wraps is not None else now
        self._last = now


class Meter:
    """What the device of a worker, and the CPU beside it, use from now on.

    Args:
        device: ``cpu``, or ``cuda:N``.
        counters: None: those that can be read here.
    """

    def __init__(self, device: str, counters: Sequence[Counter] | None = None) -> None:
        self._counters = list(counters_of(device) if counters is None else counters)
        self._since = time.time()
        self._update()

    def _update(self) -> None:
        for counter in list(self._counters):
            try:
                counter.update()
            except (OSError, ValueError):
                self._counters.remove(counter)

    def entries(self) -> list[dict[str, Any]]:
        """What was used so far, as :mod:`tune_bn.records.energy` reads it."""
        self._update()
        now = time.time()
        found: list[dict[str, Any]] = []
        for counter in self._counters:
            estimated = counter.watts is not None
            joules = (counter.watts or 0.0) * (now - self._since) if estimated else counter.joules
            entry = {"source": counter.source, "from": round(self._since, 1), "to": round(now, 1)}
            found.append(entry | {"joules": round(joules, 1)} | ({"estimated": True} if estimated else {}))
        return found


def counters_of(device: str) -> list[Counter]:
    """The counters that can be read here."""
    return [*packages(), *([] if device == "cpu" else gpu(device))]


def packages(root: Path = RAPL) -> list[Counter]:
    """The CPU packages that RAPL tells of, as far as this user may read them."""
    found = []
    for zone in sorted(root.glob("intel-rapl:*")):
        # Zones below a package (cores, memory) are parts of it.
        if zone.name.count(":") != 1:
            continue
        with suppress(OSError, ValueError):
            name, wraps = (zone / "name").read_text().strip(), float((zone / "max_energy_range_uj").read_text()) / 1e6
            counter = Counter(f"cpu:{platform.node()}:{name}", _reader(zone / "energy_uj"), wraps)
            counter.update()
            found.append(counter)
    return found


def _reader(path: Path) -> Callable[[], float]:
    return lambda: float(path.read_text()) / 1e6


def gpu(device: str) -> list[Counter]:
    """The GPU of a torch device, where NVML knows it."""
    library = _nvml()
    if library is None:
        return []
    try:
        import torch

        uuid = f"GPU-{torch.cuda.get_device_properties(torch.device(device)).uuid}"
    except (ImportError, RuntimeError, AssertionError, AttributeError):
        return []
    handle, value, watts = ctypes.c_void_p(), ctypes.c_ulonglong(), ctypes.c_uint()
    if library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)):
        return []

    def read() -> float:
        if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value)):
            raise OSError("NVML no longer tells of this GPU")
        return value.value / 1e3

    with suppress(OSError):
        read()
        return [Counter(f"gpu:{uuid}", read)]
    if library.nvmlDeviceGetPowerManagementLimit(handle, ctypes.byref(watts)):
        return []
    return [Counter(f"gpu:{uuid}", None, watts=watts.value / 1e3)]


@cache
def _nvml() -> Any:
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libnvidia-ml.so.1")
        if library.nvmlInit_v2() == 0:
            return library
    return None
