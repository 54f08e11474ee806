"""What runs beside the studies on the head of a cluster."""

from __future__ import annotations


def tracking_uri() -> str | None:
    """The URI of this user's running MLflow server on the head; None where there is none."""
    from tune_bn.service import head

    return head.tracking_uri()
