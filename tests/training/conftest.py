"""A test of the loop decodes into a folder of its own too."""

from tests.data.conftest import cache  # noqa: F401
