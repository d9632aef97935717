"""Turns a source's answers into typed objects at the cost of what changed, and reports unknown documents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from l4.config.difference import Difference
from l4.config.documents import Document, Problem
from l4.config.doubts import Doubt, Understanding
from l4.config.inventory import Inventory
from l4.config.kinds import Kinds
from l4.config.resources import Change, Decoder, Resources
from l4.config.source import Answer


@dataclass(frozen=True, slots=True)
class Taken:
    """All documents and objects, and what changed since the last answer.

    `difference` is the difference of the documents. `changes` are the changes of the objects, None if all of them may
    have changed. `denied` are the namespaces that may lack a policy. `is_understood`: everything was understood at
    least once. `ignored` counts the objects of kinds that the program does not read.
    """

    documents: tuple[Document, ...]
    difference: Difference
    resources: Resources
    changes: tuple[Change, ...] | None
    problems: frozenset[Problem]
    doubts: tuple[Doubt, ...]
    denied: frozenset[str]
    is_understood: bool
    ignored: Mapping[str, int]


class Intake:
    """Follows one source. See `Decoder` for `kinds` and `amend`."""

    def __init__(self, kinds: Kinds, amend: Callable[[Document], Document] = lambda document: document) -> None:
        self._inventory = Inventory()
        self._decoder = Decoder(kinds, amend)
        self._understanding = Understanding()

    def take(self, answer: Answer) -> Taken:
        """Take an answer. After an exception the next answer must be Documents."""
        found = self._inventory.take(answer)
        documents = self._inventory.documents
        decoded = self._decoder.decode(documents, found)
        doubts = (*answer.doubts, *decoded.doubts)
        denied = self._understanding.take(doubts)
        return Taken(
            documents,
            found,
            decoded.resources,
            decoded.changes,
            frozenset((*answer.problems, *decoded.problems)),
            doubts,
            denied,
            self._understanding.is_complete,
            decoded.ignored,
        )
