"""What of this machine works, what a search would use of it, and what to do about the rest.

Each library is loaded in a process of its own: one that is broken, crashes or hangs is a finding, and ends nothing.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tune_bn.errors import TuneBNError, first_line
from tune_bn.host.extras import EXTRAS, installed
from tune_bn.host.machine import cuda_devices, usable_cores

OK, WARNING, BROKEN, MISSING = "ok", "warning", "broken", "missing"
"""``missing``: not installed. ``warning``: a search runs, but see what is said."""
SECONDS = 120.0
"""Time for a library to be loaded; on a busy machine with a cold disk torch takes half a minute."""

_SHARED_MEMORY = 2 * 2**30
"""Below it Ray keeps its objects on disk."""
_DISK = 5 * 2**30
_OPEN_FILES = 4096


@dataclass(frozen=True)
class Finding:
    """What was found of one part."""

    part: str
    state: str
    """``ok``, ``warning``, ``broken`` or ``missing``."""
    words: str
    advice: str = ""
    """What to do about it."""
    needed: bool = True
    """Whether a search needs the part."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stops_a_search(self) -> bool:
        """Whether no search runs with the part as it is."""
        return self.needed and self.state in (BROKEN, MISSING)


def examine(output: Path, seconds: float = SECONDS) -> list[Finding]:
    """Look at every part; no part's trouble hides another's.

    Args:
        output: the folder of studies, for the disk that it is on.
        seconds: time for each library.
    """
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "cores": _cores,
        "torch": lambda: _library("torch", "train", _TORCH, _torch_words, seconds),
        "torchvision": lambda: _library("torchvision", "train", _VERSION.format("torchvision"), _version, seconds),
        "ray": lambda: _library("ray", "ray", _VERSION.format("ray.tune"), _version, seconds),
        "optuna": lambda: _library("optuna", "", _VERSION.format("optuna"), _version, seconds),
        "mlflow": lambda: _library("mlflow", "mlflow", _VERSION.format("mlflow"), _version, seconds),
        "shared memory": _shared_memory,
        "open files": _open_files,
        "temporary files": lambda: _disk("temporary files", Path(os.environ.get("RAY_TMPDIR") or _temporary())),
        "studies": lambda: _disk("studies", output),
    }
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda item: _safely(*item), checks.items()))


def works(findings: list[Finding]) -> bool:
    """Whether a search would run here."""
    return not any(finding.stops_a_search for finding in findings)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """The findings as JSON holds them: ``search`` says whether one would run, ``parts`` has a dict for each part."""
    return {"search": works(findings), "parts": [asdict(finding) for finding in findings]}


def text(findings: list[Finding]) -> str:
    """The findings in lines, what to do below each."""
    width = max(len(finding.part) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.part:<{width}}  {finding.state:<7}  {finding.words}")
        if finding.advice:
            lines.append(f"{'':<{width}}  {'':<7}  → {finding.advice}")
    return "\n".join([*lines, "", _search_words(findings)])


def _search_words(findings: list[Finding]) -> str:
    stopping = [finding.part for finding in findings if finding.stops_a_search]
    if stopping:
        return f"a search would not run here: {', '.join(stopping)}"
    facts = {finding.part: finding.facts for finding in findings}
    cores, gpus = facts.get("cores", {}).get("usable"), facts.get("torch", {}).get("gpus", [])
    with_gpus = f" and {len(gpus)} GPU{'s' if len(gpus) > 1 else ''} (for spaces with resources.gpu)" if gpus else ""
    return f"a search would use {cores} CPU core{'' if cores == 1 else 's'}{with_gpus} of this machine"


