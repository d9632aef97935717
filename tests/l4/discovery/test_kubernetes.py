import pytest

from l4.discovery.mesh import Mesh
from l4.discovery.objects import ServicePortSpec
from l4.discovery.ports import app_protocol
from l4.discovery.workload import AppProtocol, Nearness, Scope, ServicePort, TunnelProtocol, Workload, usable
from policies.attributes import Identity
from tests.kit.discovery import registry_in


def pod(name: str, ip: str, **parts: str) -> str:
    """A document; `labels`, `metadata`, `spec` and `status` are the insides of flow mappings."""
    part = {"labels": "", "metadata": "", "spec": "", "status": ""} | parts
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{{part["labels"]}}}, {part["metadata"]}}}
spec: {{{part["spec"]}}}
status: {{podIP: "{ip}", {part["status"]}}}
"""


def service(name: str, spec: str) -> str:
    return f"\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


def slice_of(service_name: str, ports: str, endpoints: str, name: str = "slice") -> str:
    return f"""
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service_name}}}}}
addressType: IPv4
ports: {ports}
endpoints: {endpoints}
"""


def only_workload(text: str) -> Workload:
    (workload,) = registry_in(text).workloads.values()
    return workload


def members(text: str, name: str = "reviews") -> dict[str, dict[int, int]]:
    """The endpoints of a service that may be picked: workload → its ports."""
    found = registry_in(text).service_named("default", name)
    assert found is not None
    return {endpoint.workload.addresses[0]: dict(endpoint.ports) for endpoint in usable(found.endpoints)}


# -- workloads -----------------------------------------------------------------------------------------------------


def test_a_pod_is_a_workload() -> None:
    text = pod("reviews-v1-0", "10.0.0.1", spec="serviceAccountName: bookinfo-reviews, nodeName: here")

    registry = registry_in(text, Mesh(trust_domain="example.com", cluster_id="east", network="lan"))

    workload = registry.workloads["east//Pod/default/reviews-v1-0"]
    assert workload.identity == Identity("example.com", "default", "bookinfo-reviews")
    assert (workload.addresses, workload.node, workload.network) == (("10.0.0.1",), "here", "lan")
    assert registry.workload_at("10.0.0.1") is workload
    assert registry.workloads_on("here") == (workload,)
    assert registry.workloads_on("there") == ()


def test_a_pod_without_service_account_runs_as_default() -> None:
    assert only_workload(pod("a", "10.0.0.1")).identity.service_account == "default"


def test_a_pod_is_found_by_each_of_its_addresses() -> None:
    registry = registry_in(pod("a", "10.0.0.1", status='podIPs: [{ip: 10.0.0.1}, {ip: "FD00::1"}]'))

    assert registry.workload_at("fd00::1") is registry.workload_at("10.0.0.1") is not None


def test_a_pod_without_address_is_not_there_yet() -> None:
    assert registry_in("{apiVersion: v1, kind: Pod, metadata: {name: a}}").workloads == {}


@pytest.mark.parametrize(
    ("parts", "protocol"),
    [
        ({}, TunnelProtocol.NONE),
        ({"metadata": "annotations: {ambient.istio.io/redirection: enabled}"}, TunnelProtocol.HBONE),
        ({"metadata": "annotations: {ambient.istio.io/redirection: pending}"}, TunnelProtocol.NONE),
        ({"labels": "networking.istio.io/tunnel: http"}, TunnelProtocol.HBONE),
        ({"labels": "networking.istio.io/tunnel: 'other,http'"}, TunnelProtocol.HBONE),
        ({"labels": "networking.istio.io/tunnel: https"}, TunnelProtocol.NONE),
    ],
)
def test_a_pod_says_whether_it_speaks_hbone(parts: dict[str, str], protocol: TunnelProtocol) -> None:
    assert only_workload(pod("a", "10.0.0.1", **parts)).tunnel_protocol is protocol


@pytest.mark.parametrize(
    ("parts", "is_healthy"),
    [
        ({}, True),
        ({"status": "phase: Running"}, True),
        ({"status": "phase: Pending"}, False),
        ({"status": "conditions: [{type: Ready, status: 'True'}]"}, True),
        ({"status": "conditions: [{type: Ready, status: 'False'}]"}, False),
        ({"status": "conditions: [{type: ContainersReady, status: 'False'}]"}, True),
        ({"metadata": "deletionTimestamp: 2026-01-01T00:00:00Z"}, False),
    ],
)
def test_a_pod_is_healthy_while_it_is_ready_and_stays(parts: dict[str, str], is_healthy: bool) -> None:
    assert only_workload(pod("a", "10.0.0.1", **parts)).is_healthy is is_healthy


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_the_address_of_a_pod_that_is_over_belongs_to_the_next(phase: str) -> None:
    registry = registry_in(pod("a", "10.0.0.1", status=f"phase: {phase}") + pod("b", "10.0.0.1"))

    assert [workload.name for workload in registry.workloads.values()] == ["b"]


def test_a_pod_on_its_nodes_network_is_not_found_by_address() -> None:
    registry = registry_in(pod("a", "10.0.0.1", spec="hostNetwork: true"))

    assert registry.workload_at("10.0.0.1") is None
    assert len(registry.workloads) == 1


@pytest.mark.parametrize(
    ("name", "parts", "expected"),
    [
        ("a", {}, ("a", "pod")),
        ("reviews-v1-6f7-x2x", {"labels": "pod-template-hash: 6f7"}, ("reviews-v1", "deployment")),
        ("reviews-v1-6f7-x2x", {}, ("reviews-v1-6f7-x2x", "pod")),
        (
            "odd",
            {
                "labels": "pod-template-hash: 6f7",
                "metadata": "ownerReferences: [{kind: ReplicaSet, name: reviews-v1-6f7}]",
            },
            ("reviews-v1", "deployment"),
        ),
        ("db-0", {"metadata": "ownerReferences: [{kind: StatefulSet, name: db}]"}, ("db", "pod")),
        ("copy-x", {"metadata": "ownerReferences: [{kind: Job, name: copy}]"}, ("copy", "job")),
        ("copy-x", {"metadata": "ownerReferences: [{kind: Job, name: copy-29406360}]"}, ("copy", "cronjob")),
        ("copy-x", {"metadata": "ownerReferences: [{kind: Job, name: copy-1234567}]"}, ("copy-1234567", "job")),
        ("web-6f7-x", {"labels": "rollouts-pod-template-hash: 6f7"}, ("web", "deployment")),
        (
            "odd",
            {
                "labels": "rollouts-pod-template-hash: 6f7",
                "metadata": "ownerReferences: [{kind: ReplicaSet, name: web-6f7}]",
            },
            ("web", "deployment"),
        ),
        (
            "odd",
            {
                "metadata": "ownerReferences: [{kind: It, name: b}, {kind: StatefulSet, name: db, controller: true}]",
            },
            ("db", "pod"),
        ),
        (
            "db-1-x",
            {
                "labels": "deploymentconfig: db",
                "metadata": "ownerReferences: [{kind: ReplicationController, name: db-1}]",
            },
            ("db", "pod"),
        ),
        (
            "copy-x",
            {
                "labels": "service.istio.io/workload-name: copies",
                "metadata": "ownerReferences: [{kind: Job, name: copy-29406360}]",
            },
            ("copies", "cronjob"),
        ),
    ],
)
def test_a_workload_is_named_after_what_made_the_pod(
    name: str, parts: dict[str, str], expected: tuple[str, str]
) -> None:
    workload = only_workload(pod(name, "10.0.0.1", **parts))

    assert (workload.workload_name, workload.workload_type) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("", ("a", "latest")),
        ("app: reviews, version: v1", ("reviews", "v1")),
        ("app: x, version: x, app.kubernetes.io/name: reviews, app.kubernetes.io/version: v1", ("reviews", "v1")),
        (
            "app.kubernetes.io/name: x, app.kubernetes.io/version: x, "
            "service.istio.io/canonical-name: reviews, service.istio.io/canonical-revision: v1",
            ("reviews", "v1"),
        ),
    ],
)
def test_canonical_names_come_from_labels_as_istio_reads_them(labels: str, expected: tuple[str, str]) -> None:
    workload = only_workload(pod("a", "10.0.0.1", labels=labels))

    assert (workload.canonical_name, workload.canonical_revision) == expected


# -- workload entries ------------------------------------------------------------------------------------------------


def entry(name: str, address: str, **parts: str) -> str:
    """A document; `labels`, `metadata` and `spec` are the insides of flow mappings."""
    part = {"labels": "", "metadata": "", "spec": ""} | parts
    return f"""
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, labels: {{{part["labels"]}}}, {part["metadata"]}}}
spec: {{address: "{address}", {part["spec"]}}}
"""


@pytest.mark.parametrize(
    ("parts", "protocol"),
    [
        ({}, TunnelProtocol.NONE),
        ({"labels": "networking.istio.io/tunnel: http"}, TunnelProtocol.HBONE),
        ({"spec": "labels: {networking.istio.io/tunnel: http}"}, TunnelProtocol.HBONE),
        ({"metadata": "annotations: {ambient.istio.io/redirection: enabled}"}, TunnelProtocol.HBONE),
    ],
)
def test_a_workload_entry_says_whether_it_speaks_hbone(parts: dict[str, str], protocol: TunnelProtocol) -> None:
    assert only_workload(entry("vm", "10.0.0.1", **parts)).tunnel_protocol is protocol


def test_a_workload_entry_is_known_as_istiod_has_it() -> None:
    workload = only_workload(
        entry("vm", "10.0.0.1", labels="version: v2", spec="labels: {app: db, version: v1}, serviceAccount: db")
    )

    assert workload.uid == "Kubernetes/networking.istio.io/WorkloadEntry/default/vm"
    assert workload.labels == {"app": "db", "version": "v2"}
    assert (workload.workload_name, workload.canonical_name, workload.canonical_revision) == ("vm", "db", "v2")
    assert workload.identity == Identity("cluster.local", "default", "db")


def test_a_workload_entry_is_on_the_meshs_network_unless_it_says_otherwise() -> None:
    def network(spec: str) -> str:
        (workload,) = registry_in(entry("vm", "10.0.0.1", spec=spec), Mesh(network="lan")).workloads.values()
        return workload.network

    assert (network(""), network("network: wan")) == ("lan", "wan")


def test_weight_0_is_no_weight_and_not_sick() -> None:
    workload = only_workload(entry("vm", "10.0.0.1", spec="weight: 0"))

    assert (workload.is_healthy, workload.capacity) == (True, 1)


def test_workload_entries_that_registered_themselves_are_named_after_their_group() -> None:
    workload = only_workload(entry("vm-7", "10.0.0.1", metadata="annotations: {istio.io/autoRegistrationGroup: vms}"))

    assert workload.workload_name == "vms"


@pytest.mark.parametrize("pieces", ["", slice_of("reviews", "[{port: 80}]", "[{addresses: [10.0.0.9]}]")])
def test_a_service_selects_workload_entries_whether_it_has_slices_or_not(pieces: str) -> None:
    ports = "[{port: 80}, {port: 81, name: b}, {port: 82, name: c, targetPort: web}, {port: 83, targetPort: other}]"
    text = (
        service("reviews", f"selector: {{app: reviews}}, ports: {ports}")
        + entry("vm", "10.0.0.1", labels="app: reviews", spec="ports: {web: 9080, b: 9081}")
        + entry("elsewhere", "10.0.0.2", labels="app: other")
        + pieces
    )

    assert members(text)["10.0.0.1"] == {80: 80, 81: 9081, 82: 9080}


def test_a_service_selects_workload_entries_that_have_a_name_for_an_address() -> None:
    text = service("reviews", "selector: {app: reviews}, ports: [{port: 80}]") + entry(
        "vm", "VM.example.com", labels="app: reviews, networking.istio.io/tunnel: http"
    )

    (named,) = registry_in(text).services["reviews.default.svc.cluster.local"].names

    assert (named.name, named.ports) == ("vm.example.com", {80: 80})
    assert named.workload.tunnel_identity == Identity("cluster.local", "default", "default")


# -- services ------------------------------------------------------------------------------------------------------


def test_a_service_is_found_by_hostname_name_and_address() -> None:
    text = service("reviews", "clusterIP: 10.1.0.1, clusterIPs: [10.1.0.1, 'FD00::1'], ports: [{port: 80, name: http}]")

    registry = registry_in(text, Mesh(cluster_domain="example.com"))

    found = registry.services["reviews.default.svc.example.com"]
    assert found.addresses == ("10.1.0.1", "fd00::1")
    assert found.ports == (ServicePort(80, "http", AppProtocol.HTTP),)
    assert registry.service_at("fd00::1") is registry.service_named("default", "reviews") is found


@pytest.mark.parametrize("address", ["clusterIP: None, clusterIPs: [None]", "clusterIP: ''", ""])
def test_a_headless_service_has_no_address(address: str) -> None:
    assert registry_in(service("a", address)).services["a.default.svc.cluster.local"].addresses == ()


def test_an_external_name_is_not_served() -> None:
    assert registry_in(service("a", "type: ExternalName, externalName: example.com")).services == {}


def test_ports_that_carry_no_tcp_are_left_out() -> None:
    registry = registry_in(service("a", "ports: [{port: 53, protocol: UDP}, {port: 53}]"))

    assert [port.port for port in registry.services["a.default.svc.cluster.local"].ports] == [53]


def test_a_selector_selects_pods_of_its_namespace_that_have_all_of_its_labels() -> None:
    text = (
        service("reviews", "selector: {app: reviews, version: v1}, ports: [{port: 80, targetPort: 9080}, {port: 81}]")
        + pod("a", "10.0.0.1", labels="app: reviews, version: v1, other: x")
        + pod("b", "10.0.0.2", labels="app: reviews, version: v2")
        + pod("c", "10.0.0.3", labels="app: reviews, version: v1", metadata="namespace: other")
    )

    assert members(text) == {"10.0.0.1": {80: 9080, 81: 81}}


def test_a_service_without_selector_selects_nothing() -> None:
    assert members(service("reviews", "ports: [{port: 80}]") + pod("a", "10.0.0.1")) == {}


def test_a_named_target_port_is_looked_up_in_each_pod() -> None:
    text = (
        service("reviews", "selector: {app: reviews}, ports: [{port: 80, targetPort: web}]")
        + pod("a", "10.0.0.1", labels="app: reviews", spec="containers: [{ports: [{containerPort: 9, name: web}]}]")
        + pod("b", "10.0.0.2", labels="app: reviews", spec="containers: [{}, {ports: [{containerPort: 8, name: web}]}]")
        + pod("c", "10.0.0.3", labels="app: reviews")
    )

    assert members(text) == {"10.0.0.1": {80: 9}, "10.0.0.2": {80: 8}, "10.0.0.3": {}}


def test_endpoint_slices_come_before_the_selector() -> None:
    text = (
        service("reviews", "selector: {app: reviews}, ports: [{port: 80, name: http}, {port: 81, name: tcp}]")
        + pod("a", "10.0.0.1", labels="app: reviews")
        + pod("b", "10.0.0.2")
        + slice_of(
            "reviews",
            "[{name: http, port: 9080}, {name: udp, port: 5, protocol: UDP}]",
            "[{addresses: [10.0.0.2], targetRef: {kind: Pod, name: b}}]",
        )
    )

    assert members(text) == {"10.0.0.2": {80: 9080}}


def test_endpoints_that_are_not_ready_or_go_away_are_left_out() -> None:
    endpoints = """[
        {addresses: [10.0.0.1]},
        {addresses: [10.0.0.2], conditions: {ready: null}},
        {addresses: [10.0.0.3], conditions: {ready: false}},
        {addresses: [10.0.0.4], conditions: {ready: true, terminating: true}}]"""

    text = service("reviews", "ports: [{port: 80}]") + slice_of("reviews", "[{port: 80}]", endpoints)

    assert members(text) == {"10.0.0.1": {80: 80}, "10.0.0.2": {80: 80}}


SERVED = "[{addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}}]"


def test_endpoints_that_go_away_and_still_serve_stand_in_when_no_other_is_left() -> None:
    text = service("reviews", "ports: [{port: 80}]") + slice_of("reviews", "[{port: 80}]", SERVED)
    ready = slice_of("reviews", "[{port: 80}]", "[{addresses: [10.0.0.2]}]", "more")
    done = SERVED.replace("serving: true", "serving: false")

    assert members(text) == {"10.0.0.1": {80: 80}}
    assert members(text + ready) == {"10.0.0.2": {80: 80}}
    assert members(service("reviews", "ports: [{port: 80}]") + slice_of("reviews", "[{port: 80}]", done)) == {}


def test_pods_that_go_away_and_still_serve_stand_in_when_no_other_is_left() -> None:
    leaving = pod("a", "10.0.0.1", labels="app: reviews", metadata="deletionTimestamp: 2026-01-01T00:00:00Z")
    text = service("reviews", "selector: {app: reviews}, ports: [{port: 80}]") + leaving

    assert members(text) == {"10.0.0.1": {80: 80}}
    assert members(text + pod("b", "10.0.0.2", labels="app: reviews")) == {"10.0.0.2": {80: 80}}
    assert members(text.replace("podIP: ", "conditions: [{type: Ready, status: 'False'}], podIP: ")) == {}


@pytest.mark.parametrize(
    "members_of_it",
    [
        pod("a", "10.0.0.1", labels="app: reviews", status="conditions: [{type: Ready, status: 'False'}]"),
        slice_of("reviews", "[{port: 80}]", "[{addresses: [10.0.0.1], conditions: {ready: false}}]"),
    ],
)
def test_a_service_that_publishes_what_is_not_ready_leads_there(members_of_it: str) -> None:
    spec = "selector: {app: reviews}, ports: [{port: 80}], publishNotReadyAddresses: "

    assert members(service("reviews", spec + "true") + members_of_it) == {"10.0.0.1": {80: 80}}
    assert members(service("reviews", spec + "false") + members_of_it) == {}


ENDPOINTS = """
---
apiVersion: v1
kind: Endpoints
metadata: {name: reviews}
subsets:
- addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2, nodeName: n1}]
  notReadyAddresses: [{ip: 10.0.0.3}]
  ports: [{port: 9080}]
