"""One resource as a discovery server sends it, and who takes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sent:
    """`type_url` and `content` are those of the resource's body, empty without one."""

    name: str
    version: str
    type_url: str
    content: bytes


class Refused(ValueError):
    """The resource cannot be understood, or it contradicts itself. The message begins with the field."""


class Receiver(Protocol):
    """Takes the resources of one type."""

    async def take(self, changed: Sequence[Sent], removed: Sequence[str]) -> Mapping[str, str]:
        """Take the changes of one response. Returns the reason for each resource that is refused, by name."""
