"""Something for each of many networks, found by an address that is in one: the longest prefix wins."""

import ipaddress
from collections.abc import Iterable
from typing import Generic, TypeVar

from l4.discovery.objects import is_ip

T = TypeVar("T")


class Networks(Generic[T]):
    """Of two that are the same network, the first counts. Finding takes a look for each length of prefix."""

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
        """None also for what is no address."""
        return self.around(ip) if self._by_prefix and is_ip(ip) else None

    def around(self, text: str) -> T | None:
        """Of the smallest network in which a network, or an address, lies whole."""
        network = ipaddress.ip_network(text, strict=False)
        number, length = int(network.network_address), network.max_prefixlen - network.prefixlen
        for (version, shift), values in self._by_prefix:
            if version == network.version and shift >= length and (found := values.get(number >> shift)) is not None:
                return found
        return None
