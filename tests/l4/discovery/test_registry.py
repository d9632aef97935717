from itertools import permutations

from l4.discovery.registry import Moved, Registry
from tests.kit.workloads import pod, service


def test_of_two_workloads_with_one_address_that_which_speaks_hbone_is_meant() -> None:
    plain, hbone, late = pod("a", "10.0.0.1", speaks_hbone=False), pod("b", "10.0.0.1"), pod("c", "10.0.0.1")

    found = {
        workload.name
        for order in permutations((plain, hbone, late))
        if (workload := Registry.build([], order).workload_at("10.0.0.1")) is not None
    }

    assert found == {"b"}


def test_of_two_services_with_one_address_the_first_by_hostname_is_meant() -> None:
    registry = Registry.build([service("b", "10.1.0.1", ports={}), service("a", "10.1.0.1", ports={})], [])

    found = registry.service_at("10.1.0.1")

    assert found is not None
    assert found.name == "a"


def test_what_is_unknown_is_none() -> None:
    registry = Registry()

    assert registry.service_at("10.1.0.1") is None
    assert registry.service_named("default", "a") is None
    assert registry.workload_at("10.0.0.1") is None
    assert registry.workloads_on("here") == ()


def test_it_knows_the_services_of_a_workload_however_they_change() -> None:
    one, other = pod("one", "10.0.0.1"), pod("other", "10.0.0.2")
    a, b = service("a", ports={80: 1}, pods=[one]), service("b", ports={80: 2}, pods=[one, other])
    registry = Registry.build([b, a], [one, other])

    def names(registry: Registry, uid: str) -> list[tuple[str, list[int]]]:
        return [(it.name, list(endpoint.ports.values())) for it, endpoint in registry.services_of(uid)]

    changes = [Moved(b, service("b", ports={80: 3}, pods=[other])), Moved(a, None)]
    c = service("c", ports={80: 4}, pods=[one])
    later = registry.updated({}, {}, [*changes, Moved(None, c)], (), {})

    assert names(registry, one.uid) == [("a", [1]), ("b", [2])]
    assert names(registry, other.uid) == [("b", [2])]
    assert names(later, one.uid) == [("c", [4])]
    assert names(later, other.uid) == [("b", [3])]
    assert names(later, "nobody") == []
