"""Routing of TCP connections: TCPRoute, and TLSRoute by server name (SNI).

TLSRoutes are more specific: a connection goes to a TCPRoute only if no TLSRoute matches. A connection that matches no
rule is reset, which corresponds to a 404 response in HTTP.
https://gateway-api.sigs.k8s.io/reference/spec/#tlsroute
"""

from collections.abc import Iterable
from dataclasses import dataclass

from policies.route import Rule


@dataclass(frozen=True, slots=True)
class OpaqueRoute:
    """A rule for one host name.

    `hostname` is lower-case: a full name, `*.example.com` for one or more labels, or empty to match every connection
    that no name matches, with or without TLS.
    """

    hostname: str
    rule: Rule


class OpaqueTable:
    """Routes from oldest to newest. Of equal routes, the first one wins."""

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
        """Return the rule for a connection, or None. `server_name` is empty if the client sent no SNI."""
        name = server_name.lower().removesuffix(".")
        if (rule := self._exact.get(name)) is not None:
            return rule
        while "." in name:
            name = name.partition(".")[2]
            if (rule := self._suffixes.get(name)) is not None:
                return rule
        return self._exact.get("")
