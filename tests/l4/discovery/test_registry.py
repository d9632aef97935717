from itertools import permutations

from l4.discovery.registry import Registry
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
