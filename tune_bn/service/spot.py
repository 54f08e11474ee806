"""Amazon's spot instances where there are any, and instances at the full price where there are none.

    provider: {type: external, module: tune_bn.service.spot.SpotFirstProvider, region: …}

Of two node types with the same resources Ray's autoscaler asks for the same one again after a failed launch: v1 orders
them by name, and v2 lowers the availability of a type only where a node was granted and then did not start. So the
choice is made here, below the autoscaler, within one node type.
"""

from __future__ import annotations

from typing import Any

from ray.autoscaler.node_launch_exception import NodeLaunchException

from tune_bn.runners.ray.compat import amazon_provider

MARKET = "InstanceMarketOptions"


class SpotFirstProvider(amazon_provider()):  # type: ignore[misc]
    """Ray's provider for AWS; where no zone has a spot instance to give, it asks each of them for an ordinary one."""

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Launch ``count`` nodes, or as many as there are.

        Raises:
            NodeLaunchException: no zone has one at any price, or the request itself is wrong.
        """
        try:
            created: dict[str, Any] = super().create_node(node_config, tags, count)
        except NodeLaunchException:
            if MARKET not in node_config:
                raise
            at_full_price = {key: value for key, value in node_config.items() if key != MARKET}
            created = super().create_node(at_full_price, tags, count)
        return created
