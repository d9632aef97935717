"""The interface of filters. docs/filters.md shows how to write one.

A rule has policies: pure values, compiled from the configuration, in the order of `policies.filters.ORDER`. A filter
enforces the policies of one or a few types. A worker has one filter of each kind, so that the filter's state outlives
configurations. A filter has up to three things to do with a request:

    Filter.request_head    decides, by the request alone. It is pure: `waypoint explain` and `waypoint replay` call it.
    Act                    does what must be done before the request goes on: takes from a bucket, or waits.
    Part                   follows one exchange: its bodies, its response, its end.

A request whose rule has no policies causes none of this.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from l4.config.holder import Holder
from l4.config.settings import Section, Settings
from l4.telemetry.metrics import MeshMetrics, Metric
from policies.attributes import ClusterName, Headers, Peer, RequestHead, ResponseHead
from policies.balancing.endpoint import Endpoint
from policies.chance import Roll
from policies.rewrite import HeaderEdit
from policies.route import Rule, WeightedBackend
from waypoint.config.snapshot import Destination, Snapshot
from waypoint.errors import ExchangeError
from waypoint.filters.part import Part
from waypoint.http.events import EMPTY, STREAMED, Body
from waypoint.replica import Replica
from waypoint.telemetry.record import ExchangeRecord
from waypoint.upstream.affinity import Sticky
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.connections import Spawn
from waypoint.upstream.originate import Originator
from waypoint.upstream.settings import UpstreamSettings

log = logging.getLogger(__name__)

P = TypeVar("P")


class Waiting(Protocol):
    """A request that is held while a filter waits."""

    async def told_of_body(self, max_bytes: int, *, takes_part: bool) -> bytes | None:
        """Return the body, at most `max_bytes` of it. A longer body is None, or its beginning if `takes_part`."""


Wait = Callable[[Waiting], Awaitable[None]]
"""A call that a request waits for. It has not been made yet."""
Act = Callable[[], Wait | None]
"""Something to do before the request goes on. It may return a `Wait`, or answer the request."""


def waits(wait: Wait) -> Act:
    """Return the act that does nothing but wait."""
    return lambda: wait


@dataclass(slots=True)
class Answer:
    """A response that needs no endpoint. `detail` goes to the access log."""

    status: int
    headers: Headers
    detail: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Environment:
    """The parts of a worker that filters may use. `replica` is None if there is one worker."""

    metrics: MeshMetrics
    settings: Settings
    upstream: UpstreamSettings
    originator: Originator
    spawn: Spawn
    holder: Holder[Snapshot]
    replica: Replica | None = None


_NO_CLUSTERS: Mapping[ClusterName, Cluster] = {}
_NO_NAMES: frozenset[bytes] = frozenset()


class Filtering:
    """One request, as filters see it.

    `rule` and `backend` are set as soon as they are known. `clusters` holds the clusters that filters want, as they are
    at the time of the decision. `odds` collects the shares of random decisions for `explain`; it is None otherwise.
    """

    __slots__ = (
        "_changes_request_body",
        "_changes_response_body",
        "_edited",
        "_filters",
        "_hooks",
        "_is_opaque",
        "_settled",
        "acts",
        "authority",
        "backend",
        "body",
        "cluster",
        "clusters",
        "destination",
        "ending",
        "granted",
        "head",
        "is_mute",
        "now",
        "odds",
        "parts",
        "peer",
        "protocol",
        "record",
        "roll",
        "rule",
        "wanted",
    )

    def __init__(
        self,
        filters: "Mapping[type, Filter[Any]]",
        destination: Destination,
        peer: Peer,
        head: RequestHead,
        roll: Roll,
        now: float,
        body: Body = EMPTY,
        odds: dict[str, float] | None = None,
    ) -> None:
        self._filters = filters
        self.destination = destination
        self.peer = peer
        self.head = head
        self.body = body
        self.roll = roll
        self.now = now  # wall-clock time
        self.rule: Rule | None = None
        self.backend: WeightedBackend | None = None
        self.ending: Answer | ExchangeError | None = None
        self.acts: tuple[Act, ...] = ()
        self.parts: tuple[Part, ...] = ()
        self.odds = odds
        self.wanted: tuple[ClusterName, ...] = ()
        self.granted: tuple[str, ...] = ()
        self.clusters = _NO_CLUSTERS
        self.cluster: Cluster | None = None  # where the request goes; None if the waypoint answers
        self.is_mute = False  # a filter failed at the response: the answer in its place bypasses the filters
        # Acts and parts need these; they are not set for `explain`.
        self.authority = ("", 0)
        self.protocol = ""
        self.record: ExchangeRecord | None = None
        self._changes_request_body = self._changes_response_body = False
        self._is_opaque = False  # after an upgrade: the bytes are no bodies
        self._hooks: frozenset[str] = frozenset()  # those of the parts
        self._settled: tuple[Filter[Any], ...] = ()
        self._edited: tuple[tuple[HeaderEdit, bool], ...] = ()

    # -- for the admission -----------------------------------------------------------------------------------------

    def run(self, policies: Iterable[object]) -> None:
        """Call `request_head` of the policies' filters, up to one that answers."""
        for policy in policies:
            it = self._filters[type(policy)]
            if self._settled and it in self._settled:
                continue
            act = it.request_head(policy, self)
            if act is not None:
                self.acts += (act,)
            if self.ending is not None:
                return

    # -- for filters -----------------------------------------------------------------------------------------------

    def answer(self, ending: Answer | ExchangeError) -> None:
        """Answer the request in place of the endpoint."""
        self.ending = ending

    def attach(self, part: Part) -> None:
        """Let `part` follow the exchange."""
        self.parts += (part,)
        self._changes_request_body = self._changes_request_body or part.changes_request_body
        self._changes_response_body = self._changes_response_body or part.changes_response_body
        self._hooks = self._hooks | part.hooks if self._hooks else part.hooks

    def settle(self, filter: "Filter[Any]") -> None:
        """Skip the filter's further policies."""
        self._settled += (filter,)

    def want(self, cluster: ClusterName) -> None:
        """Ask for a cluster. Acts and parts find it in `clusters`."""
        self.wanted += (cluster,)

    def strikes(self, chance: str, share: float) -> bool:
        """Decide at random whether this request is in the given share of requests."""
        if self.odds is not None:
            self.odds[chance] = share
        return self.roll(chance) < share

    def edit(self, edit: HeaderEdit) -> None:
        """Edit the request's head. No trailer of the request brings back what the edit replaces."""
        edit.apply_to(self.head)
        self._edited += ((edit, False),)

    def edit_response(self, head: ResponseHead, edit: HeaderEdit) -> None:
        """Edit a response's head. No trailer of the response brings back what the edit replaces."""
        head.headers = edit.apply(head.headers)
        self._edited += ((edit, True),)

    # -- for the exchange ------------------------------------------------------------------------------------------

    def replaced_names(self, *, of_response: bool) -> frozenset[bytes]:
        """The names of headers that filters replaced or removed."""
        if not self._edited:
            return _NO_NAMES
        edits = (edit for edit, is_of_response in self._edited if is_of_response == of_response)
        return frozenset(name for edit in edits for name in edit.replaced_names)

    def picker(self, cluster: Cluster) -> Sticky | None:
        for part in self._parts_with("picker"):
            found = part.picker(cluster)
            if found is not None:
                return found
        return None

    def forwarded(self) -> Body:
        """Tell the parts that the request goes to an endpoint. Return the framing of the body that they pass on."""
        self._is_opaque = self.body.is_opaque
        if not self.body.is_empty and not self._is_opaque and self._changes_request_body:
            self.body = STREAMED
        for part in self._parts_with("forwarded"):
            part.forwarded()
        return self.body

    def response_framing(self, head: ResponseHead, body: Body) -> Body:
        """Return the framing of the body that the parts pass on."""
        self._is_opaque = body.is_opaque
        if self.is_mute or body.is_empty or body.is_opaque:
            return body
        if not self._changes_response_body:
            return body
        head.headers = [header for header in head.headers if header[0] != b"content-length"]
        return STREAMED

    def request_body(self, data: bytes) -> bytes:
        for part in self._parts_with("request_body") if not self._is_opaque else ():
            data = part.request_body(data)
        return data

    def request_end(self, trailers: Headers) -> bytes:
        rest = b""
        for part in self._parts_with("request_end") if not self._is_opaque else ():
            rest = (part.request_body(rest) if rest else b"") + part.request_end(trailers)
        return rest

    def response_head(self, head: ResponseHead, endpoint: Endpoint | None) -> None:
        if not self.is_mute and "response_head" in self._hooks:
            for part in reversed(self.parts):
                part.response_head(head, endpoint)

    def response_body(self, data: bytes) -> bytes:
        if "response_body" in self._hooks and not self.is_mute and not self._is_opaque:
            for part in reversed(self.parts):
                data = part.response_body(data)
        return data

    def response_end(self, trailers: Headers) -> bytes:
        rest = b""
        if "response_end" in self._hooks and not self.is_mute and not self._is_opaque:
            for part in reversed(self.parts):
                rest = (part.response_body(rest) if rest else b"") + part.response_end(trailers)
        return rest

    def end(self, record: ExchangeRecord) -> None:
        """Call `end` of all parts, even if one of them fails."""
        for part in self._parts_with("end"):
            try:
                part.end(record)
            except Exception:
                log.exception("%s failed at the end of an exchange", type(part).__qualname__)
        self.acts, self.parts = (), ()  # they may refer to the request, as it does to them

    def _parts_with(self, hook: str) -> tuple[Part, ...]:
        """The parts, if one of them does something at this hook."""
        return self.parts if hook in self._hooks else ()


class Filter(Generic[P]):
    """Enforces the policies of `types`. Each worker has one, and `explain` has one that never begins."""

    types: ClassVar[tuple[type, ...]]
    metrics: ClassVar[tuple[Metric[Any], ...]] = ()
    settings: ClassVar[tuple[type[Section], ...]] = ()
    is_after_edits: ClassVar[bool] = False
    """Whether it works on the request as the rule edited it. Its words follow those of the edits."""

    def begin(self, environment: Environment) -> None:
        """Called once, with what acts and parts may use."""

    def reconcile(self, policies: Iterable[P]) -> None:
        """Called before each new configuration, with its attached policies of these types. Forget what is gone."""

    def request_head(self, policy: P, request: Filtering) -> Act | None:
        """Decide what happens to a request. It may answer the request, attach a part, and return an act.

        It changes nothing else: not the head, and no state of the filter.
        """

    def words(self, policy: P) -> Iterator[str]:
        """Describe the policy for people, in short lines."""
        yield f"{type(policy).__name__}"
