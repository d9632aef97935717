"""What has arrived of one type of resource and was not used yet, and what had to be refused.

The last good version of a refused resource stays in force, until the server sends it again or removes it. A refused
policy is a doubt (`l4.config.doubts`), because without it too much may be allowed; any other resource is a problem. So
one odd workload of a large mesh keeps no ztunnel from being ready.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from l4.config.codes import DocumentCode
from l4.config.documents import ObjectKey, ObjectOrigin, Problem
from l4.config.doubts import Doubt
from l4.xds.resource import Refused, Sent

K = TypeVar("K")

_MANY = 50
"""Resources whose conversion takes long enough for a thread of its own."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[K]):
    """A type of resources. `convert` raises Refused, and `name_of` returns the name that a resource must have.

    `is_policy`: a missing one may allow too much, so that its namespace is denied. Names begin with the namespace.
    """

    type_url: str
    convert: Callable[[bytes], K]
    name_of: Callable[[K], str]
    is_policy: bool

    def read(self, sent: Sent) -> K:
        """Raises Refused."""
        if not sent.type_url:
            raise Refused("it has no body")
        if sent.type_url != self.type_url:
            raise Refused(f"its body is a {sent.type_url}")
        found = self.convert(sent.content)
        if (name := self.name_of(found)) != sent.name:
            raise Refused(f"its body is that of {name}")
        return found


class Inbox(Generic[K]):
    """A `Receiver`. `changed` and `gone` are what arrived since the last `empty`."""

    def __init__(self, kind: Kind[K], woken: asyncio.Event) -> None:
        self._kind = kind
        self._woken = woken
        self._good: set[str] = set()
        self.changed: dict[str, K] = {}
        self.gone: set[str] = set()
        self._refused: dict[str, Doubt] = {}

    @property
    def has_news(self) -> bool:
        return bool(self.changed or self.gone)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        return tuple(self._refused.values()) if self._kind.is_policy else ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those of refused resources that are no policies."""
        return () if self._kind.is_policy else tuple(it.problem for it in self._refused.values())

    async def take(self, changed: Sequence[Sent], removed: Sequence[str]) -> Mapping[str, str]:
        found = await asyncio.to_thread(self._read, changed) if len(changed) > _MANY else self._read(changed)
        refused: dict[str, str] = {}
        for sent, it in found:
            if isinstance(it, Refused):
                refused[sent.name] = str(it)
                self._refused[sent.name] = self._doubt(sent, it)
            else:
                self.changed[sent.name] = it
                self._good.add(sent.name)
                self.gone.discard(sent.name)
                self._refused.pop(sent.name, None)
        for name in removed:
            self.changed.pop(name, None)
            self._refused.pop(name, None)
            if name in self._good:
                self._good.discard(name)
                self.gone.add(name)
        self._woken.set()
        return refused

    def empty(self) -> tuple[dict[str, K], set[str]]:
        """Return `changed` and `gone`, and begin anew."""
        taken = self.changed, self.gone
        self.changed, self.gone = {}, set()
        return taken

    def _read(self, changed: Sequence[Sent]) -> list[tuple[Sent, K | Refused]]:
        found: list[tuple[Sent, K | Refused]] = []
        for sent in changed:
            try:
                found.append((sent, self._kind.read(sent)))
            except Refused as error:
                found.append((sent, error))
        return found

    def _doubt(self, sent: Sent, error: Refused) -> Doubt:
        group, _, kind = self._kind.type_url.rpartition("/")[2].rpartition(".")
        key = ObjectKey(group, kind, "", sent.name)
        has_last_good = sent.name in self._good
        sentence = f"it cannot be understood: {error}"
        if has_last_good:
            sentence += "; its last good version stays in force"
        elif self._kind.is_policy:
            sentence += "; until this is corrected, all access to the workloads of its namespace is denied"
        origin = ObjectOrigin(key, sent.version or "none")
        problem = Problem(origin, str(key), "", sentence, DocumentCode.INVALID)
        namespace = sent.name.partition("/")[0] if self._kind.is_policy else None
        return Doubt(problem, has_last_good, namespace, is_policy=self._kind.is_policy)
