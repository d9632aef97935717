"""Capture inside pods: connections that rules in a pod's network namespace redirect to fixed ports there.

All sockets of such a pod, listening and connecting, are opened in its namespace. Its agent announces which pods they
are, and hands over the namespaces.
"""

from collections.abc import Callable

from l4.discovery.capture import Address
from l4.discovery.registry import Registry
from l4.discovery.workload import Workload
from l4.net.network import Network
from l4.node.zds import Add
from l4.ztunnel.capture import Captured
from l4.ztunnel.outbound import HBONE_PORT, INBOUND_PORT, OUTBOUND_PORT


class InPod:
    """The network namespace of one pod."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InPod) and self.network == other.network

    def __hash__(self) -> int:
        return hash(self.network)

    def tunnel_addresses(self, pod: Workload) -> list[Address]:
        return [(ip, HBONE_PORT) for ip in _wildcards(pod)]

    def captured(self, registry: Registry, pod: Workload) -> dict[Address, Captured]:
        inbound = {(ip, INBOUND_PORT): Captured(is_inbound=True) for ip in _wildcards(pod)}
        return inbound | {(ip, OUTBOUND_PORT): Captured(is_inbound=False) for ip in _wildcards(pod)}


class InPods:
    """The pods that the agent has announced, which are the only ones served.

    `update` is called after a change, and `is_served` tells whether a pod of this name is served.
    """

    def __init__(self, update: Callable[[], None], is_served: Callable[[str, str], bool]) -> None:
        self._update = update
        self._is_served = is_served
        self._announced: dict[str, tuple[Add, InPod]] = {}
        self._by_name: dict[tuple[str, str], str] = {}

    def place_of(self, registry: Registry, pod: Workload) -> InPod | None:
        uid = self._by_name.get((pod.namespace, pod.name))
        if uid is None:
            return None
        announced, place = self._announced[uid]
        return place if announced.account == pod.identity.service_account else None

    def add(self, announced: Add, network: Network) -> str:
        known = self._announced.get(announced.uid)
        if known is not None and known == (announced, InPod(network)):
            network.close()
        else:
            self._forget(announced.uid)
            self._announced[announced.uid] = announced, InPod(network)
            self._by_name[announced.namespace, announced.name] = announced.uid
        self._update()
        return "" if self._is_served(announced.namespace, announced.name) else _missing(announced)

    def remove(self, uid: str) -> None:
        if uid in self._announced:
            self._forget(uid)
            self._update()

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Namespaces and names of the announced pods."""
        return tuple(self._by_name)

    def uids(self) -> set[str]:
        return set(self._announced)

    def lack(self) -> str:
        missing = [it for it, _ in self._announced.values() if not self._is_served(it.namespace, it.name)]
        return "; ".join(map(_missing, missing[:3])) + (f"; and {len(missing) - 3} others" if len(missing) > 3 else "")

    def _forget(self, uid: str) -> None:
        found = self._announced.pop(uid, None)
        if found is None:
            return
        announced, place = found
        if self._by_name.get((announced.namespace, announced.name)) == uid:
            del self._by_name[announced.namespace, announced.name]
        place.network.close()


def _missing(announced: Add) -> str:
    return f"pod {announced.namespace}/{announced.name} is not served yet: its Pod object or its certificate is missing"


def _wildcards(pod: Workload) -> list[str]:
    """Return the wildcard addresses of the pod's families."""
    return sorted({"::" if ":" in address else "0.0.0.0" for address in pod.addresses})  # noqa: S104 (inside the pod)
