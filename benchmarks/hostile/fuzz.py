"""Strangers at the doors: files and command lines that are made to hurt, against the readers themselves.

    python -m benchmarks.hostile.fuzz [--inputs 100000] [--targets space cli …] [--seconds 1200] [--seed N]

Structured inputs come from Hypothesis: real files and command lines with some values exchanged. Where the package
``atheris`` is installed (``pip install atheris``), half of the inputs of each file format are bytes that it finds
by watching which branches they reach. An input is a finding where something else than an error of one line comes out,
where it takes longer than ten seconds, or where a file outside the study's folder is written. Exit status 1 where
there are findings; each is printed with its input.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.hostile.fuzz_limits import LIMIT, Hang, isolated, limited, tree
from benchmarks.hostile.fuzz_targets import NUMBERS, SCRAPS, TEXT, VALUES, WORDS, Draw, make_study, targets
from benchmarks.results import RESULTS, markdown, save, stamp

GUIDED = 0.5
"""Share of a file format's inputs that a coverage-guided search finds, where one is installed."""
COMMAND_LINE = "cli"
PICTURED = ("diagnostics.json", "diagnostics.md", "layers.png")
COMMAND_LINE_SHARE = 0.06


@dataclass
class Tally:
    """What became of the inputs of one target."""

    target: str
    kind: str
    inputs: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


def feed(
    name: str,
    strategy: st.SearchStrategy[Any],
    check: Callable[[Any], None],
    inputs: int,
    *,
    draw_seed: int,
    until: float,
) -> Tally:
    """Draw inputs and check each; go on after a finding.

    Args:
        name: of the target.
        strategy: draws inputs.
        check: raises where an input is a finding.
        inputs: how many.
        draw_seed: equal seeds draw equal inputs.
        until: ``time.monotonic()`` at which no further input is drawn.
    """
    tally, started = Tally(name, "structured"), time.monotonic()

    def one(value: Any) -> None:
        if time.monotonic() >= until:
            return
        tally.inputs += 1
        problem = problem_of(check, value)
        if problem is not None:
            tally.findings.append(f"{problem}\n    input: {value!r:.2000}")

    batch = 5_000
    for begin in range(0, inputs, batch):
        if time.monotonic() >= until:
            break
        # Hypothesis keeps what it drew, to draw nothing twice.
        drawn = settings(
            max_examples=min(batch, inputs - begin),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=False,
        )
        seed(draw_seed + begin)(drawn(given(strategy)(one)))()
    tally.seconds = time.monotonic() - started
    return tally


def problem_of(check: Callable[[Any], None], value: Any) -> str | None:
    """What is wrong with how an input was taken, in one line with the place; None where nothing is."""
    try:
        with limited(LIMIT), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(value)
    except Hang:
        return f"more than {LIMIT:.0f} s"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})"
    return None


def guided(name: str, inputs: int, seconds: float, folder: Path) -> Tally:
    """A coverage-guided search in a process of its own, which ends at its first finding; its files lie in `folder`."""
    tally, started = Tally(name, "guided"), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hostile.fuzz_guided", name, str(inputs), str(int(seconds))],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    counted = re.findall(r"^Done (\d+) (?:runs )?in ", done.stderr, re.MULTILINE)
    tally.inputs = int(counted[-1]) if counted else 0
    if done.returncode != 0 or not counted:
        tally.findings.append("\n".join([f"exit status {done.returncode}", *done.stderr.splitlines()[-40:]]))
    tally.seconds = time.monotonic() - started
    return tally


