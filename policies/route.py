"""Find the rule that applies to a request, by the Gateway API's precedence.

A table is built once per configuration. Lookup time does not depend on the number of rules: exact paths take one
dictionary lookup, prefixes one per path segment. Only regular expressions are tried one after the other.
https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from policies.attributes import ClusterName, Peer, RequestHead
from policies.balancing import weighted
from policies.filters import NO_FILTERS, Filters
from policies.matching import Regex, StringMatch
from policies.path_match import ANY_PATH, PathKind, PathMatch
from policies.query import parse_query
from policies.retry import RetryPolicy
from policies.timeout import NO_TIMEOUTS, Timeouts


@dataclass(frozen=True, slots=True)
class FieldMatch:
    """A header (lower-case name) or query parameter that must be present with a matching value.

    The header `host` is the request's authority, whatever its name on the wire. HTTP/2 pseudo headers can be matched
    too.
    """

    name: bytes
    match: StringMatch

    def value_in(self, head: RequestHead) -> bytes | None:
        """Return the header's value, or None."""
        name = self.name
        if name == b"host" or name == b":authority":
            return head.authority
        if name == b":method":
            return head.method
        if name == b":path":
            return head.target
        return b"http" if name == b":scheme" else head.get(name)

    def forbids(self, head: RequestHead) -> bool:
        """For `withoutHeaders`: whether the header has a value that it must not have.

        For a regular expression, a missing header counts as empty, as in Istio.
        """
        value = self.value_in(head)
        if value is None:
            return isinstance(self.match, Regex) and self.match.accepts(b"")
        return self.match.accepts(value)


@dataclass(frozen=True, slots=True)
class SourceMatch:
    """Match the client's namespace (from its identity) and address. None matches any."""

    namespace: str | None = None
    ips: frozenset[str] | None = None

    def accepts(self, peer: Peer) -> bool:
        if self.namespace is not None and (peer.identity is None or peer.identity.namespace != self.namespace):
            return False
        return self.ips is None or peer.ip in self.ips


@dataclass(frozen=True, slots=True)
class Match:
    """A match of a route. All parts must hold.

    Of a repeated header or parameter, the first value counts. None of the `without` fields may match.
    """

    path: PathMatch = ANY_PATH
    method: bytes | None = None
    headers: tuple[FieldMatch, ...] = ()
    query: tuple[FieldMatch, ...] = ()
    without: tuple[FieldMatch, ...] = ()
    source: SourceMatch | None = None
    has_conditions: bool = field(init=False, repr=False, compare=False)
    """Whether anything but the path is matched."""

    def __post_init__(self) -> None:
        has_conditions = bool(self.method or self.headers or self.query or self.without)
        object.__setattr__(self, "has_conditions", has_conditions)

    def accepts_rest(self, head: RequestHead) -> bool:
        """Whether everything but the path matches."""
        if self.method is not None and head.method != self.method:
            return False
        for it in self.headers:
            value = it.value_in(head)
            if value is None or not it.match.accepts(value):
                return False
        for it in self.without:
            if it.forbids(head):
                return False
        return not self.query or self._accepts_query(parse_query(head.query))

    def _accepts_query(self, parameters: dict[bytes, bytes]) -> bool:
        for it in self.query:
            value = parameters.get(it.name)
            if value is None or not it.match.accepts(value):
                return False
        return True


@dataclass(frozen=True, slots=True)
class WeightedBackend:
    """A backend with its weight. `cluster` is None if the reference cannot be resolved.

    Requests for an unresolved backend are answered with `missing_status`: 500, or 503 for Istio's API.
    """

    cluster: ClusterName | None
    weight: int = 1
    filters: Filters = NO_FILTERS
    missing_status: int = 500


@dataclass(frozen=True, slots=True)
class RuleSource:
    """The object that a rule comes from. `index` counts from 0 in the list named `section`."""

    kind: str
    namespace: str
    name: str
    index: int
    section: str = "rules"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name} {self.section}[{self.index}]"


