"""What one client of a discovery server wants of a type of resources, and what it lacks.

A client subscribes to everything, or to single names: a resource's own, or one of its keys. To a name without a
resource the answer is that it is removed. With a name come resources that belong to it: to a service its workloads.
A client that subscribes to names also gets what has the key `always`, such as the workloads of its own node.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from l4.xds.offer import Offer, Offered

_ALL = "*"
_MAX_NAMES = 100_000
"""Names that one client may subscribe to."""


class TooMany(Exception):
    """The client subscribes to more names than are remembered."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """What a client is to be told: resources in the order of sending, and names without one."""

    changed: tuple[Offered, ...]
    removed: tuple[str, ...]

    def response(self, type_url: str, nonce: str) -> bytes:
        head = DeltaDiscoveryResponse(type_url=type_url, nonce=nonce, removed_resources=self.removed)
        return b"".join((head.SerializeToString(), *(it.part for it in self.changed)))


class Subscription:
    """One client's. `always` is a key, or empty."""

    def __init__(self, offer: Offer, first: DeltaDiscoveryRequest, always: str = "") -> None:
        """Raises TooMany."""
        self._offer = offer
        self._wanted = {always} if always else set[str]()
        self._asked: set[str] = set()
        self._has: set[str] = set()
        """Names of resources that a client of single names has."""
        self._sequence = 0
        self._known: Mapping[str, str] | None = dict(first.initial_resource_versions)
        """Versions that the client had before it was connected; None after the first response."""
        self._is_whole = not first.resource_names_subscribe
        self.take(first)

    def take(self, request: DeltaDiscoveryRequest) -> None:
        """Take a change of the subscription. Raises TooMany."""
        names = set(request.resource_names_subscribe)
        if _ALL in names and not self._is_whole:
            self._is_whole, self._known = True, self._known or {}
        names.discard(_ALL)
        self._wanted |= names
        self._asked |= names
        for name in request.resource_names_unsubscribe:
            if name == _ALL:
                self._is_whole = False
            self._wanted.discard(name)
            self._asked.discard(name)
            self._has.discard(name)
        if len(self._wanted) > _MAX_NAMES:
            raise TooMany

    @property
    def is_due(self) -> bool:
        """Whether the client may lack something."""
        return self._known is not None or bool(self._asked) or self._sequence < self._offer.sequence

    def lacking(self) -> Lacking | None:
        """Return what the client lacks, which it is taken to have from now on. None: nothing. Raises TooOld."""
        is_first = self._known is not None
        found = self._at_first(self._known) if self._known is not None else self._since()
        names, removed = set[str](), set[str]()
        for name in found:
            (names if self._offer.get(name) is not None else removed).add(name)
        self._known, self._asked, self._sequence = None, set(), self._offer.sequence
        if not self._is_whole:
            self._has |= names
            self._has -= removed
        if not names and not removed and not is_first:
            return None
        offered = [(it.rank, name, it) for name in names if (it := self._offer.get(name)) is not None]
        return Lacking(tuple(it for _, _, it in sorted(offered, key=lambda it: it[:2])), tuple(sorted(removed)))

    def _at_first(self, known: Mapping[str, str]) -> Iterator[str]:
        """Yield the names of which the client does not have the current version."""
        offer = self._offer
        if self._is_whole:
            yield from (name for name in offer if not _has(known, name, offer.get(name)))
            yield from (name for name in known if offer.get(name) is None)
            return
        self._has.update(name for name in known if offer.get(name) is not None)
        for key in self._wanted | known.keys():
            found = offer.find(key)
            self._has |= found
            yield from (name for name in found if not _has(known, name, offer.get(name)))
            if not found and key in self._asked | known.keys():
                yield key

    def _since(self) -> Iterator[str]:
        """Yield the names of what has changed, and of what was asked for, which is always sent."""
        changed = self._offer.since(self._sequence)
        yield from changed if self._is_whole else self._concerning(changed)
        for key in self._asked:
            yield from self._offer.find(key) or (key,)

    def _concerning(self, changed: Iterable[str]) -> Iterator[str]:
        """Yield those of the changed resources that a client of single names wants or has."""
        for name in changed:
            it = self._offer.get(name)
            names = (name, *it.keys) if it is not None else (name,)
            if not (self._has.isdisjoint(names) and self._wanted.isdisjoint(names)):
                yield name


def _has(known: Mapping[str, str], name: str, it: Offered | None) -> bool:
    return it is not None and known.get(name) == it.version
