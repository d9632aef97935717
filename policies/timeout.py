"""How long an exchange may take: HTTPRoute `rules[].timeouts`, in seconds; None is no limit."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`request` covers the whole exchange, all attempts included, from the moment the request was received completely.
    The limit of one attempt is the retry policy's."""

    request: float | None = None


NO_TIMEOUTS = Timeouts()
