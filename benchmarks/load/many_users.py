"""Many users on one cluster, as a lab would have them: is anything lost, doubled, left behind, or shared unevenly?

    python -m benchmarks.load.many_users [--minutes 20] [--studies 30] [--seed 1]

Three users, each with a folder of studies, and thirty studies share a head and eight nodes of one core, which are
killed, drained and replaced; workers are killed; drivers are stopped, interrupted, killed, run into limits, lose their
connection or are cancelled as Ray jobs, and are resumed. What happens is drawn from the seed (``many_users_plan``).
Afterwards every study is compared with the same study undisturbed (``many_users_oracle``), and the shares of those that
worked at the same time are computed (``many_users_shares``). Everything runs in namespaces of its own, so it needs root
and util-linux; the users share one account, as those of a Ray cluster do.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load.many_users_plan import USERS, made_words
from benchmarks.load.many_users_shares import LEAST_SECONDS, TOLERANCE, shares, use, user_of
from benchmarks.measure import hardware, hardware_words
from benchmarks.results import RESULTS, markdown, save, stamp

ISOLATED = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--fork",
    "--kill-child",
    "--pid",
    "--net",
    "--mount",
    "--mount-proc",
]
CHECKOUT = Path(__file__).parents[2]
SCRATCH = CHECKOUT / "build" / "many_users"
OPTIONS = "options.json"


def in_sandbox(scratch: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Carry the plan out where ``/tmp``, the network and the processes are the sandbox's own; what it saw."""
    (scratch / OPTIONS).write_text(json.dumps(options), encoding="utf-8")
    inside = [sys.executable, "-m", "benchmarks.load.many_users_lab", f"/tmp/{OPTIONS}", "/tmp/outcome.json"]
    lines = ["set -e", "ip link set lo up", "mount -t tmpfs tmpfs /dev/shm"]
    lines += [f"mount --bind {shlex.quote(str(scratch))} /tmp", f"exec {shlex.join(inside)}"]
    with (scratch / "log").open("ab") as log:
        subprocess.run(
            [*ISOLATED, "bash", "-c", "\n".join(lines)], cwd=CHECKOUT, stdin=subprocess.DEVNULL, stderr=log, check=True
        )
    outcome: dict[str, Any] = json.loads((scratch / "outcome.json").read_text(encoding="utf-8"))
    return outcome


def rows_of(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each study."""
    rows = []
    for study in outcome["studies"]:
        steps = study["steps"]
        rows.append(
            {key: study[key] for key in ("study", "shape", "pace", "how")}
            | {
                "happened": " + ".join(step["act"] or "nothing" for step in steps),
                "exit_codes": " ".join(str(step["exit_code"]) for step in steps),
                "told": study["told"],
                "state": steps[-1]["state"] if steps else "",
                "records": study["records"],
                "wrong": "; ".join(study["wrong"]),
            }
        )
    return rows


def tables_of(outcome: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
    """The tables by their titles, and whether all is well."""
    rows, samples = rows_of(outcome), outcome["samples"]
    wrong = [(study["study"], line) for study in outcome["studies"] for line in study["wrong"]]
    kinds = Counter(line.partition(":")[0] for _, line in wrong)
    happened = Counter(step["act"] for study in outcome["studies"] for step in study["steps"] if step["act"])
    counted = {
        "users": len(USERS),
        "studies": len(rows),
        "drivers": sum(len(study["steps"]) for study in outcome["studies"]),
        "runs recorded": sum(row["records"] for row in rows),
        "seconds": round(outcome["seconds"]),
        "lost": kinds["lost"],
        "doubled": kinds["doubled"],
        "different": kinds["differs"] + kinds["more than the undisturbed study"],
        "studies not as told": len({name for name, _ in wrong}),
        "left behind": len(outcome["left"]),
    }
    events = {**outcome["events"], **happened}
    studies = [share for share in shares(samples) if share.compared]
    users = shares(samples, user_of)
    share_rows = [["of", "slot-seconds", "even", "share"]] + [
        [share.name, f"{share.held:.0f}", f"{share.even:.0f}", f"{share.ratio:.2f}"] for share in [*users, *studies]
    ]
    uneven = [share.name for share in [*users, *studies] if share.compared and not share.is_even]
    busy = f"{100 * use(samples):.0f} % of the slots were held meanwhile."
    made = made_words(options["seed"], options["studies"], options["minutes"])
    goal = f"1 is even; the goal is within {TOLERANCE:.0%}"
    tables = {
        f"{made}. {hardware_words(hardware())}.": markdown([list(counted), [str(one) for one in counted.values()]]),
        "What happened, to drivers and to the cluster.": markdown(
            [["event", "times"], *([name, str(events[name])] for name in sorted(events))]
        ),
        f"Shares of the slots while more were wanted than there are ({goal}), of users and of those of their studies "
        f"to which {LEAST_SECONDS:g} slot-seconds were due. Even is among users first, then among the studies of each. "
        f"{busy}": markdown(share_rows),
        "The studies.": markdown([list(rows[0])[:-1], *([str(one) for one in row.values()][:-1] for row in rows)]),
    }
    if wrong or outcome["left"]:
        found = [[name, line] for name, line in wrong] + [["", f"left behind: {line}"] for line in outcome["left"]]
        tables["What is wrong."] = markdown([["study", "fault"], *found])
    return tables, not (wrong or outcome["left"] or uneven)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="how long things happen (default: 20)")
    parser.add_argument("--studies", type=int, default=30, help="of all users together (default: 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the plan (default: 1)")
    parser.add_argument(
        "--patience",
        type=float,
        metavar="MINUTES",
        help="by then every study must have ended (default: twice the time)",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the results are written")
    parser.add_argument(
        "--scratch", type=Path, default=SCRATCH, metavar="DIR", help="where logs and studies stay (build/many_users)"
    )
    return parser.parse_args(words)


def main() -> None:
    """Carry it out and write the results."""
    given, started = parsed(), time.monotonic()
    missing = [tool for tool in ("setpriv", "unshare", "ip", "mount") if shutil.which(tool) is None]
    if missing or subprocess.run([*ISOLATED, "true"], capture_output=True).returncode != 0:
        raise SystemExit("error: needs namespaces of its own; accepted: root, with util-linux and iproute2")
    options = {"seed": given.seed, "studies": given.studies, "minutes": given.minutes}
    options["patience"] = given.patience or 2 * given.minutes
    scratch = given.scratch.resolve()
    if (scratch / OPTIONS).exists():
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True)
    os.chmod(scratch, 0o1777)
    outcome = in_sandbox(scratch, options)
    tables, well = tables_of(outcome, options)
    save("many_users", rows_of(outcome), {**stamp(started), **options, "hardware": hardware()}, tables, given.results)
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
