"""Fault injection: delay requests, or answer them with an error instead of calling an endpoint, with given
probabilities.

A delay comes before an abort. Delays do not count against the rule's timeout. An aborted request is not retried, since
no endpoint was called.
https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPFaultInjection
"""

from dataclasses import dataclass

from policies.chance import Chance, Strikes


@dataclass(frozen=True, slots=True)
class Delay:
    """`chance` is in [0, 1]."""

    seconds: float
    chance: float


@dataclass(frozen=True, slots=True)
class Abort:
    """An injected error. `chance` is in [0, 1].

    `status` is the HTTP status. `grpc_status`, if configured, is sent to gRPC clients instead.
    """

    status: int
    chance: float
    grpc_status: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    delay: Delay | None = None
    abort: Abort | None = None

    def strike(self, strikes: Strikes) -> tuple[float, Abort | None]:
        """Return the seconds to delay the request, and the abort that follows, if any."""
        delay, abort = self.delay, self.abort
        seconds = delay.seconds if delay is not None and strikes(Chance.DELAY, delay.chance) else 0.0
        return seconds, abort if abort is not None and strikes(Chance.ABORT, abort.chance) else None
