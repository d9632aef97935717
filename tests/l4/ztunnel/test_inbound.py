"""Whether a CONNECT may enter a pod, and where it leads."""

from dataclasses import replace

import pytest

from l4.discovery.workload import ApplicationTunnel
from l4.hbone.connect import Authority
from l4.telemetry.propagation import format_forwarded
from l4.ztunnel.inbound import Rejected, Target, target_of
from tests.kit.workloads import pod, registry, service

SERVER = pod("server", "10.0.0.2")
OTHER = pod("other", "10.0.0.3")
FIRST = service("first", "10.1.0.1", ports={80: 8080}, pods=[SERVER])
SECOND = service("second", "10.1.0.2", ports={81: 8080, 90: 9090}, pods=[SERVER, OTHER])
FOREIGN = service("foreign", "10.1.0.3", ports={80: 8080}, pods=[OTHER])
KNOWN = registry(FIRST, SECOND, FOREIGN)


def ask(host: str, port: int) -> Target | Rejected:
    return target_of(KNOWN, SERVER.uid, Authority(host, port), "10.0.0.2")


def test_the_pods_own_address_leads_to_the_same_port() -> None:
    target = ask("10.0.0.2", 8080)

    assert target == Target(SERVER, ("10.0.0.2", 8080), (FIRST, SECOND))


def test_a_services_hostname_leads_to_its_target_port_on_this_pod() -> None:
    target = ask(SECOND.hostname, 90)

    assert target == Target(SERVER, ("10.0.0.2", 9090), (SECOND,))


@pytest.mark.parametrize(
    ("host", "port", "rejected"),
    [
        ("10.0.0.3", 8080, Rejected(400, "ip mismatch: 10.0.0.3 != 10.0.0.2")),
        ("127.0.0.1", 8080, Rejected(400, "ip mismatch: 127.0.0.1 != 10.0.0.2")),
        ("10.1.0.1", 80, Rejected(400, "ip mismatch: 10.1.0.1 != 10.0.0.2")),
        (FOREIGN.hostname, 80, Rejected(400, f"{FOREIGN.hostname} is not a service of this workload")),
        ("nobody.default.svc", 80, Rejected(503, "no service or workload for hostname: nobody.default.svc")),
        (FIRST.hostname, 81, Rejected(503, f"no port for services: {FIRST.hostname}:81")),
        ("10.0.0.2", 15001, Rejected(503, "attempted recursive call to ourselves")),
        ("10.0.0.2", 15006, Rejected(503, "attempted recursive call to ourselves")),
        ("10.0.0.2", 15008, Rejected(503, "attempted recursive call to ourselves")),
    ],
)
def test_what_may_not_enter_is_told_the_status_that_ztunnel_gives(host: str, port: int, rejected: Rejected) -> None:
    assert ask(host, port) == rejected


PROXY = ApplicationTunnel(15088, has_header=True)


@pytest.mark.parametrize(
    ("tunnel", "host", "port", "to", "called"),
    [
        (PROXY, "10.1.0.3", 80, 15088, ("10.1.0.3", 80)),
        (PROXY, FOREIGN.hostname, 80, 15088, ("10.1.0.3", 80)),
        (PROXY, "10.0.0.2", 8080, 15088, ("10.0.0.2", 8080)),
        (ApplicationTunnel(0, has_header=True), "10.1.0.3", 80, 80, ("10.1.0.3", 80)),
        (ApplicationTunnel(15088), "10.1.0.3", 80, 15088, None),
        (ApplicationTunnel(), FOREIGN.hostname, 80, 80, None),
    ],
)
def test_a_pods_own_proxy_gets_what_is_for_others(
    tunnel: ApplicationTunnel, host: str, port: int, to: int, called: tuple[str, int] | None
) -> None:
    proxy = replace(SERVER, application_tunnel=tunnel)

    target = target_of(registry(proxy, FOREIGN), proxy.uid, Authority(host, port), "10.0.0.2")

    assert target == Target(proxy, ("10.0.0.2", to), (), called)


@pytest.mark.parametrize(
    ("tunnel", "host", "port", "reason"),
    [
        (PROXY, "nobody.default.svc", 80, "no address for hostname: nobody.default.svc"),
        (ApplicationTunnel(15008), "10.1.0.3", 80, "attempted recursive call to ourselves"),
        (ApplicationTunnel(), "10.1.0.3", 15006, "attempted recursive call to ourselves"),
    ],
)
def test_a_pods_own_proxy_gets_nothing_without_an_address_of_its_own_or_for_ourselves(
    tunnel: ApplicationTunnel, host: str, port: int, reason: str
) -> None:
    proxy = replace(SERVER, application_tunnel=tunnel)

    assert target_of(registry(proxy), proxy.uid, Authority(host, port), "10.0.0.2") == Rejected(503, reason)


def test_a_workload_that_is_no_longer_known_is_entered_by_nobody() -> None:
    rejected = target_of(registry(OTHER), SERVER.uid, Authority("10.0.0.2", 8080), "10.0.0.2")

    assert rejected == Rejected(503, "the workload is no longer known")


def test_telemetry_names_the_service_that_the_caller_meant() -> None:
    target = ask("10.0.0.2", 8080)

    assert isinstance(target, Target)
    assert target.service_for(format_forwarded("10.0.0.9", 4000, SECOND.hostname)) == SECOND


@pytest.mark.parametrize("host", ["", FOREIGN.hostname])
def test_telemetry_names_the_first_service_with_the_port_when_the_caller_names_none_of_the_pods(host: str) -> None:
    target = ask("10.0.0.2", 8080)

    assert isinstance(target, Target)
    assert target.service_for(format_forwarded("10.0.0.9", 4000, host)) == FIRST


def test_a_port_that_no_service_offers_has_no_service() -> None:
    target = ask("10.0.0.2", 22)

    assert isinstance(target, Target)
    assert target.service_for(format_forwarded("10.0.0.9", 4000, FIRST.hostname)) is None
