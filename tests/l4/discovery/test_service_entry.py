"""Valid ServiceEntries, and the services that they define."""

from dataclasses import replace

import pytest

from l4.config import manifest
from l4.config.resources import Decoder
from l4.discovery.index import Index
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol, Follows, Service
from policies.attributes import Identity

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec: %s
"""


def registry(*texts: str) -> Registry:
    documents, problems = manifest.parse("mesh.yaml", "\n---\n".join(texts).encode())
    decoded = Decoder(KINDS).decode(documents)
    found = Index(decoded.resources, Mesh()).registry
    return replace(found, problems=(*problems, *decoded.problems, *found.problems))


def service(spec: str, *more: str) -> Service:
    [found] = registry(ENTRY % spec, *more).services.values()
    return found


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("{hosts: []}", "expected `array` of length >= 1"),
        ("{hosts: ['*']}", "hosts: '*' is not a name such as api.example.com or *.example.com"),
        ("{hosts: ['a b']}", "hosts: 'a b' is not a name"),
        ("{hosts: ['-']}", "hosts: '-' is not a name"),
        ("{hosts: [a-.b]}", "hosts: 'a-.b' is not a name"),
        (
            "{hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: http}],"
            " endpoints: [{address: 10.0.0.1, ports: {htpt: 8080}}]}",
            "the entry has no port named 'htpt'; its ports are http",
        ),
        ("{hosts: ['*.example.com'], resolution: DNS}", "cannot be resolved; a wildcard needs resolution NONE"),
        ("{hosts: [a.b], addresses: [x]}", "addresses: 'x' is neither an IP address nor a network"),
        (
            "{hosts: [a.b], ports: [{number: 1, name: a}, {number: 1, name: b}]}",
            "ports: two ports have the same number",
        ),
        ("{hosts: [a.b], ports: [{number: 1, name: a}, {number: 2, name: a}]}", "ports: two ports have the same name"),
        ("{hosts: [a.b], ports: [{number: 0, name: a}]}", "expected `int` >= 1"),
        ("{hosts: [a.b], endpoints: [{address: 10.0.0.1}]}", "endpoints need resolution STATIC or DNS, not NONE"),
        ("{hosts: [a.b], resolution: STATIC, endpoints: [{address: c.d}]}", "'c.d' is not an IP address"),
        ("{hosts: [a.b], resolution: STATIC, endpoints: [{address: 'unix:///x'}]}", "is a Unix socket"),
        ("{hosts: [a.b], resolution: DNS, endpoints: [{address: 'c d'}]}", "neither an IP address nor a host name"),
        (
            "{hosts: [a.b], resolution: STATIC, endpoints: [{address: 10.0.0.1}], workloadSelector: {labels: {a: b}}}",
            "endpoints and workloadSelector exclude each other",
        ),
    ],
)
def test_what_istio_would_refuse_is_refused(spec: str, sentence: str) -> None:
    found = registry(ENTRY % spec)

    assert not found.services
    assert sentence in found.problems[0].sentence


def test_each_host_is_a_service_with_the_entrys_ports() -> None:
    found = registry(
        ENTRY % "{hosts: [A.example.com, b.example.com], addresses: [10.9.0.1, 10.8.0.0/16], "
        "ports: [{number: 80, name: web, protocol: HTTP2}, {number: 443, name: https}]}"
    )

    assert set(found.services) == {"a.example.com", "b.example.com"}
    one = found.services["a.example.com"]
    assert (one.name, one.namespace, one.addresses, one.is_entry) == ("api", "shop", ("10.9.0.1",), True)
    assert [port.app_protocol for port in one.ports] == [AppProtocol.HTTP2, AppProtocol.TLS]
    assert found.service_named("shop", "api") is None


def test_addresses_that_istiod_assigned_count() -> None:
    [found] = registry(
        (ENTRY % "{hosts: [a.b]}")
        + "status: {addresses: [{value: 240.240.0.7, host: a.b}, {value: 240.240.0.8, host: c.d}]}"
    ).services.values()

    assert found.addresses == ("240.240.0.7",)


def test_static_endpoints_have_ports_of_their_own() -> None:
    found = service(
        "{hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: web, targetPort: 8080}], "
        "endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2, ports: {web: 9090}, weight: 5}]}"
    )

    assert [(it.workload.addresses, it.ports[80], it.workload.capacity) for it in found.endpoints] == [
        (("10.0.0.1",), 8080, 1),
        (("10.0.0.2",), 9090, 5),
    ]


def test_an_endpoint_that_is_a_pod_is_reached_as_that_pod() -> None:
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop, labels: {app: p}, annotations: {ambient.istio.io/redirection: enabled}}
status: {podIP: 10.0.0.1}
"""
    by_address = service("{hosts: [a.b], resolution: STATIC, endpoints: [{address: 10.0.0.1}]}", pod)
    by_label = service("{hosts: [a.b], resolution: STATIC, workloadSelector: {labels: {app: p}}}", pod)

    assert [it.workload.name for it in by_address.endpoints] == ["p"]
    assert [it.workload.name for it in by_label.endpoints] == ["p"]


