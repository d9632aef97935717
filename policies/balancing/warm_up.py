"""An endpoint that has just come gets less than its share at first, so that its caches can fill (Envoy's slow start).

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmUp:
    """`seconds` until an endpoint has its whole share; its share never falls below `min_percent`. With `aggression` 1
    it grows evenly, above 1 fast at first."""

    seconds: float
    min_percent: float = 10.0
    aggression: float = 1.0

    def share(self, age: float) -> float:
        """Of its weight, in (0, 1], what counts of an endpoint that came `age` seconds ago."""
        if age >= self.seconds:
            return 1.0
        grown = math.pow(max(age, 1.0) / self.seconds, 1 / self.aggression)
        return max(min(grown, 1.0), self.min_percent / 100)
