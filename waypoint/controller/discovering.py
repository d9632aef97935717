"""Follows the objects that the mesh is discovered from, and describes the mesh to a discovery service: what a ztunnel
that reads objects itself would know.

Every replica does this. Nothing is described before everything was understood once. Later, what is not known any more
stays as it was.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from l4.config.documents import Problem
from l4.config.doubts import concern
from l4.config.source import Answer, Source, in_a_thread
from l4.config.telling import Telling
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.discovery.pipeline import Discovery
from l4.discovery.policy_objects import FollowedPolicies
from l4.telemetry.process_log import EACH
from l4.xds.description import Describing, Description

log = logging.getLogger(__name__)

READ = KINDS


@dataclass(frozen=True, slots=True)
class _Described:
    """`description` is None before everything was understood."""

    description: Description | None
    problems: frozenset[Problem]
    concern: str


class Discovering:
    """`publish` gets each description, on the event loop. `concern` says what cannot be followed, or is empty."""

    def __init__(self, source: Source, mesh: Mesh, publish: Callable[[Description], None]) -> None:
        self._source = source
        self._publish = publish
        self._discovery = Discovery(KINDS, mesh)
        self._policies = FollowedPolicies(mesh.trust_domains)
        self._describing = Describing(mesh)
        self._telling = Telling(log, EACH)
        self.concern = ""

    @property
    def silent_seconds(self) -> float:
        return self._source.silent_seconds

    async def follow(self) -> None:
        """Follow until cancelled."""
        take = in_a_thread(self._describe, self._take)
        await take(await self._source.load())
        await self._source.watch(take)

    async def close(self) -> None:
        await self._source.close()

    def _describe(self, answer: Answer) -> _Described:
        known = self._discovery.take(answer)
        policies = self._policies.take(known)
        description = None
        if known.taken.is_understood:
            description = self._describing.take(known.registry, known.update, policies)
        problems = known.taken.problems | {*known.registry.problems, *self._policies.problems}
        return _Described(description, problems, concern(known.taken.doubts))

    def _take(self, described: _Described) -> None:
        self.concern = described.concern
        self._telling.tell(described.problems)
        if described.description is not None:
            self._publish(described.description)
