"""Faults on purpose: requests are delayed, or answered with an error in the endpoint's place, each by its own chance.

A request may be delayed first and aborted then. Neither counts against the rule's timeout, and an abort is never tried
again: no endpoint was asked.
https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPFaultInjection
"""

from dataclasses import dataclass

from policies.chance import Chance, Roll


@dataclass(frozen=True, slots=True)
class Delay:
    """`chance` in [0, 1]."""

    seconds: float
    chance: float


@dataclass(frozen=True, slots=True)
class Abort:
    """`status` is HTTP's; `grpc_status`, where it was asked for, is given to clients that speak gRPC. `chance` in
    [0, 1]."""

    status: int
    chance: float
    grpc_status: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    delay: Delay | None = None
    abort: Abort | None = None

    def strike(self, roll: Roll) -> tuple[float, Abort | None]:
        """How many seconds a request is to wait, and whether it is aborted then."""
        delay, abort = self.delay, self.abort
        seconds = delay.seconds if delay is not None and roll(Chance.DELAY) < delay.chance else 0.0
        return seconds, abort if abort is not None and roll(Chance.ABORT) < abort.chance else None
