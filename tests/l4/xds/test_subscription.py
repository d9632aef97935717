"""What one client lacks, by what it asked for and by what it has."""

from collections.abc import Iterable

import pytest

from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status
from l4.xds import offer as offer_module
from l4.xds import subscription as module
from l4.xds.offer import Described, Offer, Offered, TooOld
from l4.xds.subscription import Subscription, TooMany

SERVICE, ONE, TWO, OTHER = "ns/s.x", "c//Pod/ns/a", "c//Pod/ns/b", "c//Pod/ns/z"
Told = tuple[list[str], list[str]] | None


def offered(name: str, content: str = "", keys: tuple[str, ...] = ()) -> Offered:
    return Offered.of("t", name, Status(message=content or name), aliases=keys, rank=0 if name == SERVICE else 1)


def mesh() -> Offer:
    it = Offer("t")
    its = {
        SERVICE: offered(SERVICE, keys=("/10.1.0.1",)),
        ONE: offered(ONE, keys=("/10.0.0.1", SERVICE, "node:n")),
        TWO: offered(TWO, keys=("/10.0.0.2", SERVICE)),
        OTHER: offered(OTHER, keys=("/10.0.0.9",)),
    }
    it.put(Described(its))
    return it


def request(
    subscribe: Iterable[str] = (), unsubscribe: Iterable[str] = (), known: dict[str, str] | None = None
) -> DeltaDiscoveryRequest:
    return DeltaDiscoveryRequest(
        resource_names_subscribe=subscribe, resource_names_unsubscribe=unsubscribe, initial_resource_versions=known
    )


def nothing(known: dict[str, str] | None = None, subscribe: tuple[str, ...] = ()) -> DeltaDiscoveryRequest:
    """As a ztunnel begins that asks on demand."""
    return request(("*", *subscribe), ("*",), known)


def told(it: Subscription) -> Told:
    """Changed and removed names."""
    lacking = it.lacking()
    if lacking is None:
        return None
    response = DeltaDiscoveryResponse.FromString(lacking.response("t", "n"))
    assert (response.type_url, response.nonce) == ("t", "n")
    return [resource.name for resource in response.resources], list(response.removed_resources)


def versions(offer: Offer) -> dict[str, str]:
    return {name: its.version for name in offer if (its := offer.get(name)) is not None}


@pytest.mark.parametrize("first", [request(), request(["*"])])
def test_everything_services_first(first: DeltaDiscoveryRequest) -> None:
    it = Subscription(mesh(), first)

    assert it.is_due
    assert told(it) == ([SERVICE, ONE, TWO, OTHER], [])
    assert not it.is_due
    assert told(it) is None


def test_the_first_response_comes_even_if_it_is_empty() -> None:
    assert told(Subscription(Offer("t"), request())) == ([], [])


def test_changes_of_any_number_become_one_response() -> None:
    offer = mesh()
    it = Subscription(offer, request())
    it.lacking()
    for number in range(10):
        offer.put(Described({ONE: offered(ONE, str(number)), "new": offered("new", str(number))}))
    offer.put(Described({}, (TWO,)))

    assert told(it) == ([ONE, "new"], [TWO])


def test_after_a_reconnect_only_the_difference_is_sent() -> None:
    offer = mesh()
    known = versions(offer) | {OTHER: "", "gone": "1"}
    offer.put(Described({ONE: offered(ONE, "changed")}))

    assert told(Subscription(offer, request(known=known))) == ([ONE, OTHER], ["gone"])


def test_on_demand_nothing_comes_but_what_belongs_to_the_node() -> None:
    offer = mesh()

    assert told(Subscription(offer, nothing())) == ([], [])
    assert told(Subscription(offer, nothing(), "node:n")) == ([ONE], [])


def test_a_name_an_address_and_what_belongs_to_a_service() -> None:
    it = Subscription(mesh(), nothing())
    it.lacking()
    for asked, expected in (
        (OTHER, ([OTHER], [])),
        ("/10.0.0.9", ([OTHER], [])),
        ("/10.1.0.1", ([SERVICE, ONE, TWO], [])),
        (SERVICE, ([SERVICE, ONE, TWO], [])),
        ("/10.9.9.9", ([], ["/10.9.9.9"])),
    ):
        it.take(request([asked]))

        assert it.is_due
        assert told(it) == expected


def test_changes_come_of_what_was_asked_for_and_of_what_came_with_it() -> None:
    offer = mesh()
    it = Subscription(offer, nothing())
    it.take(request(["/10.1.0.1", "/10.7.7.7"]))
    it.lacking()

    offer.put(Described({OTHER: offered(OTHER, "changed")}))
    assert told(it) is None

    offer.put(Described({"new": offered("new", keys=(SERVICE,)), ONE: offered(ONE, "changed")}))
    assert told(it) == ([ONE, "new"], [])

    offer.put(Described({"late": offered("late", keys=("/10.7.7.7",))}, (TWO, OTHER)))
    assert told(it) == (["late"], [TWO])


def test_what_is_unsubscribed_comes_no_more() -> None:
    offer = mesh()
    it = Subscription(offer, nothing())
    it.take(request([OTHER]))
    it.lacking()

    it.take(request(unsubscribe=[OTHER]))
    offer.put(Described({OTHER: offered(OTHER, "changed")}))

    assert told(it) is None


def test_a_reconnect_on_demand() -> None:
    offer = mesh()
    known = {OTHER: versions(offer)[OTHER], TWO: "old", "gone": "1", "/10.0.0.1": ""}
    it = Subscription(offer, nothing(known, tuple(known)))

    assert told(it) == ([ONE, TWO], ["gone"])
    offer.put(Described({OTHER: offered(OTHER, "changed")}))
    assert told(it) == ([OTHER], [])


def test_a_client_that_is_too_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer_module, "_MAX_GONE", 0)
    offer = mesh()
    it = Subscription(offer, request())
    it.lacking()
    offer.put(Described({}, (ONE,)))

    with pytest.raises(TooOld):
        it.lacking()


def test_there_is_a_limit_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_NAMES", 2)
    it = Subscription(mesh(), nothing())
    it.take(request(["a", "b"]))

    with pytest.raises(TooMany):
        it.take(request(["c"]))
