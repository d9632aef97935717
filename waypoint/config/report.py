"""What the compiler has to say of one object: its problems for people, and its conditions for the API's `status`.

A problem is a sentence with a place; a condition is one of the API's few reasons. Whoever finds something tells both
at once, so that log, `analyze` and `status` never disagree.
https://gateway-api.sigs.k8s.io/reference/spec/#routestatus
"""

from collections.abc import Iterator
from typing import Any

from l4.config.codes import Code, Level
from l4.config.documents import Problem
from l4.config.resources import Resource
from waypoint.config.status import Condition


class Report:
    """Collects; `unresolved` and `dropped` hold (reason, message) of references and of rules that can't be used."""

    def __init__(self, resource: Resource[Any]) -> None:
        self.problems: list[Problem] = []
        self.unresolved: list[tuple[str, str]] = []
        self.dropped: list[tuple[str, str]] = []
        self._resource = resource

    def tell(self, field: str, sentence: str, code: Code) -> None:
        resource = self._resource
        self.problems.append(Problem(resource.origin, str(resource.key), field, sentence, code))

    def unresolve(self, field: str, sentence: str, code: Code, reason: str) -> None:
        """A reference leads nowhere."""
        self.tell(field, sentence, code)
        self.unresolved.append((reason, f"{field}: {sentence}"))

    def drop(self, field: str, sentence: str, code: Code, reason: str = "UnsupportedValue") -> None:
        """A rule can't be carried out, and answers 500."""
        self.tell(field, sentence, code)
        self.dropped.append((reason, f"{field}: {sentence}"))

    def refuse(self, message: str) -> None:
        """A rule that could not be read: that was told when it was."""
        self.dropped.append(("UnsupportedValue", message))

    @property
    def has_errors(self) -> bool:
        return any(problem.code.level is Level.ERROR for problem in self.problems)

    def conditions(self, *, is_all_dropped: bool) -> Iterator[Condition]:
        """Those that speak of the object as a whole; the same for each of its parents."""
        dropped = "; ".join(message for _, message in self.dropped)
        if is_all_dropped:
            yield Condition("Accepted", False, self.dropped[0][0], dropped)
        else:
            yield Condition("Accepted", True, "Accepted", "the route is live")
            if self.dropped:
                yield Condition("PartiallyInvalid", True, self.dropped[0][0], f"Dropped Rule: {dropped}")
        if self.unresolved:
            messages = "; ".join(message for _, message in self.unresolved)
            yield Condition("ResolvedRefs", False, self.unresolved[0][0], messages)
        else:
            yield Condition("ResolvedRefs", True, "ResolvedRefs", "all references lead somewhere")
