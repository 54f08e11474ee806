"""``python -m tune_bn.analysis FOLDER``, or ``BUNDLE.zip``: the verdict on a study, where only numpy and scipy are.

The same as ``tune_bn verify``, which needs the command line's libraries. Writes nothing. Exit status 1 for an invalid
verdict, 2 where there is nothing to verify.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tune_bn.analysis.bundles import verify_bundle
from tune_bn.analysis.verdict import verdict_on_study
from tune_bn.errors import TuneBNError
from tune_bn.host.process import exit_status, open_standard_streams
from tune_bn.records.bundle import is_bundle


def main(arguments: list[str]) -> int:
    """Print the verdict; return the exit status."""
    if len(arguments) != 1:
        print("usage: python -m tune_bn.analysis FOLDER|BUNDLE.zip", file=sys.stderr)
        return 2
    try:
        path = Path(arguments[0])
        verdict = verify_bundle(path) if is_bundle(path) else verdict_on_study(path)
    except TuneBNError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(verdict.to_json(), indent=2, ensure_ascii=False))
    return int(verdict.is_invalid)


if __name__ == "__main__":
    open_standard_streams()
    sys.exit(exit_status(main(sys.argv[1:])))