@dataclass(frozen=True, slots=True)
class Rule:
    """How to handle matching requests. `name` is ROUTE_NAME in logs. Default routes have no source."""

    name: str
    backends: tuple[WeightedBackend, ...]
    filters: Filters = NO_FILTERS
    timeouts: Timeouts = NO_TIMEOUTS
    retry: RetryPolicy | None = None
    source: RuleSource | None = None
    only: WeightedBackend | None = field(init=False, repr=False, compare=False)
    """The backend, if it is the only one and gets requests. No chance is needed then."""

    def __post_init__(self) -> None:
        is_sure = len(self.backends) == 1 and self.backends[0].weight > 0
        object.__setattr__(self, "only", self.backends[0] if is_sure else None)

    @property
    def scope(self) -> str:
        """A unique name of this rule, stable while the rule keeps its position."""
        return self.name if self.source is None else str(self.source)

    def pick(self, roll: float) -> WeightedBackend | None:
        """Pick a backend by weight; `roll` is in [0, 1). None if there is no backend with a positive weight."""
        backends = self.backends
        return self.only or weighted.pick(backends, [backend.weight for backend in backends], roll)


@dataclass(frozen=True, slots=True)
class Route:
    """One match of one rule."""

    match: Match
    rule: Rule


def precedence(match: Match) -> tuple[int, int, int, int, int]:
    """Sort key, smallest first: path kind, longer path, method, more headers, more query parameters."""
    path = match.path
    return (path.kind, -len(path.value), match.method is None, -len(match.headers), -len(match.query))


class RouteTable:
    """Routes from oldest to newest. Of routes with equal precedence, the first one wins."""

    __slots__ = ("_always", "_exact", "_longest_prefix", "_prefixes", "_regexes", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(sorted(routes, key=lambda route: precedence(route.match)))
        exact: dict[bytes, list[Route]] = {}
        prefixes: dict[bytes, list[Route]] = {}
        for route in self.routes:
            path = route.match.path
            if path.kind is PathKind.EXACT:
                exact.setdefault(path.value, []).append(route)
            elif path.kind is PathKind.PREFIX:
                prefixes.setdefault(path.prefix, []).append(route)
        self._exact = exact
        self._prefixes = prefixes
        self._regexes = [route for route in self.routes if route.match.path.kind is PathKind.REGEX]
        self._longest_prefix = max(map(len, prefixes), default=-1)
        first = self.routes[0] if self.routes else None
        self._always = first.rule if first is not None and first.match == Match() else None

    def __repr__(self) -> str:
        return f"RouteTable({self.routes!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RouteTable) and self.routes == other.routes

    def __hash__(self) -> int:
        return hash(self.routes)

    def find(self, head: RequestHead, peer: Peer | None = None) -> Rule | None:
        """Return the rule of the strongest match, or None. `peer` is ignored."""
        if self._always is not None:
            return self._always
        path = head.path
        if self._exact and (routes := self._exact.get(path)) and (rule := _first(routes, head)):
            return rule
        if self._longest_prefix >= 0 and (rule := self._by_prefix(path, head)):
            return rule
        for route in self._regexes:
            regex = route.match.path.regex
            if regex is not None and regex.accepts(path) and route.match.accepts_rest(head):
                return route.rule
        return None

    def _by_prefix(self, path: bytes, head: RequestHead) -> Rule | None:
        """Try the longest prefix first: the path itself, then each of its parents."""
        candidate = path
        if len(path) > self._longest_prefix:
            candidate = path[: max(path.rfind(b"/", 0, self._longest_prefix + 1), 0)]
        while True:
            routes = self._prefixes.get(candidate)
            if routes and (rule := _first(routes, head)):
                return rule
            if not candidate:
                return None
            candidate = candidate[: max(candidate.rfind(b"/"), 0)]


class OrderedTable:
    """Routes in the order of the configuration. The first match wins, as in a VirtualService."""

    __slots__ = ("routes",)

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)

    def __repr__(self) -> str:
        return f"OrderedTable({self.routes!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderedTable) and self.routes == other.routes

    def __hash__(self) -> int:
        return hash(self.routes)

    def find(self, head: RequestHead, peer: Peer | None = None) -> Rule | None:
        for route in self.routes:
            match = route.match
            if match.path.accepts(head.path) and match.accepts_rest(head):
                source = match.source
                if source is None or (peer is not None and source.accepts(peer)):
                    return route.rule
        return None


Table = RouteTable | OrderedTable


def _first(routes: list[Route], head: RequestHead) -> Rule | None:
    route: Route
    for route in routes:
        match: Match = route.match
        if not match.has_conditions or match.accepts_rest(head):
            return route.rule
    return None
