"""A source's answers → typed objects → the registry, at the cost of what changed.

The first steps of every program and tool that follows a configuration; a waypoint compiles further, a ztunnel looks for
the policies of its workloads.
"""

from collections.abc import Callable
from dataclasses import dataclass

from l4.config.documents import Document
from l4.config.intake import Intake, Taken
from l4.config.kinds import Kinds
from l4.config.resources import Change
from l4.config.source import Answer
from l4.discovery.index import READ, Index, Update
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry


@dataclass(frozen=True, slots=True)
class Discovered:
    """`update` is what is different in the registry since the last answer; None where all may be.
    `has_other_changes`: objects that no registry is made of, such as policies, may be different too."""

    taken: Taken
    registry: Registry
    update: Update | None
    has_other_changes: bool


class Discovery:
    """Follows the objects of which a registry is made, see `Index`. Where it can't be told what a change touches, and
    after a failure, everything is indexed anew."""

    def __init__(
        self, kinds: Kinds, mesh: Mesh, amend: Callable[[Document], Document] = lambda document: document
    ) -> None:
        self._intake = Intake(kinds, amend)
        self._mesh = mesh
        self._index: Index | None = None

    def take(self, answer: Answer) -> Discovered:
        index, self._index = self._index, None
        taken = self._intake.take(answer)
        update = index.update(taken.changes) if index is not None and taken.changes is not None else None
        if index is None or update is None:
            index = Index(taken.resources, self._mesh)
        self._index = index
        return Discovered(taken, index.registry, update, taken.changes is None or not all(map(_is_read, taken.changes)))


def _is_read(change: Change) -> bool:
    return all(type(it.value) in READ for it in (change.before, change.after) if it is not None)
