import pytest

from l4.discovery.registry import Registry
from l4.discovery.workload import ApplicationTunnel, GatewayAddress
from tests.kit.discovery import registry_in

WAYPOINT = GatewayAddress(ip="10.2.0.1", namespace="default", gateway="w")


def objects(
    *,
    service: str = "",
    pod: str = "",
    namespace: str = "",
    gateway: str = "",
    gateway_namespace: str = "default",
    addresses: str = "[{value: 10.2.0.1}]",
    allowed: str = "{}",
    listener: str = "HBONE",
    gateway_class: str = "",
) -> Registry:
    """A service and a pod in namespace `default`, and Gateway `w`; the arguments are their labels."""
    return registry_in(f"""\
        apiVersion: v1
        kind: Namespace
        metadata: {{name: default, labels: {{{namespace}}}}}
        ---
        apiVersion: v1
        kind: Service
        metadata: {{name: s, labels: {{{service}}}}}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {{name: p, labels: {{{pod}}}}}
        status: {{podIP: 10.0.0.1}}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: GatewayClass
        metadata: {{name: pywaypoint, labels: {{{gateway_class}}}}}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {{name: w, namespace: {gateway_namespace}, labels: {{{gateway}}}}}
        spec:
          gatewayClassName: pywaypoint
          listeners:
          - {{name: mesh, port: 15008, protocol: {listener}, allowedRoutes: {allowed}}}
        status: {{addresses: {addresses}}}
        """)


def bound(registry: Registry) -> tuple[GatewayAddress | None, GatewayAddress | None]:
    """The waypoints of the service and of the pod."""
    (service,), (pod,) = registry.services.values(), registry.workloads.values()
    return service.waypoint, pod.waypoint


def sentences(registry: Registry) -> list[str]:
    return [str(problem) for problem in registry.problems]


USE = "istio.io/use-waypoint: w"


@pytest.mark.parametrize(
    ("labels", "whose"), [({"service": USE}, "Service default/s"), ({"namespace": USE}, "Namespace default")]
)
def test_a_binding_knows_whose_label_it_comes_from(labels: dict[str, str], whose: str) -> None:
    waypoint, _ = bound(objects(**labels))

    assert waypoint is not None
    assert waypoint.bound_by == whose


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, (None, None)),
        ({"service": USE}, (WAYPOINT, None)),
        ({"namespace": USE}, (WAYPOINT, None)),
        ({"namespace": USE, "gateway": "istio.io/waypoint-for: all"}, (WAYPOINT, WAYPOINT)),
        ({"namespace": USE, "gateway": "istio.io/waypoint-for: workload"}, (None, WAYPOINT)),
        ({"namespace": USE, "gateway": "istio.io/waypoint-for: none"}, (None, None)),
        ({"namespace": USE, "gateway_class": "istio.io/waypoint-for: workload"}, (None, WAYPOINT)),
        ({"pod": USE, "gateway": "istio.io/waypoint-for: workload"}, (None, WAYPOINT)),
        ({"namespace": USE, "service": "istio.io/use-waypoint: none"}, (None, None)),
        ({"service": f"{USE}, gateway.istio.io/managed: x"}, (None, None)),
        ({"namespace": USE, "service": "gateway.networking.k8s.io/gateway-name: w"}, (None, None)),
    ],
)
def test_labels_bind_services_and_pods_to_waypoints(
    labels: dict[str, str], expected: tuple[GatewayAddress | None, GatewayAddress | None]
) -> None:
    registry = objects(**labels)

    assert bound(registry) == expected
    assert registry.problems == ()


