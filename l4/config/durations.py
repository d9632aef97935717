"""Durations in APIs: the Gateway API's format (GEP-2257), and Go's, which Istio and settings use."""

import re
from typing import Annotated

from msgspec import Meta

_GO = r"(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|h|m|s))+)"
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|h|m|s)").findall
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}

Duration = Annotated[
    str,
    Meta(
        max_length=28,
        pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}\Z",
        description="a duration such as 10s, 500ms or 1m30s",
    ),
]
"""GEP-2257. Every such duration is valid in Go's format too."""
GoDuration = Annotated[
    str,
    Meta(
        max_length=64,
        pattern=rf"^{_GO}\Z",
        description="a duration such as 10s, 500ms or 1h30m",
    ),
]


is_duration = re.compile(_GO).fullmatch
"""Whether a text is a duration in Go's format."""


def seconds_of(text: str | None) -> float | None:
    """Return a duration of either format in seconds.

    None if it is absent or zero, which means "not set" or "no limit".
    """
    return sum(float(number) * _SECONDS[unit] for number, unit in _PARTS(text or "")) or None
