"""Tests. `l4` makes gRPC's settings, before any test imports gRPC."""

import l4  # noqa: F401
