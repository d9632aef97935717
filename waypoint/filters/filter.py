"""The seam for filters: what a filter is, and what it sees of a request. docs/filters.md shows how to write one.

A rule has policies: pure values, compiled from the configuration, in the order of `policies.filters.ORDER`. A filter
carries out the policies of one or a few types. A process has one filter of each kind, so that what a filter remembers
outlives configurations. A request meets a filter in three ways:

    Filter.request_head    decides, by the request alone. Pure: `waypoint explain` and `waypoint replay` ask the same.
    Act                    does what has to be done before the request goes on: takes from a bucket, or waits.
    Part                   follows this one exchange: its bodies, its response, its end.

A request whose rule has no policies meets none of this.
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
from waypoint.http.events import EMPTY, STREAMED, Body
from waypoint.telemetry.exchanges import ExchangeRecord
from waypoint.upstream.affinity import Sticky
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.clusters import Clusters
from waypoint.upstream.connections import Spawn
from waypoint.upstream.originate import Originator
from waypoint.upstream.settings import UpstreamSettings

log = logging.getLogger(__name__)

P = TypeVar("P")


class Waiting(Protocol):
    """The place where a request is held while a filter waits."""

    async def told_of_body(self, max_bytes: int, *, takes_part: bool) -> bytes | None:
        """The first `max_bytes` of the request's body; None for a longer one, unless a part of it is taken."""


Wait = Callable[[Waiting], Awaitable[None]]
"""A call that a request waits for. It has not been made yet, so that nothing is left of it if nobody waits."""
Act = Callable[[], Wait | None]
"""What is to be done before the request goes on: at once, or by waiting. It refuses with `Filtering.answer`."""


def waits(wait: Wait) -> Act:
    """For what can only be done by waiting."""
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
    """What of the process a filter may use."""

    metrics: MeshMetrics
    settings: Settings
    upstream: UpstreamSettings
    clusters: Clusters
    originator: Originator
    spawn: Spawn
    holder: Holder[Snapshot]


class Part:
    """What a filter does in one exchange after the request's head. What is not overridden costs nothing.

    Requests pass the parts in the filters' order, responses in the reverse order. The methods must not wait. To refuse,
    they raise ExchangeError: the client gets it as an answer, or, once its response has begun, a response that is cut.
    A part that changes a body says so, because the body's length is then known at its end only.
    """

    __slots__ = ()

    changes_request_body: ClassVar[bool] = False
    changes_response_body: ClassVar[bool] = False

    def forwarded(self) -> None:
        """The request is about to go to an endpoint, with the head as the endpoint will see it."""

    def request_body(self, data: bytes) -> bytes:
        return data

    def request_end(self, trailers: Headers) -> bytes:
        """What is to be sent behind the body."""
        return b""

    def picker(self, cluster: Cluster) -> Sticky | None:
        """Who chooses among the endpoints of the cluster, if it is this part."""

    def response_head(self, head: ResponseHead, endpoint: Endpoint | None) -> None:
        """A response's head, with the rule's edits made; an answer of our own has no endpoint."""

    def response_body(self, data: bytes) -> bytes:
        return data

    def response_end(self, trailers: Headers) -> bytes:
        """What is to be sent behind the body."""
        return b""

    def end(self, record: ExchangeRecord) -> None:
        """The exchange is over, however it ended; called once."""


_NO_CLUSTERS: Mapping[ClusterName, Cluster] = {}


