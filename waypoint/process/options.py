"""What `waypoint run` is told on its command line, checked and typed. Timers and sizes are `l4.config.settings`."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class GatewayName:
    """The Gateway whose waypoint this process is."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class RunOptions:
    resources: tuple[Path, ...]
    gateway: GatewayName
    certificate: Path
    private_key: Path
    trust_bundle: Path
    listen: Address
    metrics: Address
    readiness: Address
    admin: Address
    access_log: str
    """A path, `-` for standard output, or empty for none."""
    record: str = ""
    """Where heads of requests are recorded; empty for nowhere."""
    revocations: Path | None = None
    """The certificates that count no more; None when nobody keeps such a list."""
    proxy_listen: Address | None = None
    """Where a ztunnel that ends the tunnels itself connects with the PROXY protocol; nowhere by default."""

    @property
    def own_ip(self) -> str | None:
        """The address to connect from: the one that we listen on, unless that is any."""
        host = self.listen[0]
        return None if ip_address(host).is_unspecified else host
