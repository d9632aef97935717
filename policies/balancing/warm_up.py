"""Slow start: a new endpoint gets less than its share at first, so that its caches can fill (as in Envoy).

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmUp:
    """An endpoint has its full share after `seconds`, and never less than `min_percent` of it.

    With `aggression` 1 the share grows linearly; above 1 it grows faster at first.
    """

    seconds: float
    min_percent: float = 10.0
    aggression: float = 1.0

    def share(self, age: float) -> float:
        """Return the factor, in (0, 1], for the weight of an endpoint that appeared `age` seconds ago."""
        if age >= self.seconds:
            return 1.0
        grown = math.pow(max(age, 1.0) / self.seconds, 1 / self.aggression)
        return max(min(grown, 1.0), self.min_percent / 100)
