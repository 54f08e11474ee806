"""``tune_bn search`` on the head of a Ray cluster: the one script that ``ray submit`` takes.

    ray submit cluster/config.yaml cluster/search.py -- --space resnet.yaml

It takes the options of ``tune_bn search``, runs on the cluster around it (``--address auto``) and writes to
``~/studies`` of the head. Ray copies this file alone, so all else comes from the ``tune_bn`` that the cluster's setup
commands install.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where ``ray up`` leaves the cluster's configuration for the autoscaler on the head."""


def search_arguments(given: Sequence[str], bootstrap: Path) -> list[str]:
    """The arguments of ``tune_bn``: what the cluster implies, then what was given, which wins."""
    given = given[1:] if given[:1] == ["--"] else given
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--address")
    parser.add_argument("--space")
    parser.add_argument("--set", action="append", default=[])
    options, _ = parser.parse_known_args(given)
    if options.address is not None:
        return ["search", *given]
    return ["search", "--address", "auto", *_growth(options.space, options.set, bootstrap), *given]


def _growth(space: str | None, overrides: list[str], bootstrap: Path) -> list[str]:
    """Options with which a search begins before the autoscaler has brought a node, unless the space has its own."""
    import yaml

    from tune_bn.cli import DEFAULT_SPACE
    from tune_bn.errors import TuneBNError
    from tune_bn.spaces import find_space
    from tune_bn.spec import load_space

    path = bootstrap.expanduser()
    if not path.is_file():
        return []
    try:
        resources = load_space(find_space(space or DEFAULT_SPACE), overrides).resources
    except TuneBNError:
        return []  # the search itself says what is wrong, in full
    if resources.model_fields_set & {"elastic", "max_concurrent"}:
        return []
    trials = _trials_at_full_size(yaml.safe_load(path.read_text(encoding="utf-8")), resources.cpu, resources.gpu)
    if trials == 0:
        return []
    return ["--set", "resources.elastic=true", "--set", f"resources.max_concurrent={trials}"]


def _trials_at_full_size(cluster: dict[str, Any], cpu: float, gpu: float) -> int:
    """How many trials run at once when all the workers that the autoscaler may start are there."""
    fits: list[int] = []
    for name, kind in cluster["available_node_types"].items():
        if name != cluster["head_node_type"]:
            has = kind["resources"]
            rooms = [has.get(key, 0) / needed for key, needed in (("CPU", cpu), ("GPU", gpu)) if needed > 0]
            fits += [int(min(rooms) + 1e-9)] * kind["max_workers"]
    return sum(sorted(fits, reverse=True)[: cluster["max_workers"]])


def _hung_up(*_: object) -> None:
    """A lost connection ends the search as Ctrl-C does, so that it can be resumed."""
    # The shell passes on what it gets, so the signal may come twice; a second Ctrl-C would be less clean.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)


def main() -> None:
    """Run the search and exit with its status."""
    try:
        from tune_bn.cli import main as tune_bn
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "tune_bn":
            raise
        print(
            f"error: tune_bn is not installed for {sys.executable}; accepted: a head whose setup commands install it, "
            "as cluster/config.yaml does",
            file=sys.stderr,
        )
        sys.exit(2)
    signal.signal(signal.SIGHUP, _hung_up)
    tune_bn(search_arguments(sys.argv[1:], BOOTSTRAP))


if __name__ == "__main__":
    main()
