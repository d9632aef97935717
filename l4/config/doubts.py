"""What could not be looked at or understood, and what follows from it.

A source has three answers: here it is, it is gone, I don't know. Only the second removes anything. The third is a
doubt: the last good state stays in force where there is one, and readiness and the log tell. Where there is none yet,
at the start, a policy may be missing that keeps somebody out. Until everything was understood once, the program is not
ready, and whoever such a policy could protect is denied to everybody.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from l4.config.documents import Problem

EVERYWHERE = ""
_MAX_TOLD = 5


@dataclass(frozen=True, slots=True, order=True)
class Doubt:
    """`namespace` is the one that a missing policy could be for, EVERYWHERE where that can't be known, None where no
    policy can be missing. `is_policy`: it is one for certain, and its namespace is denied for as long as it lasts."""

    problem: Problem
    has_last_good: bool
    namespace: str | None
    is_policy: bool = False


class Understanding:
    """Remembers whether everything was understood once."""

    def __init__(self) -> None:
        self.is_complete = False

    def take(self, doubts: Collection[Doubt]) -> frozenset[str]:
        """Whom these doubts deny, by namespace: EVERYWHERE among them means all."""
        if all(doubt.has_last_good for doubt in doubts):
            self.is_complete = True
        return frozenset(
            doubt.namespace
            for doubt in doubts
            if doubt.namespace is not None and not doubt.has_last_good and (doubt.is_policy or not self.is_complete)
        )


def concern(doubts: Sequence[Doubt]) -> str:
    """For readiness: the first of them, and how many more there are."""
    told = [str(doubt.problem) for doubt in doubts[:_MAX_TOLD]]
    if len(doubts) > _MAX_TOLD:
        told.append(f"and {len(doubts) - _MAX_TOLD} more that could not be read; see the log")
    return "\n".join(told)