def test_a_selector_means_workload_entries_too() -> None:
    entry = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: shop}
spec: {address: 10.1.0.1, labels: {app: p}, ports: {web: 81}}
"""
    found = service(
        "{hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: web}], workloadSelector: {labels: {app: p}}}",
        entry,
    )

    assert [(it.workload.addresses, it.ports) for it in found.endpoints] == [(("10.1.0.1",), {80: 81})]


def test_a_selected_pods_port_is_found_by_the_name_of_the_entrys() -> None:
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop, labels: {app: p}}
spec: {containers: [{ports: [{containerPort: 9080, name: web}]}]}
status: {podIP: 10.0.0.1}
"""
    ports = "[{number: 80, name: web}, {number: 81, name: other}, {number: 82, name: third, targetPort: 8082}]"

    found = service(
        f"{{hosts: [a.b], resolution: STATIC, ports: {ports}, workloadSelector: {{labels: {{app: p}}}}}}", pod
    )

    assert [it.ports for it in found.endpoints] == [{80: 9080, 81: 81, 82: 8082}]


@pytest.mark.parametrize(
    ("metadata", "endpoint"),
    [
        ("labels: {networking.istio.io/tunnel: http}", ""),
        ("annotations: {ambient.istio.io/redirection: enabled}", ""),
        ("", "labels: {networking.istio.io/tunnel: http}"),
    ],
)
def test_endpoints_in_an_entry_say_whether_they_speak_hbone(metadata: str, endpoint: str) -> None:
    entry = ENTRY.replace("namespace: shop", f"namespace: shop, {metadata}")
    spec = "{hosts: [a.b], resolution: DNS, endpoints: [{address: 10.0.0.1, %s}, {address: c.d, %s}]}"

    [found] = registry(entry % (spec % (endpoint, endpoint))).services.values()

    workloads = [it.workload for it in (*found.endpoints, *found.names)]
    assert [it.tunnel_identity for it in workloads] == [Identity("cluster.local", "shop", "default")] * 2


def test_a_host_is_not_looked_up_itself_where_a_selector_says_who_answers() -> None:
    assert service("{hosts: [a.b], resolution: DNS, workloadSelector: {labels: {app: p}}}").names == ()


def test_names_are_left_to_be_looked_up() -> None:
    itself = service("{hosts: [a.b], resolution: DNS, ports: [{number: 80, name: web}]}")
    others = service("{hosts: [a.b], resolution: DNS, endpoints: [{address: C.d, weight: 2}, {address: 10.0.0.1}]}")

    assert [(it.name, it.ports) for it in itself.names] == [("a.b", {80: 80})]
    assert [(it.name, it.weight) for it in others.names] == [("c.d", 2)]
    assert [it.workload.addresses for it in others.endpoints] == [("10.0.0.1",)]


def test_whoever_calls_the_address_of_an_entry_without_resolution_means_the_entry() -> None:
    found = registry(ENTRY % "{hosts: [a.b], addresses: [10.0.0.1], ports: [{number: 80, name: web}]}")

    assert found.service_at("10.0.0.1") is not None
    assert found.workload_at("10.0.0.1") is None
    assert [it.ports for it in found.services["a.b"].endpoints] == [{80: 80}]


def test_without_resolution_whoever_is_called_at_many_addresses_is_followed() -> None:
    spec = "{hosts: ['*.b'], addresses: [%s], ports: [{number: 80, name: web, targetPort: 8080}]}"

    single, many, network = (service(spec % it) for it in ("10.0.0.1", "10.0.0.1, 10.0.0.2", "10.0.0.0/24"))

    assert single.followed is None
    for found in (many, network):
        assert found.followed is not None
        assert (found.followed.by, found.followed.ports, found.endpoints) == (Follows.ADDRESS, {80: 80}, ())
    assert (many.addresses, network.networks) == (("10.0.0.1", "10.0.0.2"), ("10.0.0.0/24",))


