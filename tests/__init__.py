"""Tests. `l4` is imported first, because it sets what gRPC reads when a test imports it."""

import l4  # noqa: F401
