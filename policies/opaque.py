"""Which rule takes a connection that is not looked into: TCPRoute, and TLSRoute by the server name that is asked for.

A TLSRoute is the more specific one: where any is attached, it is asked first, and the TCPRoute takes what is left. A
connection that no rule takes is reset, as a request that no rule matches is answered with 404.
https://gateway-api.sigs.k8s.io/reference/spec/#tlsroute
"""

from collections.abc import Iterable
from dataclasses import dataclass

from policies.route import Rule


@dataclass(frozen=True, slots=True)
class OpaqueRoute:
    """`hostname` is lower-case: a whole name, `*.example.com` for one or more labels before it, or empty for what no
    name takes, be it TLS or not."""

    hostname: str
    rule: Rule


class OpaqueTable:
    """Routes in their order of age: of equals, the one that came first wins."""

    __slots__ = ("_exact", "_suffixes", "routes")

    def __init__(self, routes: Iterable[OpaqueRoute] = ()) -> None:
        self.routes = tuple(routes)
        self._exact: dict[str, Rule] = {}
        self._suffixes: dict[str, Rule] = {}
        for route in self.routes:
            star, _, suffix = route.hostname.partition(".")
            if star == "*":
                self._suffixes.setdefault(suffix, route.rule)
            else:
                self._exact.setdefault(route.hostname, route.rule)

    def __repr__(self) -> str:
        return f"OpaqueTable({self.routes!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpaqueTable) and self.routes == other.routes

    def __hash__(self) -> int:
        return hash(self.routes)

    @property
    def needs_server_name(self) -> bool:
        return any(route.hostname for route in self.routes)

    def find(self, server_name: str) -> Rule | None:
        """The rule for a connection; `server_name` is empty when its client named none."""
        name = server_name.lower().removesuffix(".")
        if (rule := self._exact.get(name)) is not None:
            return rule
        while "." in name:
            name = name.partition(".")[2]
            if (rule := self._suffixes.get(name)) is not None:
                return rule
        return self._exact.get("")
