"""Map of networks to values, searched by address. The longest prefix wins."""

import ipaddress
from collections.abc import Iterable
from typing import Generic, TypeVar

from l4.discovery.objects import is_ip

T = TypeVar("T")


class Networks(Generic[T]):
    """Of two equal networks, the first one counts. A search takes one lookup per prefix length."""

    __slots__ = ("_by_prefix",)

    def __init__(self, networks: Iterable[tuple[str, T]] = ()) -> None:
        self._by_prefix: list[tuple[tuple[int, int], dict[int, T]]] = []
        for text, value in networks:
            self.add(text, value)

    def add(self, text: str, value: T) -> None:
        network = ipaddress.ip_network(text, strict=False)
        length = network.version, network.max_prefixlen - network.prefixlen
        values = next((its for known, its in self._by_prefix if known == length), None)
        if values is None:
            values = {}
            self._by_prefix.append((length, values))
            self._by_prefix.sort(key=lambda it: it[0][1])
        values.setdefault(int(network.network_address) >> length[1], value)

    def __bool__(self) -> bool:
        return bool(self._by_prefix)

    def find(self, ip: str) -> T | None:
        """Return the value for an address. None if there is none, or if `ip` is not an address."""
        return self.around(ip) if self._by_prefix and is_ip(ip) else None

    def around(self, text: str) -> T | None:
        """Return the value of the smallest network that contains a whole network or address."""
        network = ipaddress.ip_network(text, strict=False)
        number, length = int(network.network_address), network.max_prefixlen - network.prefixlen
        for (version, shift), values in self._by_prefix:
            if version == network.version and shift >= length and (found := values.get(number >> shift)) is not None:
                return found
        return None
