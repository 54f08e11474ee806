import os
import sys
from contextlib import suppress

# `python -m` looks for modules in the current folder first, where a numpy.py of the user's may be. A folder that is no
# longer there is told of by main.
with suppress(OSError):
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
        sys.path.append(sys.path.pop(0))


def main() -> None:
    """Entry point. Loading the verbs takes a moment, in which Ctrl-C is no error either."""
    try:
        from tune_bn.host.collector import QuickEnd, collect_seldom

        collect_seldom()
        end = QuickEnd()
        from tune_bn.cli import main as run

        try:
            run()
        except SystemExit as asked:
            end.status = asked.code if isinstance(asked.code, int) else None
            raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        # Whatever else is being loaded is not worth its traceback.
        os._exit(130)


if __name__ == "__main__":
    main()
