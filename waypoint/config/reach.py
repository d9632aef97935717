"""The clients to which an object applies, the same for all kinds that attach to a host.

Objects in the service's namespace, or in that of its waypoint, apply to all clients: their authors own the service or
operate the waypoint. An object in any other namespace is a consumer's: it applies to clients of that namespace, by
identity, or to nobody if its kind does not distinguish clients.
https://gateway-api.sigs.k8s.io/geps/gep-1426/
"""

from collections.abc import Collection
from dataclasses import dataclass

from l4.discovery.workload import Service


@dataclass(frozen=True, slots=True)
class Reach:
    """`waypoint` is the namespace of the waypoint."""

    waypoint: str

    def consumer(self, namespace: str, service: Service) -> str | None:
        """Return the namespace whose clients an object in `namespace` is limited to, or None for all clients."""
        return None if namespace in {self.waypoint, service.namespace} else namespace

    def sees(self, namespace: str, export_to: Collection[str], audience: str | None) -> bool:
        """Whether an object in `namespace` is exported to the clients of `audience`.

        An object for all clients (`audience` None) must be exported to the waypoint's namespace.
        """
        wanted = self.waypoint if audience is None else audience
        return not export_to or bool({"*", wanted, "." if namespace == wanted else "*"} & set(export_to))
