"""The order of policies, and what a rule has of them."""

from policies.attributes import ClusterName
from policies.cors import Cors
from policies.fault import Fault
from policies.filters import NO_FILTERS, ORDER, Filters, in_order
from policies.mirror import Mirror
from policies.rate_limit import RateLimits

LIMITS, FAULT, CORS = RateLimits("limits", ()), Fault(), Cors(())
ONE, TWO = (Mirror(ClusterName(name)) for name in ("one", "two"))


def test_policies_stand_in_their_order_whatever_order_they_come_in() -> None:
    assert in_order([TWO, CORS, ONE, FAULT, LIMITS]) == (LIMITS, FAULT, CORS, TWO, ONE)


def test_limits_come_before_authorizers_and_these_before_faults() -> None:
    names = list(ORDER.values())

    assert names.index("limits") < names.index("authorizer") < names.index("fault_plan") < names.index("cors")


def test_a_policy_is_found_by_its_type() -> None:
    filters = Filters(policies=(CORS, ONE, TWO))

    assert (filters.get(Cors), filters.get(Mirror), filters.get(Fault)) == (CORS, ONE, None)
    assert NO_FILTERS.get(Cors) is None