class CommandLine:
    """The verbs that start nothing, in this process, in a folder whose files are compared before and after.

    Args:
        folder: an empty folder; the command line runs in ``folder/work``, with a study beside things that it must
            leave alone.
    """

    def __init__(self, folder: Path) -> None:
        from tune_bn.cli import main

        self.main = main
        self.folder = folder
        self.work = folder / "work"
        make_study(self.work / "studies" / "small")
        (folder / "x").mkdir()
        (folder / "secret.yaml").write_text("name: secret\n", encoding="utf-8")
        (self.work / "studies" / "linked").symlink_to(folder / "x")
        (self.work / "table.csv").write_text("arm,seed,score\na,1,2\na,2,3\nb,1,3\nb,2,5\n", encoding="utf-8")
        (self.work / "bytes.pt").write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
        self.before = tree(folder)

    @property
    def inputs(self) -> st.SearchStrategy[list[str]]:
        """A verb with options and values, mostly of the right kind; or any words."""
        paths = st.sampled_from(_PATHS)
        word = paths | TEXT | WORDS | NUMBERS.map(str) | SCRAPS.map(lambda data: os.fsdecode(data[:200]))
        key = st.sampled_from(_KEYS)
        override = st.tuples(key, VALUES.map(_yaml) | word).map("=".join) | word
        verbs: dict[str, Sequence[tuple[str, st.SearchStrategy[str]]]] = {
            "validate": [("--space", paths), ("--set", override), ("--set", override), ("--set", override)],
            "verify": [("", paths), ("--output", paths), ("--json", st.just(""))],
            "verify --scores table.csv": [
                ("--baseline", word),
                ("--paired-by", word),
                ("--alpha", word),
                ("--json", word),
            ],
            "verify --scores table.csv --baseline a": [
                *((name, word) for name in ("--arm", "--seed", "--score", "--decimal")),
                *((name, word) for name in ("--goal", "--looks", "--accept")),
                *((name, NUMBERS.map(str)) for name in ("--threshold", "--folds")),
                ("--unpaired", st.just("")),
            ],
            "verify --baseline a": [("--scores", paths), ("--alpha", NUMBERS.map(str))],
            "status": [("", paths), ("--output", paths), ("--json", st.just(""))],
            "power": [(name, NUMBERS.map(str)) for name in ("--effect", "--std", "--rho", "--n", "--alpha", "--power")],
            "paper": [("", word | st.sampled_from(["table1a", "table2b"])), ("--json", st.just(""))],
            "inspect": [("", paths), ("--arm", word), ("--run", word), ("--output", paths)],
            "inspect --checkpoint bytes.pt": [("--space", paths), ("--gamma", NUMBERS.map(str)), ("--set", override)],
        }

        @st.composite
        def line(draw: Draw[Any]) -> list[str]:
            verb = draw(st.sampled_from(sorted(verbs)))
            words: list[str] = verb.split(" ")
            for option, values in verbs[verb]:
                if draw(st.booleans()):
                    value = draw(values)
                    words += [option] * bool(option) + [value] * (option != "--json")
            return words

        anything = st.lists(word, max_size=5).filter(lambda words: not words or words[0] not in _STARTING)
        drawn: st.SearchStrategy[list[str]] = st.one_of(line(), line(), line(), anything)
        return drawn

    def check(self, words: list[str]) -> None:
        """Run one command line."""
        said, complained = io.StringIO(), io.StringIO()
        former = Path.cwd()
        os.chdir(self.work)
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
                self.main(words)
        except SystemExit as ended:
            if ended.code not in (0, 1, 2, None):
                raise AssertionError(f"exit status {ended.code}") from None
        finally:
            os.chdir(former)
        if "Traceback" in complained.getvalue():
            raise AssertionError(f"a traceback on stderr: {complained.getvalue()[-500:]}")
        after = tree(self.folder)
        own = f"{self.work / 'studies' / 'small'}/"
        # A network that is no study's is shown in whatever folder was asked for.
        asked = PICTURED if words[:1] == ["inspect"] and "--output" in words else ()
        odd = [
            path
            for path in sorted({*self.before.items()} ^ {*after.items()})
            if not path[0].startswith(own) and Path(path[0]).name not in asked
        ]
        self.before = after
        if odd:
            raise AssertionError(f"files outside the study's folder: {[path for path, _ in odd]}")


