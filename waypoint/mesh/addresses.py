"""Loopback addresses of the laptop mesh. All of 127.0.0.0/8 is available without root.

| block | used for |
|---|---|
| 127.64.0.0/16 | pods, waypoints and the ztunnel, each with the standard ports on its own address |
| 127.96.0.0/16 | Services without a `clusterIP` |
| 127.128.0.0/16 … 127.254.0.0/16 | one block per pod: the Services as this pod sees them |

A pod reaches a Service at the pod's block plus the low 16 bits of the Service's address. The ztunnel thus knows whose
connection it accepts, and whose identity to use, although all programs share one network.

Addresses are stable while the mesh runs, even if their owner disappears and returns, because connection pools or
browsers may remember them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_address
from itertools import chain
from typing import Self

PODS = IPv4Network("127.64.0.0/16")
SERVICES = IPv4Network("127.96.0.0/16")
VIEWS = range(128, 255)

_LOW_BITS = 0xFFFF


class AddressesExhausted(Exception):
    """A block has no free address. The message says for what."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Assigned addresses: `services` and `pods` map names to addresses, `views` to blocks."""

    services: Mapping[str, str] = field(default_factory=dict)
    pods: Mapping[str, str] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)

    def including(
        self, *, services: Iterable[str], taken: Iterable[str], pods: Iterable[str], views: Iterable[str]
    ) -> Self:
        """Return these addresses plus new ones for names without an address.

        `taken` are addresses that Services set themselves. A pod's block maps only the low 16 bits, so no other Service
        may have the same. Raises AddressesExhausted.
        """
        used = {low_bits(address) for address in chain(taken, self.services.values())}
        free = (str(address) for address in SERVICES.hosts() if low_bits(str(address)) not in used)
        return type(self)(
            services=_assign(self.services, services, free, "Services"),
            pods=_assign(self.pods, pods, _unused(map(str, PODS.hosts()), self.pods), "pods"),
            views=_assign(self.views, views, _unused(map("127.{}.0.0/16".format, VIEWS), self.views), "replicas"),
        )


def in_view(view: str, address: str) -> str:
    """Return the address at which the pod with this block reaches a Service's address."""
    block = IPv4Network(view)
    return str(block.network_address + low_bits(address))


def low_bits(address: str) -> int:
    return int(ip_address(address)) & _LOW_BITS


def _unused(candidates: Iterable[str], earlier: Mapping[str, str]) -> Iterator[str]:
    used = set(earlier.values())
    return (candidate for candidate in candidates if candidate not in used)


def _assign(earlier: Mapping[str, str], names: Iterable[str], free: Iterator[str], what: str) -> Mapping[str, str]:
    assigned = dict(earlier)
    for name in names:
        if name not in assigned:
            try:
                assigned[name] = next(free)
            except StopIteration:
                raise AddressesExhausted(
                    f"no address is left for {name}: the laptop mesh has room for {len(assigned)} {what}"
                ) from None
    return assigned
