"""The CORS filter; `tests/policies/test_cors.py` tests the policy."""

import pytest

from l4.discovery.workload import AppProtocol
from policies.attributes import Header, Peer, RequestHead, ResponseHead
from policies.cors import Cors, OriginPattern
from policies.opaque import OpaqueTable
from policies.route import RouteTable
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination
from waypoint.filters.cors import CrossOrigin
from waypoint.filters.filter import Answer, Filtering

CORS = Cors((OriginPattern(b"https://page"),), methods=(b"GET",), forwards_unmatched=False)
PAGE, OTHER = (b"origin", b"https://page"), (b"origin", b"https://other")
PREFLIGHT = (b"access-control-request-method", b"GET")


def filtered(method: bytes, *headers: Header, cors: Cors = CORS) -> Filtering:
    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, RouteTable([]), OpaqueTable())
    head = RequestHead(method, b"app", b"/", b"", [*headers])
    request = Filtering({Cors: CrossOrigin()}, destination, Peer(None, "10.0.0.1", 1), head, lambda _: 0.5, 0.0)
    request.run((cors,))
    return request


def test_a_preflight_is_answered() -> None:
    answer = filtered(b"OPTIONS", PAGE, PREFLIGHT).ending

    assert isinstance(answer, Answer)
    assert (answer.status, answer.detail) == (200, "cors_response")
    assert (b"access-control-allow-origin", b"https://page") in answer.headers


@pytest.mark.parametrize("forwards", [False, True])
def test_a_preflight_of_another_origin_is_allowed_nothing_or_goes_on(forwards: bool) -> None:
    cors = Cors(CORS.origins, forwards_unmatched=forwards)

    request = filtered(b"OPTIONS", OTHER, PREFLIGHT, cors=cors)

    assert request.ending == (None if forwards else Answer(200, [], "cors_response"))
    assert request.parts == ()


def test_a_response_names_the_page_that_asked() -> None:
    request, response = filtered(b"GET", PAGE), ResponseHead(200, [(b"access-control-allow-origin", b"*")])

    request.response_head(response, None)

    assert request.ending is None
    assert [value for name, value in response.headers if name == b"access-control-allow-origin"] == [b"https://page"]


def test_a_response_to_another_page_stays_as_it_is() -> None:
    request, response = filtered(b"GET", OTHER), ResponseHead(200, [])

    request.response_head(response, None)

    assert response.headers == []