def test_with_dynamic_dns_the_host_that_is_named_is_followed() -> None:
    ports = "[{number: 80, name: web, protocol: HTTP, targetPort: 8080}]"

    found = service(f"{{hosts: ['*.B'], resolution: DYNAMIC_DNS, ports: {ports}}}")

    assert found.followed is not None
    assert (found.followed.by, found.followed.hosts, found.followed.ports) == (Follows.HOST, "*.b", {80: 8080})


def test_a_service_is_found_by_its_networks_the_smallest_first() -> None:
    wide = ENTRY % "{hosts: [wide.b], addresses: [10.0.0.0/8, 'fd00::/8']}"
    narrow = (ENTRY % "{hosts: [narrow.b], addresses: [10.9.0.7/16]}").replace("name: api", "name: b")

    found = registry(wide, narrow)

    at = {ip: it.hostname for ip in ("10.1.0.1", "10.9.8.7", "fd12::1") if (it := found.service_at(ip)) is not None}
    assert at == {"10.1.0.1": "wide.b", "10.9.8.7": "narrow.b", "fd12::1": "wide.b"}
    assert found.service_at("11.0.0.1") is None


def test_a_host_is_found_by_its_longest_wildcard() -> None:
    found = registry(ENTRY % "{hosts: ['*.com', '*.example.com', a.example.com]}")

    def host(name: str) -> str | None:
        it = found.service_with(name)
        return it.hostname if it is not None else None

    assert [host(name) for name in ("a.example.com", "b.example.com", "c.d.example.com", "example.com", "com")] == [
        "a.example.com",
        "*.example.com",
        "*.example.com",
        "*.com",
        None,
    ]


@pytest.mark.parametrize(
    ("export_to", "seen_in"),
    [
        ("[]", {"shop", "other", "third"}),
        ("['*']", {"shop", "other", "third"}),
        ("['.']", {"shop"}),
        ("['.', other]", {"shop", "other"}),
        ("['~']", set()),
    ],
)
def test_an_entry_is_seen_where_it_is_exported_to(export_to: str, seen_in: set[str]) -> None:
    found = registry(ENTRY % f"{{hosts: [a.b], exportTo: {export_to}}}")

    assert {it for it in ("shop", "other", "third") if found.visible("a.b", it) is not None} == seen_in


def test_nobody_takes_a_part_of_an_older_entrys_network_in_another_namespace() -> None:
    old = (ENTRY % "{hosts: [a.b], addresses: [10.0.0.0/8]}").replace(
        "name: api", "name: api, creationTimestamp: '2024'"
    )
    new = (ENTRY % "{hosts: [c.d], addresses: [10.0.0.1, 10.1.0.0/16, 11.0.0.1]}").replace(
        "name: api", "name: late, creationTimestamp: '2025'"
    )

    other = registry(old, new.replace("namespace: shop", "namespace: other"))
    same = registry(old, new)

    def led(found: Registry) -> list[str | None]:
        services = (found.service_at(ip) for ip in ("10.0.0.1", "10.1.0.1", "11.0.0.1"))
        return [it.hostname if it is not None else None for it in services]

    assert led(other) == ["a.b", "a.b", "c.d"]
    assert [problem.sentence.split(" is already part of ")[0] for problem in other.problems] == [
        "10.0.0.1",
        "10.1.0.0/16",
    ]
    assert led(same) == ["c.d", "c.d", "c.d"]
    assert same.problems == ()


def test_a_service_of_kubernetes_keeps_its_host() -> None:
    kubernetes = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {clusterIP: 10.0.0.9}"

    found = service("{hosts: [a.b.svc.cluster.local], addresses: [10.0.0.8]}", kubernetes)

    assert not found.is_entry


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("{hosts: [a.b], resolution: DYNAMIC_DNS, location: MESH_INTERNAL}", "requires location MESH_EXTERNAL"),
        (
            "{hosts: ['*.b'], resolution: DYNAMIC_DNS, ports: [{number: 1, name: a, protocol: TCP}]}",
            "does not name a host to resolve",
        ),
    ],
)
def test_what_is_not_carried_out_is_told(spec: str, sentence: str) -> None:
    [problem] = registry(ENTRY % spec).problems

    assert sentence in problem.sentence
