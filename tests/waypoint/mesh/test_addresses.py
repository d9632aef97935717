import pytest

from waypoint.mesh.addresses import Addresses, AddressesExhausted, in_view


def including(earlier: Addresses, *pods: str, services: tuple[str, ...] = (), taken: tuple[str, ...] = ()) -> Addresses:
    return earlier.including(services=services, taken=taken, pods=pods, views=pods)


def test_services_pods_and_views_come_from_blocks_of_their_own() -> None:
    addresses = including(Addresses(), "default/details-0", services=("default/details",))

    assert addresses.services == {"default/details": "127.96.0.1"}
    assert addresses.pods == {"default/details-0": "127.64.0.1"}
    assert addresses.views == {"default/details-0": "127.128.0.0/16"}


def test_addresses_stay_when_others_come_and_go() -> None:
    first = including(Addresses(), "a", "b")

    without_a = including(first, "b", "c")
    with_a_again = including(without_a, "a", "b", "c")

    assert without_a.pods["b"] == first.pods["b"]
    assert with_a_again.pods["a"] == first.pods["a"]
    assert len(set(with_a_again.pods.values())) == 3


def test_a_service_avoids_the_low_bits_of_an_address_that_another_one_brought() -> None:
    addresses = including(Addresses(), services=("default/details",), taken=("10.20.0.1", "fd00::2"))

    assert addresses.services["default/details"] == "127.96.0.3"


def test_a_pod_reaches_a_service_at_its_own_block_and_the_low_bits_of_the_services_address() -> None:
    assert in_view("127.130.0.0/16", "127.96.3.4") == "127.130.3.4"
    assert in_view("127.130.0.0/16", "10.20.3.4") == "127.130.3.4"


def test_more_replicas_than_blocks_are_refused_with_a_sentence() -> None:
    names = [f"default/ratings-{index}" for index in range(127)]
    full = including(Addresses(), *names)

    with pytest.raises(AddressesExhausted, match=r"default/one-more.*room for 127 replicas"):
        including(full, "default/one-more")
