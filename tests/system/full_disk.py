"""What ``full_disk.sh`` does once the small disks are mounted: disturb a study three times, then let it end."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from faults.harness import Workplace

PLACE = Workplace(Path("/run/home/place"))
DISK, RAY = PLACE.folder / "studies", Path("/run/ray")


def fill(folder: Path) -> Path:
    """Take all the room that is left below ``folder``; the file that holds it is returned."""
    room = os.statvfs(folder)
    filler = folder / "filler"
    with filler.open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, room.f_bavail * room.f_frsize)
    return filler


def ended(process: subprocess.Popen[str]) -> dict[str, object]:
    """How a search ended."""
    _, said = process.communicate(timeout=100)
    print(f"{time.monotonic():.0f} s: ended with {process.returncode}: {said[-500:]}", flush=True)
    return {"code": process.returncode, "said": said, "records": len(PLACE.records()), "steps": PLACE.steps}


def main() -> None:
    """Write what was seen to ``/run/seen.json``."""
    seen = {}
    process = PLACE.start()
    PLACE.wait_for_records(2, process)
    filler = fill(DISK)
    seen["full"] = ended(process)
    process = PLACE.start("--resume")
    seen["still full"] = ended(process)
    filler.unlink()

    process = PLACE.start("--resume")
    PLACE.wait_for_records(6, process)
    # The disk itself stays writable, since its lock file is open; it is a mount on top of it that is not.
    subprocess.run(["mount", "--bind", str(DISK), str(DISK)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(DISK)], check=True)
    seen["read-only"] = ended(process)
    subprocess.run(["umount", str(DISK)], check=True)

    filler = fill(RAY)
    process = PLACE.start("--resume")
    seen["no room for ray"] = ended(process)
    filler.unlink()
    seen["end"] = ended(PLACE.start("--resume"))
    Path("/run/seen.json").write_text(json.dumps(seen), encoding="utf-8")


if __name__ == "__main__":
    main()
