"""What ``full_disk.sh`` does once the small disk is mounted.

It is filled while a study runs, then it is read-only, then Ray's own files have no room; at last the study ends.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.faults.harness import Workplace

PLACE = Workplace(Path("/run/home/place"))
DISK = PLACE.folder / "studies"


def fill(folder: Path) -> Path:
    """Take all the room that is left below ``folder``; the file that holds it is returned."""
    room = os.statvfs(folder)
    filler = folder / "filler"
    with filler.open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, room.f_bavail * room.f_frsize)
    return filler


def ended(process: subprocess.Popen[str]) -> dict[str, object]:
    """How a search ended."""
    _, said = process.communicate(timeout=600)
    return {"code": process.returncode, "said": said, "records": len(PLACE.records()), "steps": PLACE.steps}


def mount(*words: str | Path) -> None:
    """The command."""
    subprocess.run(["mount", *words], check=True)


def main() -> None:
    """Write what was seen to ``/run/seen.json``."""
    seen = {}
    process = PLACE.start()
    PLACE.wait_for_records(2, process)
    filler = fill(DISK)
    seen["full"] = ended(process)
    filler.unlink()
    mount("-o", "remount,ro", DISK)
    seen["read-only"] = ended(PLACE.start("--resume"))
    mount("-o", "remount,rw", DISK)
    small = PLACE.folder / "ray"
    small.mkdir()
    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", small)
    seen["no room for Ray"] = ended(PLACE.start("--resume", RAY_TMPDIR=str(small)))
    seen["end"] = ended(PLACE.start("--resume"))
    Path("/run/seen.json").write_text(json.dumps(seen), encoding="utf-8")


if __name__ == "__main__":
    main()