"""


def test_endpoints_say_where_a_service_without_selector_leads() -> None:
    text = service("reviews", "ports: [{port: 80}]") + ENDPOINTS + pod("b", "10.0.0.2")

    assert members(text) == {"10.0.0.1": {80: 9080}, "10.0.0.2": {80: 9080}}
    found = registry_in(text).services["reviews.default.svc.cluster.local"].endpoints
    assert "b" in {it.workload.name for it in found}


def test_slices_and_selectors_come_before_endpoints() -> None:
    piece = slice_of("reviews", "[{port: 80}]", "[{addresses: [10.0.0.9]}]")

    assert members(service("reviews", "ports: [{port: 80}]") + ENDPOINTS + piece) == {"10.0.0.9": {80: 80}}
    assert members(service("reviews", "selector: {a: b}, ports: [{port: 80}]") + ENDPOINTS) == {}


def test_an_empty_slice_as_kubectl_prints_it_means_no_endpoints() -> None:
    text = (
        service("reviews", "selector: {app: reviews}, ports: [{port: 80}]")
        + pod("a", "10.0.0.1", labels="app: reviews")
        + slice_of("reviews", "null", "null")
    )

    assert members(text) == {}


def test_an_endpoint_without_reference_is_the_pod_at_its_address() -> None:
    text = (
        service("reviews", "ports: [{port: 80}]")
        + pod("a", "10.0.0.1")
        + slice_of("reviews", "[{port: 80}]", "[{addresses: ['::ffff:10.0.0.1']}]")
    )

    (endpoint,) = registry_in(text).services["reviews.default.svc.cluster.local"].endpoints

    assert endpoint.workload.name == "a"


def test_a_pod_that_stands_in_a_slice_per_family_is_one_endpoint() -> None:
    reference = "targetRef: {kind: Pod, name: a}"
    text = (
        service("reviews", "ports: [{port: 80}]")
        + pod("a", "10.0.0.1", status="podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]")
        + slice_of("reviews", "[{port: 80}]", f"[{{addresses: [10.0.0.1], {reference}}}]", "v4")
        + slice_of("reviews", "[{port: 80}]", f"[{{addresses: ['fd00::1'], {reference}}}]", "v6")
    )

    assert len(registry_in(text).services["reviews.default.svc.cluster.local"].endpoints) == 1


def test_an_address_that_is_no_pods_is_a_workload_reached_in_plain_tcp() -> None:
    text = service("db", "ports: [{port: 80}]") + slice_of("db", "[{port: 80}]", "[{addresses: [192.0.2.1]}]")

    registry = registry_in(text)

    workload = registry.workload_at("192.0.2.1")
    assert workload is not None
    assert workload.uid == "Kubernetes/discovery.k8s.io/EndpointSlice/default/slice/192.0.2.1"
    assert (workload.tunnel_protocol, workload.workload_name) == (TunnelProtocol.NONE, "db")
    assert members(text, "db") == {"192.0.2.1": {80: 80}}


@pytest.mark.parametrize(
    ("name", "app", "expected"),
    [
        ("", None, AppProtocol.UNKNOWN),
        ("http", None, AppProtocol.HTTP),
        ("HTTP-web", None, AppProtocol.HTTP),
        ("http2-web", None, AppProtocol.HTTP2),
        ("grpc", None, AppProtocol.GRPC),
        ("grpc-web", None, AppProtocol.GRPC_WEB),
        ("tcp-x", None, AppProtocol.TCP),
        ("https", None, AppProtocol.TLS),
        ("httpx", None, AppProtocol.UNKNOWN),
        ("http", "tcp", AppProtocol.TCP),
        ("tcp", "kubernetes.io/h2c", AppProtocol.HTTP2),
        ("tcp", "kubernetes.io/ws", AppProtocol.HTTP),
        ("http", "example.com/own", AppProtocol.UNKNOWN),
    ],
)
def test_a_ports_protocol_is_declared_by_app_protocol_or_else_by_its_name(
    name: str, app: str | None, expected: AppProtocol
) -> None:
    assert app_protocol(ServicePortSpec(80, name, app_protocol=app)) is expected


# -- where things are ------------------------------------------------------------------------------------------------

NODE = """
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/region: us, topology.kubernetes.io/zone: us-east}}
"""


@pytest.mark.parametrize(
    ("labels", "locality"),
    [("app: a", "us/us-east"), ("istio-locality: eu.west.a", "eu/west/a"), ("istio-locality: eu/west.1", "eu/west.1")],
)
def test_a_pod_is_where_its_node_is_or_where_its_own_label_says(labels: str, locality: str) -> None:
    assert only_workload(NODE + pod("a", "10.0.0.1", labels=labels, spec="nodeName: n1")).locality == locality


def test_a_pod_without_a_known_node_is_nowhere() -> None:
    assert only_workload(NODE + pod("a", "10.0.0.1", spec="nodeName: n2")).locality == ""


def test_an_address_of_a_slice_is_where_its_node_is() -> None:
    text = NODE + service("reviews", "ports: [{port: 80}]")
    text += slice_of("reviews", "[{port: 80}]", "[{addresses: [10.0.0.1], nodeName: n1}]")

    assert only_workload(text).locality == "us/us-east"


def test_how_a_service_distributes_is_its_field_or_its_annotation() -> None:
    by_field = service("one", "trafficDistribution: PreferClose, ports: [{port: 80}]")
    annotation = "annotations: {networking.istio.io/traffic-distribution: PreferSameNode}"
    by_annotation = service("two", "ports: [{port: 80}]").replace("name: two", f"name: two, {annotation}")

    registry = registry_in(by_field + by_annotation)

    found = {it.name: it.traffic_distribution for it in registry.services.values()}
    assert found == {"one": "PreferClose", "two": "PreferSameNode"}


NEAR = Scope.NETWORK, Scope.REGION, Scope.ZONE


@pytest.mark.parametrize(
    ("spec", "nearness"),
    [
        ("ports: [{port: 80}]", Nearness()),
        ("trafficDistribution: PreferClose, ports: [{port: 80}]", Nearness(NEAR)),
        ("trafficDistribution: PreferSameZone, ports: [{port: 80}]", Nearness(NEAR)),
        (
            "trafficDistribution: PreferSameNode, ports: [{port: 80}]",
            Nearness((*NEAR, Scope.SUBZONE, Scope.NODE)),
        ),
        ("internalTrafficPolicy: Cluster, ports: [{port: 80}]", Nearness()),
        (
            "internalTrafficPolicy: Local, trafficDistribution: PreferClose, ports: [{port: 80}]",
            Nearness((Scope.NODE,), is_strict=True),
        ),
    ],
)
def test_a_service_says_which_endpoints_are_near(spec: str, nearness: Nearness) -> None:
    (it,) = registry_in(service("one", spec)).services.values()

    assert it.nearness == nearness
