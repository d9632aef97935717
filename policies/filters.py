"""The policies that a rule, or one of its backends, applies to requests and responses.

Filters (`waypoint.filters`) carry out the policies. `ORDER` is their order: requests pass them in this order, responses
in the reverse one. The rule's own answer (a redirect, a fixed response) and its edits of requests come after them all;
its edits of responses come before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from policies.authorizer import Authorizer, CustomAuthorizers
from policies.cors import Cors
from policies.fault import Fault
from policies.fault_plan import FaultPlan
from policies.mirror import Mirror
from policies.rate_limit import RateLimits
from policies.rewrite import HeaderEdit, Redirect, UrlRewrite
from policies.session import SessionPersistence

ORDER: dict[type, str] = {
    CustomAuthorizers: "authorizers",  # of a destination, not of a rule: before tokens and routes
    RateLimits: "limits",
    Authorizer: "authorizer",
    FaultPlan: "fault_plan",
    Fault: "fault",
    Cors: "cors",
    SessionPersistence: "session",  # chooses the backend; what follows may stand at backends, too
    Mirror: "mirrors",
}
"""The types of policies that filters carry out, and their names in `/config_dump`."""

P = TypeVar("P")


def in_order(policies: Iterable[object]) -> tuple[object, ...]:
    """Sort policies. Several of one type keep their order."""
    places = {it: place for place, it in enumerate(ORDER)}
    return tuple(sorted(policies, key=lambda policy: places[type(policy)]))


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """A fixed response, in place of the endpoint's."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Filters:
    """`policies` are in the order of `ORDER`."""

    request_edit: HeaderEdit | None = None
    response_edit: HeaderEdit | None = None
    rewrite: UrlRewrite | None = None
    redirect: Redirect | None = None
    direct: DirectResponse | None = None
    policies: tuple[object, ...] = ()
    is_formatted: bool = field(init=False, repr=False)
    """Whether header values are found out for each request."""

    def __post_init__(self) -> None:
        edits = (self.request_edit, self.response_edit)
        object.__setattr__(self, "is_formatted", any(it is not None and it.formatted for it in edits))

    def get(self, kind: type[P]) -> P | None:
        """The first policy of a type."""
        return next((policy for policy in self.policies if isinstance(policy, kind)), None)


NO_FILTERS = Filters()
