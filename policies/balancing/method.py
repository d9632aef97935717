"""Load balancing method of a destination: DestinationRule's `loadBalancer`."""

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
    """`key` and `table_size` (minimum ring size, or exact Maglev size) apply to the hashing methods."""

    method: Method = Method.LEAST_REQUEST
    key: KeySource | None = None
    table_size: int = 0
    warm_up: WarmUp | None = None


DEFAULT_BALANCING = Balancing()
