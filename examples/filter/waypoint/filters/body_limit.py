"""Limits of bodies: the filter of BodyLimitPolicies. It refuses a request whose body is too long with 413: by its
content-length, or, where there is none, when too much has come."""

from collections.abc import Iterator
from functools import partial

from policies.body_limit import BodyLimit

from l4.telemetry.metrics import counter
from waypoint.errors import ExchangeError
from waypoint.filters.filter import Act, Environment, Filter, Filtering
from waypoint.filters.part import Part

BODIES_REFUSED = counter(
    "pywaypoint_bodies_refused", "Requests whose body was longer than a policy allows.", ("policy",)
)


class BodyTooLong(ExchangeError):
    status = 413
    detail = "request_body_too_long"
    body = b"the body is longer than allowed"


class BodyLimiting(Filter[BodyLimit]):
    types = (BodyLimit,)
    metrics = (BODIES_REFUSED,)

    def begin(self, environment: Environment) -> None:
        self._refused = environment.metrics.of(BODIES_REFUSED)

    def request_head(self, policy: BodyLimit, request: Filtering) -> Act | None:
        length = request.body.length
        if length is None:
            request.attach(_Counting(self, policy))
        elif length > policy.max_bytes:
            request.answer(BodyTooLong())
            return partial(self.count, policy)
        return None

    def count(self, policy: BodyLimit) -> None:
        self._refused.labels((policy.policy,)).add()

    def words(self, policy: BodyLimit) -> Iterator[str]:
        yield f"refuse bodies of more than {policy.max_bytes} bytes ({policy.policy})"


class _Counting(Part):
    """Counts what comes of a body whose length nobody has told."""

    __slots__ = ("_filter", "_policy", "_size")

    def __init__(self, filter: BodyLimiting, policy: BodyLimit) -> None:
        self._filter = filter
        self._policy = policy
        self._size = 0

    def request_body(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > self._policy.max_bytes:
            self._filter.count(self._policy)
            raise BodyTooLong
        return data
