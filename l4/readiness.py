"""Whether traffic may come yet, and what somebody should look after."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Readiness:
    """`pending` names what must still happen before traffic may come: `configuration`, `certificate`. `concerns` holds
    one sentence for each subject that goes wrong now, or will unless somebody acts."""

    pending: set[str] = field(default_factory=set)
    concerns: dict[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return not self.pending

    def done(self, task: str) -> None:
        self.pending.discard(task)

    def concern(self, subject: str, sentence: str) -> None:
        """An empty sentence ends the concern."""
        if sentence:
            self.concerns[subject] = sentence
        else:
            self.concerns.pop(subject, None)


def merge(parts: Iterable[Readiness]) -> Readiness:
    """Ready when all parts are. Where parts have different sentences about one subject, all of them are kept."""
    merged = Readiness()
    for part in parts:
        merged.pending |= part.pending
        for subject, sentence in part.concerns.items():
            known = merged.concerns.get(subject, sentence)
            merged.concerns[subject] = known if sentence in known.split("\n") else f"{known}\n{sentence}"
    return merged
