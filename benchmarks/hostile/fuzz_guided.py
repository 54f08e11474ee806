"""One target of :mod:`benchmarks.hostile.fuzz` under atheris: bytes that reach branches which none before them reached.

    python -m benchmarks.hostile.fuzz_guided TARGET INPUTS SECONDS

Ends at the first finding, with its traceback and an exit status other than 0.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

from benchmarks.hostile.fuzz_limits import LIMIT, isolated


def main(name: str, inputs: int, seconds: int) -> None:
    """Search; it ends the process."""
    atheris: Any = importlib.import_module("atheris")
    # Before they are imported; to watch all of torch would take minutes.
    with atheris.instrument_imports(include=["tune_bn", "yaml"]):
        doors = importlib.import_module("benchmarks.hostile.fuzz_targets")
    warnings.simplefilter("ignore")
    with isolated() as folder:
        target = {one.name: one for one in doors.targets(folder / "files", doors.make_study(folder / "small"))}[name]
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, content in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(content)
        options = [f"-atheris_runs={inputs}", f"-max_total_time={seconds}", f"-timeout={LIMIT:.0f}"]
        options += ["-max_len=8192", "-rss_limit_mb=4096", f"-artifact_prefix={folder}/"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], target.check)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
