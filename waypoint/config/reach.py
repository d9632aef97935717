"""For whose requests to a service an object may speak: one rule for every kind that attaches to a host.

Whoever writes to the service's own namespace, or to that of the waypoint before it, speaks for every client: the first
owns the service, the second runs the waypoint. An object of any other namespace is a consumer's: it speaks for the
clients of that namespace, by their identity, or for nobody where its kind knows no clients.
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
        """The namespace for whose clients alone an object of `namespace` speaks; None: for everybody."""
        return None if namespace in {self.waypoint, service.namespace} else namespace

    def sees(self, namespace: str, export_to: Collection[str], audience: str | None) -> bool:
        """Whether an object of `namespace` is exported to the clients of `audience`; what is for everybody must be
        exported to the waypoint's namespace."""
        wanted = self.waypoint if audience is None else audience
        return not export_to or bool({"*", wanted, "." if namespace == wanted else "*"} & set(export_to))
