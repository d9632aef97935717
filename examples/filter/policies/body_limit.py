"""How long the body of a request may be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """`policy` is the object that says so."""

    policy: str
    max_bytes: int
