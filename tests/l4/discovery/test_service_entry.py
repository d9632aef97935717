"""What a ServiceEntry may say, and what services it makes."""

from dataclasses import replace

import pytest

from l4.config import manifest
from l4.config.resources import Decoder
from l4.discovery.kubernetes import KINDS, Mesh, registry_of
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol, Service
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
    found = registry_of(decoded.resources, Mesh())
    return replace(found, problems=(*problems, *decoded.problems, *found.problems))


def service(spec: str, *more: str) -> Service:
    [found] = registry(ENTRY % spec, *more).services.values()
    return found


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("{hosts: []}", "expected `array` of length >= 1"),
        ("{hosts: ['*']}", "hosts: '*' is no name such as api.example.com or *.example.com"),
        ("{hosts: ['a b']}", "hosts: 'a b' is no name"),
        ("{hosts: ['-']}", "hosts: '-' is no name"),
        ("{hosts: [a-.b]}", "hosts: 'a-.b' is no name"),
        (
            "{hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: http}],"
            " endpoints: [{address: 10.0.0.1, ports: {htpt: 8080}}]}",
            "no port of the entry is named 'htpt', but http",
        ),
        ("{hosts: ['*.example.com'], resolution: DNS}", "can't be looked up; a wildcard needs resolution NONE"),
        ("{hosts: [a.b], addresses: [x]}", "addresses: 'x' is neither an IP address nor a network"),
        ("{hosts: [a.b], ports: [{number: 1, name: a}, {number: 1, name: b}]}", "ports: two have the same number"),
        ("{hosts: [a.b], ports: [{number: 1, name: a}, {number: 2, name: a}]}", "ports: two have the same name"),
        ("{hosts: [a.b], ports: [{number: 0, name: a}]}", "expected `int` >= 1"),
        ("{hosts: [a.b], endpoints: [{address: 10.0.0.1}]}", "endpoints need resolution STATIC or DNS, not NONE"),
        ("{hosts: [a.b], resolution: STATIC, endpoints: [{address: c.d}]}", "'c.d' is no IP address"),
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


def test_a_service_of_kubernetes_keeps_its_host() -> None:
    kubernetes = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {clusterIP: 10.0.0.9}"

    found = service("{hosts: [a.b.svc.cluster.local], addresses: [10.0.0.8]}", kubernetes)

    assert not found.is_entry


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("{hosts: ['*.example.com']}", "wildcards are not carried out"),
        ("{hosts: [a.b], resolution: NONE, addresses: [10.0.0.0/24]}", "is carried out for a single address only"),
        ("{hosts: [a.b], resolution: DYNAMIC_DNS, addresses: [10.0.0.1]}", "is carried out for a single address only"),
    ],
)
def test_what_is_not_carried_out_is_told(spec: str, sentence: str) -> None:
    [problem] = registry(ENTRY % spec).problems

    assert sentence in problem.sentence
