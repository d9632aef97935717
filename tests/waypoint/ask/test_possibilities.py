"""All that may become of a request, with the shares that chance gives each."""

import pytest

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName, Headers, Peer, RequestHead
from policies.fault import Abort, Delay, Fault
from policies.opaque import OpaqueTable
from policies.route import Match, Route, RouteTable, Rule, WeightedBackend
from waypoint.ask.possibilities import possibilities
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination

BACKENDS = (WeightedBackend(ClusterName("v1"), 3), WeightedBackend(ClusterName("v2"), 1))


@pytest.mark.parametrize(
    ("fault", "shares"),
    [
        (None, {"v1": 0.75, "v2": 0.25}),
        (Fault(Delay(1.0, 0.5)), {"v1": 0.75, "v2": 0.25}),
        (Fault(abort=Abort(500, 0.2)), {"500": 0.2, "v1": 0.6, "v2": 0.2}),
        (Fault(Delay(1.0, 0.5), Abort(500, 0.2)), {"500": 0.2, "v1": 0.6, "v2": 0.2}),
        (Fault(abort=Abort(500, 1.0)), {"500": 1.0}),
        (Fault(abort=Abort(500, 0.0)), {"v1": 0.75, "v2": 0.25}),
    ],
)
def test_an_abort_takes_its_share_before_the_backends(fault: Fault | None, shares: dict[str, float]) -> None:
    routes = RouteTable([Route(Match(), Rule("rule", BACKENDS, fault=fault))])
    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, routes, OpaqueTable())
    head = RequestHead(b"GET", b"app", b"/", b"", Headers())

    found = possibilities(destination, Peer(None, "127.0.0.1", 1), head, now=0.0)

    assert {str(it.cluster or (it.error and it.error.status)): pytest.approx(it.share) for it in found} == shares
