"""A decision depends on nothing but its inputs."""

from dataclasses import replace

import pytest

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName, Peer, RequestHead
from policies.chance import Chance
from policies.fault import Abort, Delay, Fault
from policies.filters import NO_FILTERS, Filters
from policies.mirror import Mirror
from policies.opaque import OpaqueTable
from policies.rate_limit import Limit, RateLimits, RateRule
from policies.rewrite import HeaderEdit
from policies.route import Match, Route, RouteTable, Rule, WeightedBackend
from waypoint.admission.decide import Decision, decide, edit_request
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination
from waypoint.filters.filter import Environment
from waypoint.filters.live import LiveFilters
from waypoint.metrics import waypoint_metrics

V1, V2, V3 = (ClusterName(name) for name in ("v1", "v2", "v3"))
MIRRORED = Filters(policies=(Mirror(V3, 1, 2),))


def decided(
    head: RequestHead, dice: dict[Chance, float], fault: Fault | None = None, filters: Filters = NO_FILTERS
) -> Decision:
    policies = (*((fault,) if fault is not None else ()), *filters.policies)
    filters = replace(filters, policies=policies) if policies else filters
    rule = Rule("rule", (WeightedBackend(V1), WeightedBackend(V2)), filters=filters)
    routes = RouteTable([Route(Match(), rule)])
    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, routes, OpaqueTable())
    return decide(destination, Peer(None, "127.0.0.1", 1), head, lambda chance: dice[Chance(chance)])


def a_head() -> RequestHead:
    return RequestHead(b"GET", b"app", b"/", b"", [])


@pytest.mark.parametrize(("point", "cluster"), [(0.25, V1), (0.75, V2)])
@pytest.mark.parametrize("fault", [None, Fault(Delay(1, 0.5)), Fault(Delay(1, 0.5), Abort(500, 0.5))])
@pytest.mark.parametrize("filters", [NO_FILTERS, MIRRORED])
def test_what_else_rolls_changes_no_backend(
    point: float, cluster: ClusterName, fault: Fault | None, filters: Filters
) -> None:
    dice = {Chance.BACKEND: point, Chance.DELAY: 0.1, Chance.ABORT: 0.9, Chance.MIRROR: 0.1}

    decision = decided(a_head(), dice, fault, filters)

    assert decision.cluster == cluster
    acts, wanted = ((), ()) if decision.filtering is None else (decision.filtering.acts, decision.filtering.wanted)
    assert bool(acts) == (fault is not None)
    assert wanted == ((V3,) if filters is MIRRORED else ())


def test_the_head_stays_as_it_is_until_it_is_edited() -> None:
    head = a_head()

    decision = decided(head, {Chance.BACKEND: 0.0}, filters=Filters(request_edit=HeaderEdit(set=((b"x-a", b"b"),))))

    assert head == a_head()
    edit_request(decision, head)
    assert head.headers == [(b"x-a", b"b")]


def test_deciding_takes_nothing_out_of_a_bucket() -> None:
    filters = LiveFilters(Environment(waypoint_metrics("test"), *[None] * 5))  # type: ignore[arg-type]
    limits = RateLimits("limits", (RateRule("all", "all", Limit(1, 1.0, 1e-9)),))
    rule = Rule("rule", (WeightedBackend(V1),), Filters(policies=(limits,)))
    routes = RouteTable([Route(Match(), rule)])
    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, routes, OpaqueTable())

    requests = [
        decide(destination, Peer(None, "127.0.0.1", 1), a_head(), lambda _: 0.5, filters=filters).filtering
        for _ in range(3)
    ]

    assert all(it is not None and it.ending is None for it in requests)
    for it in requests:
        assert it is not None
        it.acts[0]()
    assert [it is not None and it.ending is not None for it in requests] == [False, True, True]
