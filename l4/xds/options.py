"""Command-line options for a discovery server."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DiscoveryOptions:
    """A server at `address`, which is `host:port`, the roots of its certificate, and the token for it.

    `is_on_demand`: addresses are asked for when they are needed.
    """

    address: str
    root: Path
    token: Path
    is_on_demand: bool = False
