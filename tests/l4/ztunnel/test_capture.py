"""Where a ztunnel listens for the connections that a pod asks it to capture."""

import pytest

from l4.ztunnel.capture import InvalidCapture, listeners
from tests.kit.workloads import pod, registry, service

REVIEWS = service("reviews", "127.96.0.4", ports={9080: 9080})
RATINGS = service("ratings", "10.96.7.5", "fd00::5", ports={80: 9080, 81: 9081})
KNOWN = registry(REVIEWS, RATINGS)


def test_a_prefix_shows_every_service_at_the_low_bits_of_its_address() -> None:
    client = pod("client", "127.64.0.1", capture="127.129.0.0/16")

    assert listeners(KNOWN, client) == {
        ("127.129.0.4", 9080): ("127.96.0.4", 9080),
        ("127.129.7.5", 80): ("10.96.7.5", 80),
        ("127.129.7.5", 81): ("10.96.7.5", 81),
    }


def test_services_may_be_captured_at_their_own_addresses() -> None:
    client = pod("client", "127.64.0.1", capture="127.96.0.0/16")

    assert listeners(KNOWN, client)["127.96.0.4", 9080] == ("127.96.0.4", 9080)


def test_an_entry_may_name_one_address_and_where_it_leads() -> None:
    client = pod("client", "127.64.0.1", capture="127.0.0.1:8080=127.96.0.4:9080, [::1]:81=[fd00::5]:80,")

    assert listeners(KNOWN, client) == {
        ("127.0.0.1", 8080): ("127.96.0.4", 9080),
        ("::1", 81): ("fd00::5", 80),
    }


def test_a_pod_without_the_annotation_has_no_listeners() -> None:
    assert listeners(KNOWN, pod("client", "127.64.0.1")) == {}


@pytest.mark.parametrize(
    "capture",
    ["127.129.0.1/16", "fd00::/64", "everything", "127.0.0.1=127.96.0.4:9080", "127.0.0.1:8080=", "127.0.0.1:0=a:1"],
)
def test_an_entry_that_cannot_be_understood_is_named_with_its_pod(capture: str) -> None:
    client = pod("client", "127.64.0.1", capture=f"127.130.0.0/16,{capture}")

    with pytest.raises(InvalidCapture) as refusal:
        listeners(KNOWN, client)

    assert f"pywaypoint.dev/outbound-capture of pod default/client: {capture!r}" in str(refusal.value)


@pytest.mark.parametrize("capture", ["127.0.0.1:8080=127.0.0.1:8080", "127.0.0.1:1=127.0.0.1:2,127.0.0.1:2=1.1.1.1:2"])
def test_a_capture_that_leads_to_a_capture_is_refused(capture: str) -> None:
    client = pod("client", "127.64.0.1", capture=capture)

    with pytest.raises(InvalidCapture, match="is a captured address itself"):
        listeners(KNOWN, client)


@pytest.mark.parametrize("capture", ["127.0.0.1:8080=some.host:80", "localhost:8080=127.96.0.4:9080"])
def test_only_addresses_can_be_captured_not_names(capture: str) -> None:
    client = pod("client", "127.64.0.1", capture=capture)

    with pytest.raises(InvalidCapture, match="is not an IP address"):
        listeners(KNOWN, client)
