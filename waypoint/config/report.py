"""The compiler's findings for one object: problems for users, and conditions for the API's `status`.

A problem is a sentence with a position; a condition has one of the API's reasons. Both are recorded together, so that
log, `analyze` and `status` agree.
https://gateway-api.sigs.k8s.io/reference/spec/#routestatus
"""

from collections.abc import Iterator
from typing import Any

from l4.config.codes import Code
from l4.config.documents import Problem
from l4.config.resources import Resource
from waypoint.config.status import Condition


class Report:
    """Collects findings. `unresolved` and `dropped` hold (reason, message) of unusable references and rules."""

    def __init__(self, resource: Resource[Any]) -> None:
        self.problems: list[Problem] = []
        self.unresolved: list[tuple[str, str]] = []
        self.dropped: list[tuple[str, str]] = []
        self._resource = resource

    def tell(self, field: str, sentence: str, code: Code) -> None:
        resource = self._resource
        self.problems.append(Problem(resource.origin, str(resource.key), field, sentence, code))

    def unresolve(self, field: str, sentence: str, code: Code, reason: str) -> None:
        """Record an unresolved reference."""
        self.tell(field, sentence, code)
        self.unresolved.append((reason, f"{field}: {sentence}"))

    def drop(self, field: str, sentence: str, code: Code, reason: str = "UnsupportedValue") -> None:
        """Record a rule that cannot be applied and answers 500."""
        self.tell(field, sentence, code)
        self.dropped.append((reason, f"{field}: {sentence}"))

    def refuse(self, message: str) -> None:
        """Record a rule that could not be parsed, whose problem has been reported already."""
        self.dropped.append(("UnsupportedValue", message))

    def conditions(self, *, is_all_dropped: bool) -> Iterator[Condition]:
        """Yield the conditions of the whole object, which are the same for each parent."""
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
            yield Condition("ResolvedRefs", True, "ResolvedRefs", "all references are resolved")