def _safely(part: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        return Finding(part, BROKEN, f"{type(error).__name__}: {first_line(error)}")


def _python() -> Finding:
    facts = {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()}
    return Finding("python", OK, f"{facts['version']} at {sys.executable}, {facts['platform']}", facts=facts)


def _cores() -> Finding:
    there = os.cpu_count() or 1
    try:
        usable = usable_cores()
    except TuneBNError as error:
        return Finding("cores", BROKEN, str(error), "unset TUNE_BN_CORES, or set it to a number of cores")
    words = f"{usable} of {there} CPU core{'s' if there > 1 else ''} may be used"
    if usable < there:
        words += " (TUNE_BN_CORES, the affinity mask, a quota of the container, or Slurm)"
    return Finding("cores", OK, words, facts={"usable": usable, "there": there})


_VERSION = (
    "import {0} as m, sys; print(__import__('json').dumps({{'version': sys.modules['{0}'.split('.')[0]].__version__}}))"
)
_TORCH = """
import json, torch
facts = {"version": torch.__version__, "cuda": torch.version.cuda, "gpus": [], "trouble": ""}
try:
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts["gpus"].append(torch.cuda.get_device_name(index))
            float((torch.ones(8, 8, device=f"cuda:{index}") @ torch.ones(8, 8, device=f"cuda:{index}")).sum())
except Exception as error:
    facts["trouble"] = f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
facts["sum"] = float((torch.ones(8, 8) @ torch.ones(8, 8)).sum())
print(json.dumps(facts))
"""


def _library(
    name: str, extra: str, code: str, words: Callable[[dict[str, Any]], Finding | tuple[str, str]], seconds: float
) -> Finding:
    install = f"pip install 'tune_bn[{extra}]'" if extra else "pip install --force-reinstall tune_bn"
    if not installed(name):
        wanted = next((extra for extra, names in EXTRAS.items() if name in names), extra)
        return Finding(name, MISSING, "not installed", f"pip install 'tune_bn[{wanted}]'" if wanted else install)
    try:
        # -P: a torch.py in the current folder is no library.
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        load, late = os.getloadavg()[0], f"was not loaded within {seconds:g} s"
        if load > (os.cpu_count() or 1):
            # Whatever waits for a processor is slow, and says nothing of the library.
            busy = f"{late}, while {load:.1f} processes wanted {os.cpu_count()} cores"
            return Finding(name, WARNING, busy, "look again when the machine is less busy")
        return Finding(
            name, BROKEN, late, f"python -X faulthandler -c 'import {name}', ended by Ctrl-\\, shows where it hangs"
        )
    except OSError as error:
        return Finding(name, BROKEN, f"cannot be tried ({error.strerror})")
    if done.returncode:
        last = next(iter(reversed(done.stderr.strip().splitlines())), "")
        how = f"killed by {_signal(-done.returncode)}" if done.returncode < 0 else last or f"status {done.returncode}"
        return Finding(name, BROKEN, f"cannot be loaded: {how}", f"{install}, in an environment of its own")
    try:
        facts = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Finding(name, BROKEN, "loads, and answers nothing", f"{install}, in an environment of its own")
    found = words(facts)
    if isinstance(found, Finding):
        return found
    return Finding(name, WARNING if found[1] else OK, found[0], found[1], facts=facts)


def _version(facts: dict[str, Any]) -> tuple[str, str]:
    return facts["version"], ""


def _torch_words(facts: dict[str, Any]) -> tuple[str, str]:
    built = f"built for CUDA {facts['cuda']}" if facts["cuda"] else "built without CUDA"
    if facts["trouble"]:
        return f"{facts['version']}, {built}; a GPU is there and does not work: {facts['trouble']}", _GPU_ADVICE
    if facts["gpus"]:
        return f"{facts['version']}, {built}; {', '.join(facts['gpus'])}", ""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = given is not None and not cuda_devices(given)
    words = f"{facts['version']}, {built}; trains on the CPU"
    if shutil.which("nvidia-smi") is None:
        return words, ""
    if hidden:
        return f"{words} (CUDA_VISIBLE_DEVICES={given!r} hides the GPUs)", ""
    return f"{words}, though this machine seems to have NVIDIA's driver", _GPU_ADVICE


_GPU_ADVICE = "nvidia-smi says whether the driver works; torch must be built for a CUDA that the driver knows"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shared_memory(path: Path = Path("/dev/shm")) -> Finding:
    if not path.is_dir():
        return Finding(
            "shared memory", WARNING, f"{path} is not there", "Ray keeps its objects on disk, which is slower"
        )
    usage = shutil.disk_usage(path)
    words = f"{_size(usage.free)} of {_size(usage.total)} free in {path}"
    advice = ""
    if usage.free < _SHARED_MEMORY:
        advice = "Ray keeps its objects on disk, which is slower; in a container: --shm-size=4g"
    return Finding("shared memory", WARNING if advice else OK, words, advice, facts={"free": usage.free})


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    words = f"{_count(soft)} at once, at most {_count(hard)}"
    low = soft != resource.RLIM_INFINITY and soft < _OPEN_FILES
    advice = f"ulimit -n {_OPEN_FILES}, before a search with many workers" if low else ""
    return Finding("open files", WARNING if low else OK, words, advice, facts={"soft": soft, "hard": hard})


def _count(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else f"{limit:,}"


def _temporary() -> str:
    import tempfile

    return tempfile.gettempdir()


def _disk(part: str, path: Path) -> Finding:
    place = path.absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    words = f"{_size(usage.free)} of {_size(usage.total)} free in {place}"
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(part, BROKEN, f"{place} cannot be written", "another folder: --output, or RAY_TMPDIR")
    advice = "checkpoints and Ray's logs need room: another disk (--output, RAY_TMPDIR)" if usage.free < _DISK else ""
    return Finding(part, WARNING if advice else OK, words, advice, facts={"free": usage.free, "folder": str(place)})


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"