@pytest.mark.parametrize(
    ("on_gateway", "on_class", "expected"),
    [
        ("", "", None),
        ("PROXY/15088", "", ApplicationTunnel(15088, has_header=True)),
        ("", "NONE/8080", ApplicationTunnel(8080)),
        ("PROXY", "NONE/8080", ApplicationTunnel(0, has_header=True)),
        ("PROXY/", "", None),
        ("PROXY/0", "", None),
        ("TLS/15088", "NONE/8080", None),
    ],
)
def test_a_gateway_or_its_class_says_how_its_pods_take_connections(
    on_gateway: str, on_class: str, expected: ApplicationTunnel | None
) -> None:
    def annotations(value: str) -> str:
        return f"{{ambient.istio.io/waypoint-inbound-binding: {value}}}" if value else "{}"

    known = registry_in(f"""\
        apiVersion: v1
        kind: Pod
        metadata: {{name: w-1, labels: {{gateway.networking.k8s.io/gateway-name: w}}}}
        status: {{podIP: 10.0.0.1}}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {{name: p}}
        status: {{podIP: 10.0.0.2}}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: GatewayClass
        metadata: {{name: pywaypoint, annotations: {annotations(on_class)}}}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {{name: w, annotations: {annotations(on_gateway)}}}
        spec: {{gatewayClassName: pywaypoint}}
        """)

    found = {it.name: it.application_tunnel for it in known.workloads.values()}
    assert found == {"w-1": expected, "p": None}


def test_a_hostname_is_preferred_to_an_address() -> None:
    both = "[{value: 10.2.0.1}, {type: Hostname, value: w.default.svc.cluster.local}]"

    registry = objects(service=USE, addresses=both)

    assert bound(registry)[0] == GatewayAddress("w.default.svc.cluster.local", namespace="default", gateway="w")


@pytest.mark.parametrize("addresses", ["[]", "null", "[{type: example.com/own, value: x}]"])
def test_a_waypoint_without_address_is_not_used_and_that_is_told(addresses: str) -> None:
    registry = objects(service=USE, addresses=addresses)

    assert bound(registry) == (None, None)
    assert sentences(registry) == [
        "mesh.yaml:5: Service default/s metadata.labels[istio.io/use-waypoint]: "
        "waypoint default/w is not used: it has no address in its status yet; traffic bypasses it [PWP0201]"
    ]


def test_an_objects_own_label_leaves_no_way_back_to_that_of_its_namespace() -> None:
    registry = objects(service="istio.io/use-waypoint: missing", namespace=USE)

    assert bound(registry)[0] is None
    assert [it.subject for it in registry.problems] == ["Service default/s"]
    assert "the Gateway does not exist" in registry.problems[0].sentence


def test_what_a_namespaces_label_lacks_is_told_once_and_at_the_namespace() -> None:
    registry = objects(namespace="istio.io/use-waypoint: missing")

    assert bound(registry) == (None, None)
    assert [(it.subject, it.origin.line) for it in registry.problems] == [("Namespace default", 1)]


def test_an_own_label_that_names_a_waypoint_for_other_traffic_is_told() -> None:
    registry = objects(pod=USE)

    assert bound(registry) == (None, None)
    assert "it serves service traffic, not workload traffic" in registry.problems[0].sentence


@pytest.mark.parametrize(
    ("allowed", "listener", "is_bound"),
    [
        ("{}", "HBONE", False),
        ("{namespaces: {from: Same}}", "HBONE", False),
        ("{namespaces: {from: All}}", "HBONE", True),
        ("{namespaces: {from: All}}", "HTTP", False),
        ("{namespaces: {from: Selector, selector: {matchLabels: {team: books}}}}", "HBONE", True),
        ("{namespaces: {from: Selector, selector: {matchLabels: {team: films}}}}", "HBONE", False),
        (
            "{namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: default}}}}",
            "HBONE",
            True,
        ),
    ],
)
def test_a_waypoint_of_another_namespace_must_let_ours_in(allowed: str, listener: str, is_bound: bool) -> None:
    registry = objects(
        service=f"{USE}, istio.io/use-waypoint-namespace: infra",
        namespace="team: books",
        gateway_namespace="infra",
        allowed=allowed,
        listener=listener,
    )

    expected = GatewayAddress(ip="10.2.0.1", namespace="infra", gateway="w")
    assert bound(registry)[0] == (expected if is_bound else None)
    assert bool(registry.problems) is not is_bound


def test_a_namespaces_label_may_name_a_waypoint_of_another_namespace() -> None:
    registry = objects(
        namespace=f"{USE}, istio.io/use-waypoint-namespace: infra",
        gateway_namespace="infra",
        allowed="{namespaces: {from: All}}",
    )

    assert bound(registry)[0] == GatewayAddress(ip="10.2.0.1", namespace="infra", gateway="w")


