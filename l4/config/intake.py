"""A source's answers → typed objects, at the cost of what changed; and what is not known among them."""

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
    """All documents and objects by now, and what is different since the last answer: `difference` of the documents,
    `changes` of the objects, None where all may be other ones. `denied` are the namespaces of which a policy may be
    missing. `is_understood`: everything was, at least once. `ignored` counts the objects of kinds nobody asked for."""

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
    """See `Decoder` for `kinds` and `amend`."""

    def __init__(self, kinds: Kinds, amend: Callable[[Document], Document] = lambda document: document) -> None:
        self._inventory = Inventory()
        self._decoder = Decoder(kinds, amend)
        self._understanding = Understanding()

    def take(self, answer: Answer) -> Taken:
        """After an exception the next answer must be Documents."""
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
