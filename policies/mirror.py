"""HTTPRoute's RequestMirror: a copy of some requests goes to another backend, whose answer nobody waits for."""

from dataclasses import dataclass

from policies.attributes import ClusterName


@dataclass(frozen=True, slots=True)
class Mirror:
    """`numerator` of `denominator` requests are copied."""

    cluster: ClusterName
    numerator: int = 100
    denominator: int = 100

    def takes(self, roll: float) -> bool:
        """Whether this request is copied; `roll` in [0, 1)."""
        return roll * self.denominator < self.numerator
