"""Holds the one value that is in force, such as the current snapshot. Swapping it is one assignment."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Holder(Generic[T]):
    def __init__(self, value: T) -> None:
        self.current = value
        self._subscribers: list[Callable[[T], None]] = []

    def swap(self, value: T) -> None:
        """Put a new value in force, then notify the subscribers in the order of their subscription."""
        self.current = value
        for subscriber in self._subscribers:
            subscriber(value)

    def subscribe(self, subscriber: Callable[[T], None]) -> None:
        """Call `subscriber` now with the current value, and later with every new value."""
        self._subscribers.append(subscriber)
        subscriber(self.current)
