"""All possible results of a request, with their probabilities."""

from dataclasses import dataclass, replace

import pytest

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName, Headers, Peer, RequestHead
from policies.fault import Abort, Delay, Fault
from policies.filters import Filters
from policies.header_format import FormattedHeader, HeaderFormat
from policies.opaque import OpaqueTable
from policies.rewrite import HeaderEdit
from policies.route import Match, Route, RouteTable, Rule, WeightedBackend
from policies.wire_text import header_name
from waypoint.ask.possibilities import possibilities
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination
from waypoint.filters.filter import Answer, Filter, Filtering
from waypoint.filters.live import ASKING

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
    routes = RouteTable(
        [Route(Match(), Rule("rule", BACKENDS, filters=Filters(policies=(fault,) if fault is not None else ())))]
    )
    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, routes, OpaqueTable())
    head = RequestHead(b"GET", b"app", b"/", b"", Headers())

    found = possibilities(destination, Peer(None, "127.0.0.1", 1), head, now=0.0)

    assert {str(it.cluster or (it.error and it.error.status)): pytest.approx(it.share) for it in found} == shares


@dataclass(frozen=True)
class Maybe:
    """Answers a share of the requests, by a chance that nothing but its filter knows."""

    share: float


class Chancy(Filter[Maybe]):
    types = (Maybe,)

    def request_head(self, policy: Maybe, request: Filtering) -> None:
        if request.strikes("maybe", policy.share):
            request.answer(Answer(418, [], "maybe"))


def test_whatever_a_filter_leaves_to_chance_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ASKING.by_type, Maybe, Chancy())
    policies = (Fault(abort=Abort(500, 0.5)), Maybe(0.5))
    routes = RouteTable([Route(Match(), Rule("rule", BACKENDS, Filters(policies=policies)))])
    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, routes, OpaqueTable())
    head = RequestHead(b"GET", b"app", b"/", b"", Headers())

    found = possibilities(destination, Peer(None, "127.0.0.1", 1), head, now=0.0)

    shares = {str(it.cluster or (it.answer or it.error).status): it.share for it in found}  # type: ignore[union-attr]
    assert shares == pytest.approx({"500": 0.5, "418": 0.25, "v1": 0.1875, "v2": 0.0625})


def test_values_that_are_found_out_for_each_request_leave_the_backends_what_they_are() -> None:
    format_ = HeaderFormat.parse("%REQ(:path)%")
    assert isinstance(format_, HeaderFormat)
    edit = HeaderEdit(formatted=(FormattedHeader(header_name(b"x-path"), format_),))
    backends = tuple(replace(it, filters=Filters(request_edit=edit)) for it in BACKENDS)
    routes = RouteTable([Route(Match(), Rule("rule", backends))])
    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, routes, OpaqueTable())
    head = RequestHead(b"GET", b"app", b"/a", b"", Headers())

    found = possibilities(destination, Peer(None, "127.0.0.1", 1), head, now=0.0)

    assert [it.backend for it in found] == [0, 1]
    assert all(it.head is not None and it.head.headers == [(b"x-path", b"/a")] for it in found)
    assert not head.headers
