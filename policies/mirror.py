"""HTTPRoute's RequestMirror: copy a share of the requests to another backend and ignore its responses."""

from dataclasses import dataclass

from policies.attributes import ClusterName


@dataclass(frozen=True, slots=True)
class Mirror:
    """Copy `numerator` of every `denominator` requests."""

    cluster: ClusterName
    numerator: int = 100
    denominator: int = 100

    def takes(self, roll: float) -> bool:
        """Whether to copy this request. `roll` is in [0, 1)."""
        return roll * self.denominator < self.numerator
