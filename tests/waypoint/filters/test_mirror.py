"""The selection of requests to copy; `tests/conformance/test_mirrors.py` tests the copies."""

import pytest

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName, Peer, RequestHead
from policies.chance import Chance
from policies.mirror import Mirror
from policies.opaque import OpaqueTable
from policies.route import RouteTable
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination
from waypoint.filters.filter import Filtering
from waypoint.filters.mirror import Mirroring

ONE, TWO = (Mirror(ClusterName(name), 1, 4) for name in ("one", "two"))


@pytest.mark.parametrize(("roll", "wanted"), [(0.24, (ONE.cluster, TWO.cluster)), (0.25, ())])
def test_a_share_of_requests_wants_the_clusters_of_its_mirrors(roll: float, wanted: tuple[ClusterName, ...]) -> None:
    rolled: list[str] = []

    def dice(chance: str) -> float:
        rolled.append(chance)
        return roll

    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, RouteTable([]), OpaqueTable())
    head, filter_ = RequestHead(b"GET", b"app", b"/", b"", []), Mirroring()
    request = Filtering({Mirror: filter_}, destination, Peer(None, "10.0.0.1", 1), head, dice, 0.0)

    request.run((ONE, TWO))

    assert (request.wanted, len(request.parts), request.acts) == (wanted, len(wanted), ())
    assert rolled == [Chance.MIRROR] * 2
    assert filter_.count == 0  # nothing is sent by deciding
