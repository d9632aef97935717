"""The resources of one type that a discovery server has, and the order in which they changed.

Each resource is encoded once, as the part of a response that it is, for all clients. Nothing is queued for a client:
what it lacks is what has changed since the state that it has, so that a slow client costs no more than a fast one.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from l4._proto.xds_pb2 import DeltaDiscoveryResponse, Resource

_MAX_GONE = 10_000
"""Removed resources that are remembered. A client that is further behind begins anew."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A resource. `part` is a response that contains only this; responses can be joined by their bytes.

    `keys` are further names by which clients ask for it. Resources with a smaller `rank` are sent first.
    """

    version: str
    part: bytes
    keys: tuple[str, ...] = ()
    rank: int = 0

    @classmethod
    def of(
        cls,
        type_url: str,
        name: str,
        content: Message,
        *,
        aliases: tuple[str, ...] = (),
        keys: tuple[str, ...] = (),
        rank: int = 0,
    ) -> "Offered":
        """`aliases` are keys that the client is told."""
        encoded = content.SerializeToString(deterministic=True)
        version = hashlib.blake2b(encoded, digest_size=8).hexdigest()
        resource = Resource(name=name, version=version, aliases=aliases, resource=Any(type_url=type_url, value=encoded))
        part = DeltaDiscoveryResponse(resources=[resource]).SerializeToString()
        return cls(version, part, (*aliases, *keys), rank)


@dataclass(frozen=True, slots=True)
class Described:
    """Resources that are new or may have changed, and the names of those that are gone. `is_whole`: there are no
    others."""

    changed: Mapping[str, Offered]
    gone: Collection[str] = ()
    is_whole: bool = False


class Offer:
    """All resources of a type. `sequence` is the number of the last change."""

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.sequence = 0
        self._current: dict[str, Offered] = {}
        self._changed: OrderedDict[str, int] = OrderedDict()
        """The number of the last change of each resource, in this order. Removed ones are among them."""
        self._forgotten = 0
        """The number of the last removal that is not remembered."""
        self._by_key: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._current)

    def __iter__(self) -> Iterator[str]:
        return iter(self._current)

    def get(self, name: str) -> Offered | None:
        return self._current.get(name)

    def find(self, key: str) -> set[str]:
        """Return the names of the resources that a client gets for a key: a name, or what `keys` has. With a service,
        its workloads are among them, because the service is one of their keys."""
        found = set(self._by_key.get(key, ()))
        if key in self._current:
            found.add(key)
        return found.union(*(self._by_key.get(name, ()) for name in found))

    def put(self, described: Described) -> bool:
        """Take changes, as one. Returns whether anything is different."""
        changed = {name: it for name, it in described.changed.items() if self._is_new(name, it)}
        gone = [name for name in described.gone if name in self._current]
        if described.is_whole:
            gone = [name for name in self._current if name not in described.changed]
        if not changed and not gone:
            return False
        self.sequence += 1
        for name in gone:
            self._replace(name, None)
        for name, it in changed.items():
            self._replace(name, it)
        self._forget()
        return True

    def since(self, sequence: int) -> Iterator[str]:
        """Yield the names of the resources that changed after a state, or are gone. Raises TooOld."""
        if sequence < self._forgotten:
            raise TooOld
        for name in reversed(self._changed):
            if self._changed[name] <= sequence:
                return
            yield name

    def _is_new(self, name: str, it: Offered) -> bool:
        known = self._current.get(name)
        return known is None or known.version != it.version or known.keys != it.keys

    def _replace(self, name: str, it: Offered | None) -> None:
        before = self._current.pop(name, None)
        for key in before.keys if before is not None else ():
            its = self._by_key[key]
            its.discard(name)
            if not its:
                del self._by_key[key]
        if it is not None:
            self._current[name] = it
            for key in it.keys:
                self._by_key.setdefault(key, set()).add(name)
        self._changed[name] = self.sequence
        self._changed.move_to_end(name)

    def _forget(self) -> None:
        """Forget the oldest removals if there are too many."""
        excess = len(self._changed) - len(self._current) - _MAX_GONE
        if excess <= 0:
            return
        oldest = [name for name in self._changed if name not in self._current][: excess + _MAX_GONE // 2]
        for name in oldest:
            self._forgotten = max(self._forgotten, self._changed.pop(name))


class TooOld(Exception):
    """What has changed since a state is not known any more."""
