"""Bytes of a connection that are counted while they flow."""

from l4.telemetry.metrics import Value


class Tally:
    """Adds the growth of one connection's total to `counter`, which is shared, and may be replaced."""

    __slots__ = ("_told", "counter")

    def __init__(self, counter: Value) -> None:
        self.counter = counter
        self._told = 0

    def reach(self, total: int) -> None:
        self.counter.add(total - self._told)
        self._told = total