class Filtering:
    """One request on its way through the filters.

    `destination` is what the request was sent to, `rule` and `backend` are those that the request falls under, as soon
    as they are known. `clusters` has those that filters want, found at the time of the decision. `odds` is for whoever
    asks what may become of the request: by which chance, with which share.
    """

    # What most requests never change stands in the class: it costs nothing to make.
    rule: Rule | None = None
    backend: WeightedBackend | None = None
    ending: Answer | ExchangeError | None = None
    acts: tuple[Act, ...] = ()
    parts: tuple[Part, ...] = ()
    wanted: tuple[ClusterName, ...] = ()
    granted: tuple[str, ...] = ()
    clusters: Mapping[ClusterName, Cluster] = _NO_CLUSTERS
    cluster: Cluster | None = None  # that the request goes to; None when it is answered here
    is_mute = False  # a filter has failed at the response: what is answered now goes without filters
    # What only acts and parts need; whoever merely asks has none of it.
    authority = ("", 0)
    protocol = ""
    record: ExchangeRecord | None = None
    _settled: "tuple[Filter[Any], ...]" = ()
    _edited: tuple[tuple[HeaderEdit, bool], ...] = ()

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
        self.odds = odds

    # -- for the admission -----------------------------------------------------------------------------------------

    def run(self, policies: Iterable[object]) -> None:
        """Have the filters decide, up to one that answers."""
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
        """Answer in the endpoint's place."""
        self.ending = ending

    def attach(self, part: Part) -> None:
        """Have `part` follow the exchange."""
        self.parts += (part,)

    def settle(self, filter: "Filter[Any]") -> None:
        """Of several policies of one filter, the one that is carried out is the last."""
        self._settled += (filter,)

    def want(self, cluster: ClusterName) -> None:
        """Have the cluster found: acts and parts have it in `clusters`."""
        self.wanted += (cluster,)

    def strikes(self, chance: str, share: float) -> bool:
        """Roll whether something happens that happens to a share of the requests."""
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
        """The names of headers that filters have replaced or taken out."""
        edits = (edit for edit, is_of_response in self._edited if is_of_response == of_response)
        return frozenset(name for edit in edits for name in edit.replaced_names)

    def picker(self, cluster: Cluster) -> Sticky | None:
        return next((it for part in self.parts if (it := part.picker(cluster)) is not None), None)

    def forwarded(self) -> Body:
        """Gives how the end of the body that parts let through is known."""
        if not self.body.is_empty and any(part.changes_request_body for part in self.parts):
            self.body = STREAMED
        for part in self.parts:
            part.forwarded()
        return self.body

    def response_framing(self, head: ResponseHead, body: Body) -> Body:
        """How the end of the body that parts let through is known."""
        if self.is_mute or body.is_empty or not any(part.changes_response_body for part in self.parts):
            return body
        head.headers = [header for header in head.headers if header[0] != b"content-length"]
        return STREAMED

    def request_body(self, data: bytes) -> bytes:
        for part in self.parts:
            data = part.request_body(data)
        return data

    def request_end(self, trailers: Headers) -> bytes:
        rest = b""
        for part in self.parts:
            rest = (part.request_body(rest) if rest else b"") + part.request_end(trailers)
        return rest

    def response_head(self, head: ResponseHead, endpoint: Endpoint | None) -> None:
        for part in reversed(self.parts) if not self.is_mute else ():
            part.response_head(head, endpoint)

    def response_body(self, data: bytes) -> bytes:
        for part in reversed(self.parts) if not self.is_mute else ():
            data = part.response_body(data)
        return data

    def response_end(self, trailers: Headers) -> bytes:
        rest = b""
        for part in reversed(self.parts) if not self.is_mute else ():
            rest = (part.response_body(rest) if rest else b"") + part.response_end(trailers)
        return rest

    def end(self, record: ExchangeRecord) -> None:
        """A part that fails here harms nobody: the others and the report come all the same."""
        for part in self.parts:
            try:
                part.end(record)
            except Exception:
                log.exception("%s failed at the end of an exchange", type(part).__qualname__)
        self.parts = ()  # each may hold the request, and the request holds them


class Filter(Generic[P]):
    """Carries out the policies of `types`. One is made for each process, and one for whoever asks what would happen:
    only the former begins."""

    types: ClassVar[tuple[type, ...]]
    metrics: ClassVar[tuple[Metric[Any], ...]] = ()
    settings: ClassVar[tuple[type[Section], ...]] = ()
    is_after_edits: ClassVar[bool] = False
    """Whether it works on the request as the rule has edited it, and is told after that."""

    def begin(self, environment: Environment) -> None:
        """Get what acts and parts need."""

    def reconcile(self, policies: Iterable[P]) -> None:
        """Another configuration is about to be in force: `policies` are those of policy objects of our own kinds."""

    def request_head(self, policy: P, request: Filtering) -> Act | None:
        """Decide. Changes nothing but the decision: it may answer, attach a part, and give what is to be done."""

    def words(self, policy: P) -> Iterator[str]:
        """What the policy does, for people: one short line each."""
        yield f"{type(policy).__name__}"
