"""Follows routes, policies and what they refer to, with the pipeline of waypoints, and concludes their statuses.

    source → what the compiler reads of it → pipeline, one snapshot for each of our Gateways → conclusions

Pods and their endpoints are not read: no status depends on them. A status that was written comes back as a change of
its object, in which the compiler would find nothing new: such changes are not compiled. What cannot be listed is not
known, and nothing that depends on it is told.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from l4.config.documents import Document, ObjectKey, ObjectOrigin
from l4.config.doubts import Doubt
from l4.config.kinds import Kinds
from l4.config.settings import Settings
from l4.config.source import Answer, Changes, Documents, Source, in_a_thread
from waypoint.config.kinds import KINDS
from waypoint.config.pipeline import Pipeline
from waypoint.controller.conclusions import Conclusion, conclude, differing, our_gateways
from waypoint.controller.kinds import GATEWAY_API, SECURITY, TOLD

_UNREAD = frozenset(
    {
        ("", "Pod"),
        ("", "Node"),
        ("", "Endpoints"),
        ("discovery.k8s.io", "EndpointSlice"),
        ("networking.istio.io", "WorkloadEntry"),
        ("networking.istio.io", "DestinationRule"),
        ("networking.istio.io", "VirtualService"),
        (SECURITY, "PeerAuthentication"),
        ("telemetry.istio.io", "Telemetry"),
    }
)
READ: Kinds = KINDS.reading({name: kind for name, kind in KINDS.items() if name not in _UNREAD})
"""The kinds on which a status depends."""

_ALONE: Mapping[tuple[str, str], tuple[str, str]] = {
    **{(group, kind): (group, kind) for group, kind in TOLD if group not in ("", GATEWAY_API)},
    ("", "ConfigMap"): (SECURITY, "AuthorizationPolicy"),
}
"""Kinds on which the statuses of only one kind depend."""

_MAX_REST_SECONDS = 30.0
"""After each conclusion it rests for as long as that took, so that changes without end use at most half a CPU."""

EVERYTHING = ("", "*")
"""Stands for all kinds."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """`changed` are the objects themselves, with their statuses. `looked_at` are those whose status may have to be
    written; None means all. Nothing may be told of the kinds `unknown`, for which `doubts` are the reason, nor of the
    objects `undecoded`."""

    wanted: Mapping[ObjectKey, Conclusion]
    changed: tuple[Document, ...]
    gone: tuple[ObjectKey, ...]
    looked_at: frozenset[ObjectKey] | None
    unknown: frozenset[tuple[str, str]]
    undecoded: frozenset[ObjectKey]
    doubts: tuple[Doubt, ...] = field(repr=False)


class Concluding:
    """`take` gets each conclusion, on the event loop."""

    def __init__(
        self, source: Source, settings: Settings, controller_name: str, revision: str, take: Callable[[Concluded], None]
    ) -> None:
        self._source = source
        self._take = take
        self._pipeline = Pipeline(None, settings, kinds=READ, serving=our_gateways(controller_name, revision))
        self._read: dict[ObjectKey, Document] = {}
        self._doubts: tuple[Doubt, ...] = ()
        self._wanted: dict[ObjectKey, Conclusion] = {}
        self._undecoded: frozenset[ObjectKey] = frozenset()
        self._one_at_a_time = threading.Lock()

    async def run(self) -> None:
        """Follow until cancelled."""
        conclude_and_take = in_a_thread(self.conclude, self._take)

        async def take(answer: Answer) -> None:
            began = time.monotonic()
            await conclude_and_take(answer)
            await asyncio.sleep(min(time.monotonic() - began, _MAX_REST_SECONDS))

        await take(await self._source.load())
        await self._source.watch(take)

    def conclude(self, answer: Answer) -> Concluded:
        """Runs in a thread. One that is no longer waited for, because leading ended, may still run."""
        with self._one_at_a_time:
            return self._conclude(answer)

    def _conclude(self, answer: Answer) -> Concluded:
        before, known = self._wanted, self._read.keys()
        read = self._reads(answer)
        if read is not None:
            compiled = self._pipeline.compile(read)
            self._wanted = conclude(compiled)
            decoded = {it.key for it in compiled.resources}
            self._undecoded = frozenset(it.key for it in compiled.documents if _is_told(it)) - decoded
        changed = answer.documents if isinstance(answer, Documents) else answer.changed
        told = tuple(filter(_is_told, changed))
        looked_at = None
        if isinstance(answer, Changes) and answer.doubts == self._doubts:
            looked_at = frozenset(it.key for it in told) | (differing(before, self._wanted) if read else set())
        self._doubts = answer.doubts
        return Concluded(
            wanted=self._wanted,
            changed=told,
            gone=answer.gone if isinstance(answer, Changes) else tuple(known - self._read.keys()),
            looked_at=looked_at,
            unknown=_unknown(answer.doubts),
            undecoded=self._undecoded,
            doubts=answer.doubts,
        )

    def _reads(self, answer: Answer) -> Answer | None:
        """What the compiler reads of the answer, or None if it has seen all of that."""
        if isinstance(answer, Documents):
            documents = tuple(map(_without_status, answer.documents))
            self._read = {it.key: it for it in documents}
            return replace(answer, documents=documents)
        changed = [
            it
            for it in map(_without_status, answer.changed)
            if it.key not in self._read or self._read[it.key].content != it.content
        ]
        for key in answer.gone:
            self._read.pop(key, None)
        self._read.update((it.key, it) for it in changed)
        if not changed and not answer.gone and answer.doubts == self._doubts:
            return None
        return replace(answer, changed=tuple(changed))


def _is_told(document: Document) -> bool:
    return (document.key.group, document.key.kind) in TOLD


def _without_status(document: Document) -> Document:
    """The document without what our own writing changes, where the compiler does not read it."""
    if not _is_told(document):
        return document
    content = {name: value for name, value in document.content.items() if name != "status"}
    if isinstance(metadata := content.get("metadata"), Mapping):
        content["metadata"] = {name: value for name, value in metadata.items() if name != "resourceVersion"}
    return replace(document, content=content)


def _unknown(doubts: tuple[Doubt, ...]) -> frozenset[tuple[str, str]]:
    origins = [it.problem.origin for it in doubts]
    names = [(it.key.group, it.key.kind) if isinstance(it, ObjectOrigin) else EVERYTHING for it in origins]
    return frozenset(_ALONE.get(name, EVERYTHING) for name in names)