# -- canaries ----------------------------------------------------------------------------------------------------------

CANARY = "istio.io/use-waypoint-canary: c"
WEIGHT = "istio.io/use-waypoint-canary-weight"


def shares(
    *, service: str = "", namespace: str = "", weights: tuple[str, str] = ("", ""), canary: str = ""
) -> tuple[dict[str, int], list[str]]:
    """What a service's Gateways `w` and `c` get, and the problems. `weights` are annotations of both objects, and
    `canary` are labels of Gateway `c`."""
    gateways = "".join(
        f"""
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {{name: {name}, labels: {{{labels}}}}}
        spec: {{gatewayClassName: any, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}
        status: {{addresses: [{{value: 10.2.0.{number}}}]}}
        """
        for number, (name, labels) in enumerate((("w", ""), ("c", canary)))
    )
    own, inherited = (f'{WEIGHT}: "{it}"' if it else "" for it in weights)
    registry = registry_in(f"""\
        apiVersion: v1
        kind: Namespace
        metadata: {{name: default, labels: {{{namespace}}}, annotations: {{{inherited}}}}}
        ---
        apiVersion: v1
        kind: Service
        metadata: {{name: s, labels: {{{service}}}, annotations: {{{own}}}}}
        {gateways}""")
    (found,) = registry.services.values()
    assert found.waypoint is None or found.waypoint.gateway == "w"
    return {it.waypoint.gateway: it.weight for it in found.shares}, [it.sentence for it in registry.problems]


@pytest.mark.parametrize(
    ("labels", "weights", "expected"),
    [
        ({"service": f"{USE}, {CANARY}"}, ("", ""), {"w": 100, "c": 0}),
        ({"service": f"{USE}, {CANARY}"}, ("10", ""), {"w": 90, "c": 10}),
        ({"service": f"{USE}, {CANARY}"}, ("100", ""), {"w": 0, "c": 100}),
        ({"namespace": f"{USE}, {CANARY}"}, ("", "10"), {"w": 90, "c": 10}),
        ({"namespace": f"{USE}, {CANARY}"}, ("20", "10"), {"w": 80, "c": 20}),
        ({"namespace": USE, "service": CANARY}, ("", "10"), {"w": 90, "c": 10}),
        ({"namespace": f"{USE}, {CANARY}", "service": "istio.io/use-waypoint-canary: none"}, ("", "10"), {}),
        ({"namespace": f"{USE}, {CANARY}", "service": USE}, ("", "10"), {}),
        ({"namespace": f"{USE}, {CANARY}", "service": "istio.io/use-waypoint: none"}, ("", "10"), {}),
        ({"service": CANARY}, ("10", ""), {}),
        ({"service": USE}, ("10", ""), {}),
    ],
)
def test_a_canary_gets_its_weight_of_a_service(
    labels: dict[str, str], weights: tuple[str, str], expected: dict[str, int]
) -> None:
    assert shares(**labels, weights=weights) == (expected, [])


@pytest.mark.parametrize(
    ("label", "weight", "gateway", "reason"),
    [
        ("c", "101", "", "its weight, the annotation istio.io/use-waypoint-canary-weight, is not between 0 and 100"),
        ("c", "ten", "", "its weight, the annotation istio.io/use-waypoint-canary-weight, is not between 0 and 100"),
        ("w", "10", "", "it is the waypoint itself"),
        ("missing", "10", "", "the Gateway does not exist"),
        ("c", "10", "istio.io/waypoint-for: workload", "it serves workload traffic, not service traffic"),
    ],
)
@pytest.mark.parametrize("level", ["service", "namespace"])
def test_a_canary_that_cannot_be_used_leaves_all_to_the_waypoint(
    level: str, label: str, weight: str, gateway: str, reason: str
) -> None:
    labels = {level: f"{USE}, istio.io/use-waypoint-canary: {label}"}
    weights = (weight, "") if level == "service" else ("", weight)

    found, problems = shares(**labels, weights=weights, canary=gateway)

    assert found == {}
    assert problems == [f"canary default/{label} is not used: {reason}; all traffic goes to the waypoint"]
