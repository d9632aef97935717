"""Command-line options of `waypoint run`. Timers and sizes are settings."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from l4.identity.options import AuthorityOptions, CertificateFiles
from l4.kubernetes.options import KubernetesOptions
from l4.xds.options import DiscoveryOptions

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class GatewayName:
    """The Gateway that this process serves."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class RunOptions:
    resources: tuple[Path, ...] | KubernetesOptions
    gateway: GatewayName
    certificate: CertificateFiles | AuthorityOptions
    listen: Address
    metrics: Address
    readiness: Address
    admin: Address
    access_log: str
    """A path, `-` for standard output, or empty for none."""
    record: str = ""
    """File for recorded request heads, or empty for none."""
    revocations: Path | None = None
    """File of revocation lists, or None."""
    proxy_listen: Address | None = None
    """Address for a ztunnel with the PROXY protocol, or None."""
    discovery: DiscoveryOptions | None = None
    """The server that sends the workloads, or None if they are among the objects."""
    workers: int = 1
    """Processes that carry requests. One is the process itself."""

    @property
    def is_followed_once(self) -> bool:
        """Whether the supervisor of several workers follows the objects for all of them: those of an API server. Each
        worker reads files itself."""
        return isinstance(self.resources, KubernetesOptions)

    @property
    def own_ip(self) -> str | None:
        """The listening address, unless it is unspecified."""
        host = self.listen[0]
        return None if ip_address(host).is_unspecified else host

    def source_ip(self, instance_ip: str) -> str | None:
        """Source address of outgoing connections: the listening address, or None for what the system chooses.

        In a pod, whose address is `instance_ip`, the system chooses: behind another ztunnel, a waypoint listens on
        loopback, from where nobody is reachable.
        """
        return None if instance_ip else self.own_ip