_PATHS = [
    *("small", "studies/small", "./studies/small/", "../x", "../../x", "linked", "studies/linked", "/", ".", "..", ""),
    *("/dev/null", "/dev/zero", "/proc/self/mem", "table.csv", "bytes.pt", "../secret.yaml", "digits.yaml", "a\0b"),
    *("\ud800", "γ", "\u202e", "-", "--", "~", "$HOME", "*", "con", "small\n", "x" * 300, "studies/" + "x/" * 2000),
]
_KEYS = [
    *("name", "model.arch", "model.norm", "data.source", "data.root", "data.train_size", "train.lr", "train.epochs"),
    *("train.batch_size", "search", "search.gamma", "search.c", "seeds", "seeds.confirm", "seeds.select", "a.b.c"),
    *("budget.trials", "budget.hours", "claim.alpha", "claim.arms", "claim.across", "claim.stopping", "claim.looks"),
    *("sampler.points", "sampler.name", "resources.gpu", "tracking.uri"),
]
_STARTING = ("search", "confirm", "train", "ui", "reproduce", "head", "stop", "report")
"""Verbs that start processes or training; and the report, which draws for seconds and is fed by the other targets."""


def _yaml(value: Any) -> str:
    from tune_bn.space.file import dump_yaml

    return dump_yaml(value).strip()


def fuzz(inputs: int, chosen: Sequence[str], seconds: float, draw_seed: int, *, coverage: bool = True) -> list[Tally]:
    """Feed all chosen targets.

    Args:
        inputs: in all, were every target chosen.
        chosen: names of targets; empty: all.
        seconds: no further input is drawn after this time.
        draw_seed: equal seeds draw equal structured inputs.
        coverage: whether to search guided too, where atheris is installed.
    """
    until = time.monotonic() + seconds
    coverage = coverage and importlib.util.find_spec("atheris") is not None
    tallies = []
    with isolated() as folder:
        doors = targets(folder / "files", make_study(folder / "made" / "small"))
        for target in (one for one in doors if not chosen or one.name in chosen):
            count = round(inputs * target.share)
            found = round(count * GUIDED) if coverage else 0
            if found:
                tallies.append(guided(target.name, found, max(1.0, until - time.monotonic()), folder))
                _tell(tallies[-1])
            tallies.append(
                feed(target.name, target.inputs, target.check, count - found, draw_seed=draw_seed, until=until)
            )
            _tell(tallies[-1])
        if not chosen or COMMAND_LINE in chosen:
            line = CommandLine(folder / "line")
            count = round(inputs * COMMAND_LINE_SHARE)
            tallies.append(feed(COMMAND_LINE, line.inputs, line.check, count, draw_seed=draw_seed, until=until))
            _tell(tallies[-1])
    return tallies


def _tell(tally: Tally) -> None:
    print(f"{tally.target} ({tally.kind}): {tally.inputs} inputs, {tally.seconds:.0f} s", file=sys.stderr, flush=True)
    for finding in tally.findings[:20]:
        print(f"  FINDING {finding}", file=sys.stderr, flush=True)


def main() -> int:
    """Feed and print the table; exit status 1 where there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--targets", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=1200, help="for all of it (default: 1200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the results are written")
    given_options = parser.parse_args()
    started = time.monotonic()
    tallies = fuzz(given_options.inputs, given_options.targets, given_options.seconds, given_options.seed)
    rows = [
        {
            "target": tally.target,
            "kind": tally.kind,
            "inputs": tally.inputs,
            "seconds": round(tally.seconds, 1),
            "findings": len(tally.findings),
        }
        for tally in tallies
    ]
    lines = [list(rows[0])] + [[str(value) for value in row.values()] for row in rows]
    total = sum(tally.inputs for tally in tallies)
    save("fuzz", rows, stamp(started), {f"{total:,} inputs.": markdown(lines)}, given_options.results)
    return int(any(tally.findings for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
