"""Moments as the files of a study have them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """This second, in UTC and ISO 8601, such as ``2026-01-31T12:00:00+00:00``."""
    return datetime.now(UTC).isoformat(timespec="seconds")
