"""Readiness of a process, and conditions that need an operator's attention."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Readiness:
    """Whether the process is ready for traffic.

    `pending` names what must still happen first, such as `configuration` or `certificate`. `concerns` holds one
    sentence per subject that is failing, or will fail unless somebody acts.
    """

    pending: set[str] = field(default_factory=set)
    concerns: dict[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return not self.pending

    def done(self, task: str) -> None:
        self.pending.discard(task)

    def concern(self, subject: str, sentence: str) -> None:
        """Set the sentence for a subject. An empty sentence ends the concern."""
        if sentence:
            self.concerns[subject] = sentence
        else:
            self.concerns.pop(subject, None)


def merge(parts: Iterable[Readiness]) -> Readiness:
    """Combine parts: ready if all are. If parts have different sentences about one subject, all are kept."""
    merged = Readiness()
    for part in parts:
        merged.pending |= part.pending
        for subject, sentence in part.concerns.items():
            known = merged.concerns.get(subject, sentence)
            merged.concerns[subject] = "\n".join(dict.fromkeys(f"{known}\n{sentence}".split("\n")))
    return merged
