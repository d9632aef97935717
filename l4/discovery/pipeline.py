"""Convert a source's answers to typed objects and to the registry, at the cost of what changed.

These are the first steps of every program and tool that follows a configuration. A waypoint then compiles; a ztunnel
looks up policies of its workloads.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

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
    """`update` is the change of the registry since the last answer, or None if everything may have changed.

    `has_other_changes`: objects that are not part of the registry, such as policies, may have changed.
    """

    taken: Taken
    registry: Registry
    update: Update | None
    has_other_changes: bool


class Discovery:
    """Follows the objects of the registry, see `Index`. After unclear changes and failures, everything is
    indexed anew."""

    def __init__(
        self, kinds: Kinds, mesh: Mesh, amend: Callable[[Document], Document] = lambda document: document
    ) -> None:
        self._intake = Intake(kinds, amend)
        self._mesh = mesh
        self._index: Index | None = None

    def take(self, answer: Answer) -> Discovered:
        index, self._index = self._index, None
        taken = self._intake.take(answer)
        if index is None:  # after a failure, the changes of the failed answer have not been followed
            taken = replace(taken, changes=None)
        update = index.update(taken.changes) if index is not None and taken.changes is not None else None
        if index is None or update is None:
            index = Index(taken.resources, self._mesh)
        self._index = index
        return Discovered(taken, index.registry, update, taken.changes is None or not all(map(_is_read, taken.changes)))


def _is_read(change: Change) -> bool:
    return all(type(it.value) in READ for it in (change.before, change.after) if it is not None)
