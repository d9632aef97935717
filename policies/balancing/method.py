"""Which of the balancers a destination uses: DestinationRule's `loadBalancer`."""

from dataclasses import dataclass
from enum import StrEnum

from policies.balancing.hash_key import KeySource
from policies.balancing.warm_up import WarmUp


class Method(StrEnum):
    LEAST_REQUEST = "least request"
    ROUND_ROBIN = "round robin"
    RANDOM = "random"
    RING_HASH = "ring hash"
    MAGLEV = "maglev"


@dataclass(frozen=True, slots=True)
class Balancing:
    """`key` and `table_size` (of the ring at least, of Maglev's table exactly) are for the methods that hash."""

    method: Method = Method.LEAST_REQUEST
    key: KeySource | None = None
    table_size: int = 0
    warm_up: WarmUp | None = None


DEFAULT_BALANCING = Balancing()
