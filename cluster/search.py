"""``tune_bn search`` on the head of a Ray cluster: the one script that ``ray submit`` takes.

    ray submit cluster/config.yaml cluster/search.py -- --space resnet.yaml

It takes the options of ``tune_bn search``, runs the study as a Ray job on the cluster around it, shows its log, and
writes to ``~/studies`` of the head. The study goes on if the connection ends. Ray copies this file alone, so all else
comes from the ``tune_bn`` that the cluster's setup commands install.
"""

from __future__ import annotations

import sys

# Ray leaves this file in the home of the head, and Python looks for modules beside it first: a numpy.py or a random.py
# that somebody keeps there must not end a search.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where ``ray up`` leaves the cluster's configuration for the autoscaler on the head."""
SPOT_FAILURES = 20
"""Retries of a run where nodes come and go: one that goes without notice counts as a failure of its runs."""


def search_arguments(given: Sequence[str], bootstrap: Path, tracking_uri: str | None = None) -> list[str]:
    """The arguments of ``tune_bn``: what the cluster implies, then what was given, which wins."""
    given = given[1:] if given[:1] == ["--"] else given
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--address")
    parser.add_argument("--space")
    parser.add_argument("--set", action="append", default=[])
    try:
        options, _ = parser.parse_known_args(given)
    except argparse.ArgumentError:
        return ["search", "--job", *given]  # the search itself says which option lacks its value
    if options.address is not None:
        return ["search", *given]
    implied = _implied(options.space, options.set, bootstrap, tracking_uri)
    return ["search", "--job", *(word for setting in implied for word in ("--set", setting)), *given]


def _implied(space: str | None, overrides: list[str], bootstrap: Path, tracking_uri: str | None) -> list[str]:
    """Settings that follow from the cluster, unless the space has its own."""
    import yaml

    from tune_bn.cli import DEFAULT_SPACE
    from tune_bn.errors import TuneBNError
    from tune_bn.space.loading import load_space
    from tune_bn.space.locate import find_space

    try:
        loaded = load_space(find_space(space or DEFAULT_SPACE), overrides)
    except TuneBNError:
        return []  # the search itself says what is wrong, in full
    resources, settings = loaded.resources, []
    if loaded.tracking.uri is None and tracking_uri is not None:
        settings.append(f"tracking.uri={tracking_uri}")
    path = bootstrap.expanduser()
    if not path.is_file():
        return settings
    cluster = yaml.safe_load(path.read_text(encoding="utf-8"))
    price = cluster.get("provider", {}).get("price_per_device_hour")
    if price is not None and resources.price_per_device_hour is None and resources.gpu > 0:
        settings.append(f"resources.price_per_device_hour={price}")
    trials = _trials_at_full_size(cluster, resources.cpu, resources.gpu)
    if trials and not resources.model_fields_set & {"elastic", "max_concurrent"}:
        # A search begins before the autoscaler has brought a node.
        settings += ["resources.elastic=true", f"resources.max_concurrent={trials}"]
    if trials and "max_failures" not in loaded.budget.model_fields_set:
        settings.append(f"budget.max_failures={SPOT_FAILURES}")
    return settings


def _trials_at_full_size(cluster: dict[str, Any], cpu: float, gpu: float) -> int:
    """How many trials run at once when all the workers that the autoscaler may start are there."""
    fits: list[int] = []
    for name, kind in cluster.get("available_node_types", {}).items():
        if name != cluster["head_node_type"]:
            has = kind["resources"]
            rooms = [has.get(key, 0) / needed for key, needed in (("CPU", cpu), ("GPU", gpu)) if needed > 0]
            fits += [int(min(rooms) + 1e-9)] * kind["max_workers"]
    return sum(sorted(fits, reverse=True)[: cluster["max_workers"]])


def main() -> None:
    """Submit the search, follow it, and exit with its status."""
    try:
        from tune_bn.cli import main as tune_bn
        from tune_bn.service import tracking_uri
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "tune_bn":
            raise
        print(
            f"error: tune_bn is not installed for {sys.executable}; accepted: a head whose setup commands install it, "
            "as cluster/config.yaml does",
            file=sys.stderr,
        )
        sys.exit(2)
    # What the shell names counts before the server of the head.
    named = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    tune_bn(search_arguments(sys.argv[1:], BOOTSTRAP, None if named else tracking_uri()))


if __name__ == "__main__":
    main()
