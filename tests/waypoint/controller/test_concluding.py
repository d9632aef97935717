from l4.config.documents import ObjectKey
from l4.config.settings import Settings
from tests.kit.api_server import ApiServer, ApiServerSource
from tests.waypoint.controller.objects import MESH, gateway, policy, route, service
from waypoint.controller.concluding import EVERYTHING, READ, Concluded, Concluding

WHOLE = MESH + gateway("east") + service("cart", "east") + route("front", "name: cart")
FRONT = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "shop", "front")
CART = ObjectKey("", "Service", "shop", "cart")


class Told:
    """What is concluded from the answers of an API server."""

    def __init__(self, text: str = WHOLE) -> None:
        self.server = ApiServer()
        self._source = ApiServerSource(self.server)
        self._concluding = Concluding(self._source, Settings(), "example.com/ours", "default", lambda concluded: None)
        self.server.apply(text)

    def first(self) -> Concluded:
        return self._concluding.conclude(self._source._everything())

    def next(self, *texts: str) -> Concluded:
        for text in texts:
            self.server.apply(text)
        return self._concluding.conclude(self._source._changes())


def test_at_first_all_is_looked_at_with_the_statuses_that_are_there() -> None:
    concluded = Told().first()

    assert concluded.looked_at is None
    assert concluded.wanted.keys() == {FRONT, CART}
    assert {it.key for it in concluded.changed} == {FRONT, CART}
    assert all("status" in it.content for it in concluded.changed if it.key == FRONT)
    assert concluded.unknown == set()


def test_a_status_that_was_written_is_known_and_not_compiled() -> None:
    told = Told()
    first = told.first()

    written = told.next(route("front", "name: cart", status="{parents: []}"))

    assert written.wanted is first.wanted
    assert written.looked_at == {FRONT}
    assert [it.content["status"] for it in written.changed] == [{"parents": []}]


def test_what_another_object_changes_is_looked_at() -> None:
    told = Told()
    told.first()

    concluded = told.next(service("cart").replace("port: 80", "port: 81"))

    assert concluded.looked_at == {FRONT, CART}
    assert concluded.wanted == {}


def test_objects_that_are_gone_are_told_of_after_a_new_list_too() -> None:
    told = Told()
    told.first()
    told.server.delete("HTTPRoute", "front")

    assert told.first().gone == (FRONT,)


def test_nothing_is_told_while_a_kind_on_which_all_depends_is_unknown() -> None:
    told = Told()
    told.server.refuse("", "Service")

    refused = told.first()
    told.server.allow("", "Service")
    allowed = told.next()

    assert refused.unknown == {EVERYTHING}
    assert [it.problem.subject for it in refused.doubts] == ["Service *"]
    assert (allowed.unknown, allowed.looked_at) == (set(), None)
    assert allowed.wanted.keys() == {FRONT, CART}


def test_a_policy_that_is_unknown_concerns_its_own_kind_alone() -> None:
    told = Told()
    told.server.refuse("security.istio.io", "RequestAuthentication")
    told.server.refuse("", "ConfigMap")

    unknown = told.first().unknown

    security = "security.istio.io"
    assert unknown == {(security, "RequestAuthentication"), (security, "AuthorizationPolicy")}


def test_nothing_is_told_of_an_object_that_cannot_be_decoded() -> None:
    """Its entries may be right, and nobody knows."""
    told = Told(WHOLE + policy("slow", "cart").replace("kind: Service", "kind: Pod"))

    assert told.first().undecoded == {ObjectKey("pywaypoint.dev", "FaultPolicy", "shop", "slow")}


def test_pods_and_their_endpoints_are_not_read() -> None:
    kinds = {kind for _, kind in READ}

    assert kinds.isdisjoint({"Pod", "EndpointSlice", "Endpoints", "Node"})
    assert {"Service", "Namespace", "Gateway", "GatewayClass", "ReferenceGrant", "ServiceEntry"} <= kinds
