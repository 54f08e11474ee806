"""A cloud's notice that it will take this node away, passed on to Ray: the node is drained, its runs go on elsewhere.

    python -m tune_bn.service.preemption amazon|google

runs beside a worker's raylet and ends with it. Ray asks no cloud itself; a node that vanishes undrained counts as a
failure of its runs.
"""

from __future__ import annotations

import argparse
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from tune_bn.runners.ray import compat

POLL_SECONDS = 3.0
AMAZON = "http://169.254.169.254"
GOOGLE = "http://metadata.google.internal"

# The metadata service of the host itself: a proxy would answer for its own.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _ask(url: str, method: str = "GET", **headers: str) -> str:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with _opener.open(urllib.request.Request(url, headers=names, method=method), timeout=2) as answer:
        return str(answer.read().decode())


def amazon_takes_it(base: str = AMAZON) -> bool:
    """Whether Amazon has announced that it takes this spot instance away; that answer is 404 until then."""
    token = _ask(f"{base}/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
    try:
        _ask(f"{base}/latest/meta-data/spot/instance-action", X_aws_ec2_metadata_token=token)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return False
    return True


def google_takes_it(base: str = GOOGLE) -> bool:
    """Whether Google has announced that it takes this spot instance away."""
    return _ask(f"{base}/computeMetadata/v1/instance/preempted", Metadata_Flavor="Google").strip() == "TRUE"


CLOUDS: dict[str, tuple[Callable[[], bool], int]] = {"amazon": (amazon_takes_it, 120), "google": (google_takes_it, 30)}
"""For each cloud its question, and the seconds that it leaves between notice and end."""


def drain(node_ids: set[str], seconds: int) -> None:
    """Tell the cluster of this machine that these nodes end in ``seconds``."""
    client = compat.GcsClient(address=compat.head_address())
    deadline = (time.time_ns() // 1_000_000) + 1000 * seconds
    for node_id in sorted(node_ids):
        accepted, message = client.drain_node(node_id, compat.preemption(), "the cloud takes the node away", deadline)
        print(f"drained {node_id}" if accepted else f"not drained: {message}", flush=True)


def watch(takes_it: Callable[[], bool], seconds: int, *, poll_seconds: float = POLL_SECONDS) -> None:
    """Wait for the notice and drain the nodes of this machine; ends without one when they are gone."""
    nodes = compat.node_ids()
    while nodes & compat.node_ids():
        try:
            noticed = takes_it()
        except (OSError, ValueError) as error:
            print(f"no answer about this node: {error}", flush=True)
            noticed = False
        if noticed:
            drain(nodes, seconds)
            return
        time.sleep(poll_seconds)


def main() -> None:
    """Watch over the nodes of this machine."""
    parser = argparse.ArgumentParser(prog="python -m tune_bn.service.preemption", description="drain a node in time")
    parser.add_argument("cloud", choices=sorted(CLOUDS))
    watch(*CLOUDS[parser.parse_args().cloud])


if __name__ == "__main__":
    main()
