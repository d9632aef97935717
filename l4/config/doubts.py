"""Objects whose state is unknown because they could not be read or understood, and the consequences.

A source reports an object in one of three ways: it is present, it is gone, or its state is unknown. Only the second
removes the object. The third is a doubt: the last valid version stays in force if there is one, and readiness and the
log report the doubt. At start there may be no last valid version, and a policy that denies access may be missing. Until
everything was understood once, the program is not ready, and it denies all access to the workloads that such a policy
could protect.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from l4.config.documents import Problem

EVERYWHERE = ""
_MAX_TOLD = 5


@dataclass(frozen=True, slots=True, order=True)
class Doubt:
    """An object or file whose state is unknown.

    `namespace` is the namespace that a missing policy could apply to: EVERYWHERE if that is unknown, None if no policy
    can be missing. `is_policy`: a policy is certainly missing, and its namespace is denied for as long as the doubt
    lasts.
    """

    problem: Problem
    has_last_good: bool
    namespace: str | None
    is_policy: bool = False


class Understanding:
    """Remembers whether everything was understood once."""

    def __init__(self) -> None:
        self.is_complete = False

    def take(self, doubts: Collection[Doubt]) -> frozenset[str]:
        """Return the namespaces to which these doubts deny access; EVERYWHERE among them means all namespaces."""
        if all(doubt.has_last_good for doubt in doubts):
            self.is_complete = True
        return frozenset(
            doubt.namespace
            for doubt in doubts
            if doubt.namespace is not None and not doubt.has_last_good and (doubt.is_policy or not self.is_complete)
        )


def concern(doubts: Sequence[Doubt]) -> str:
    """Return the first doubts, and the number of further ones, for the readiness report."""
    told = [str(doubt.problem) for doubt in doubts[:_MAX_TOLD]]
    if len(doubts) > _MAX_TOLD:
        told.append(f"and {len(doubts) - _MAX_TOLD} more that could not be read; see the log")
    return "\n".join(told)
