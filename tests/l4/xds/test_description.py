"""Whoever knows the mesh from our discovery server knows it as well as who reads the objects."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import ours, setups
from l4._proto import workload_pb2 as wire
from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from l4.config import manifest
from l4.config.source import Documents
from l4.discovery.mesh import Mesh
from l4.xds.applying_policies import ApplyingPolicies
from l4.xds.subscription import Subscription
from tests.kit.served import Client, Served, assert_same
from tests.l4.discovery.test_index import STEPS, Objects

MESH = Mesh()
ROOT = Path(__file__).parents[3]
MESHES = {
    **{it.stem: it.read_text() for it in sorted((ROOT / "tests/golden").glob("*.in.yaml"))},
    "bench": ours.manifests(setups.FULL, endpoint="127.0.0.3", jwks=""),
}


@pytest.mark.parametrize("name", MESHES)
def test_the_meshes_of_this_project(name: str) -> None:
    documents, _ = manifest.parse(name, MESHES[name].encode())
    unique = {it.key: it for it in documents}
    served = Served(MESH)
    served.take(Documents(tuple(unique[key] for key in sorted(unique))))

    assert_same(served, Client(served, MESH).follow(), MESH)


_POLICIES = (
    "selector: {matchLabels: {app: a}}, action: DENY, rules: [{to: [{operation: {ports: ['8080']}}]}]",
    "selector: {matchLabels: {app: a}}, rules: [{from: [{source: {namespaces: [admin]}}]}]",
    "rules: [{from: [{source: {principals: ['*/sa/a']}}, {source: {ipBlocks: [10.0.0.0/24], notPrincipals: ['*']}}]}]",
    "rules: [{to: [{operation: {methods: [GET]}}]}]",
    "action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]",
    "action: DENY, rules: [{when: [{key: source.trustDomain, values: [elsewhere]}]}]",
    "rules: [{when: [{key: connection.sni, notValues: [a]}, {key: source.trustDomain, notValues: [elsewhere]}]}]",
    "rules: []",
    "bad: true",
)
_AUTHENTICATIONS = (
    "mtls: {mode: STRICT}",
    "selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}",
    "selector: {matchLabels: {app: b}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {80: {mode: STRICT}}",
)


def _policy(name: str, namespace: str, spec: str) -> tuple[str, str]:
    kind = "AuthorizationPolicy" if spec in _POLICIES else "PeerAuthentication"
    place = f"metadata: {{name: {name}, namespace: {namespace}}}"
    text = f"{{apiVersion: security.istio.io/v1, kind: {kind}, {place}, spec: {{{spec}}}}}" if spec else ""
    return f"{name}-{namespace}", text


_POLICY_STEPS = st.lists(
    st.builds(
        _policy,
        st.sampled_from(("one", "two")),
        st.sampled_from(("default", "istio-system")),
        st.sampled_from((*_POLICIES, *_AUTHENTICATIONS, "")),
    ),
    max_size=2,
)
_WAYPOINT = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: nowhere, namespace: default}
spec: {gatewayClassName: pywaypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.1.0.2}]}
"""


@given(STEPS, st.lists(_POLICY_STEPS, min_size=8, max_size=8), st.sampled_from(("", _WAYPOINT)))
def test_changes_arrive(
    steps: list[list[tuple[str, str]]], policies: list[list[tuple[str, str]]], waypoint: str
) -> None:
    objects, state, served = Objects(), {"waypoint": waypoint}, Served(MESH)
    served.take(Documents(objects.documents(state)))
    client = Client(served, MESH)
    assert_same(served, client.follow(), MESH)

    for step, more in zip(steps, policies, strict=False):
        state.update(step)
        state.update(more)
        served.take(Documents(objects.documents(state)))

        assert_same(served, client.follow(), MESH)
        assert_same(served, Client(served, MESH).follow(), MESH)


_MESH = """
apiVersion: v1
kind: Service
metadata: {name: app, namespace: default, labels: {istio.io/use-waypoint: waypoint}}
spec: {clusterIP: 10.1.0.1, ports: [{name: web, port: 80, targetPort: 8080}], selector: {app: a}, PUBLISH}
---
apiVersion: v1
kind: Service
metadata: {name: waypoint, namespace: default}
spec: {clusterIP: 10.1.0.2, ports: [{name: hbone, port: 15008}], selector: {app: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: default}
spec: {gatewayClassName: pywaypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: Hostname, value: waypoint.default.svc.cluster.local}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-admins, namespace: default}
spec: {selector: {matchLabels: {app: a}}, rules: [{from: [{source: {namespaces: [admin]}}]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: default}
spec:
  hosts: ["*.example.com"]
  addresses: [10.3.0.0/16]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: NONE
"""


def mesh(*pods: str, publish: str = "") -> Documents:
    text = "\n---\n".join((_MESH.replace(", PUBLISH", publish), *pods))
    documents, problems = manifest.parse("mesh.yaml", text.encode())
    assert not problems
    return Documents(tuple(sorted(documents, key=lambda it: it.key)))


def pod(name: str, ip: str, app: str = "a", ready: bool = True, account: str = "a") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: default
  labels: {{app: {app}}}
  annotations: {{ambient.istio.io/redirection: enabled}}
spec: {{serviceAccountName: {account}, nodeName: n}}
status: {{podIP: {ip}, phase: Running, conditions: [{{type: Ready, status: "{ready}"}}]}}
"""


@pytest.fixture
def served() -> Served:
    it = Served(MESH)
    it.take(mesh())
    return it


def test_a_waypoint_is_let_in_where_only_some_are_allowed(served: Served) -> None:
    client = Client(served, MESH)
    app, waypoint = pod("a", "10.0.0.1"), pod("w", "10.0.0.8", "waypoint", account="w")
    for pods in ((app,), (app, waypoint), (app, pod("w", "10.0.0.9", "waypoint", account="other")), (app,)):
        served.take(mesh(*pods))
        state = client.follow()

        assert_same(served, state, MESH)
        names = state.registry.workloads["Kubernetes//Pod/default/a"].authorization_policies
        assert names == ("default/istio_allow_waypoint_default_waypoint", "default/only-admins")


def test_endpoints_that_are_not_ready(served: Served) -> None:
    client = Client(served, MESH)
    ready, unready = pod("a", "10.0.0.1"), pod("b", "10.0.0.2", ready=False)
    for publish in ("", ", publishNotReadyAddresses: true"):
        for pods in ((unready,), (ready, unready), (ready,), (ready, pod("b", "10.0.0.2"))):
            served.take(mesh(*pods, publish=publish))

            assert_same(served, client.follow(), MESH)


def test_what_leads_elsewhere_passes_through(served: Served) -> None:
    response = Subscription(served.addresses, DeltaDiscoveryRequest()).lacking()
    assert response is not None
    its = [
        wire.Address.FromString(it.resource.value)
        for it in DeltaDiscoveryResponse.FromString(response.response("", "")).resources
    ]

    (outside,) = (it.service for it in its if it.service.hostname == "*.example.com")
    assert outside.load_balancing.mode == wire.LoadBalancing.PASSTHROUGH
    assert [(str(ipaddress.ip_address(it.address)), it.length) for it in outside.addresses] == [("10.3.0.0", 16)]


def test_a_change_sends_what_it_changes(served: Served) -> None:
    pods = [pod(f"p{number}", f"10.0.1.{number}") for number in range(50)]
    served.take(mesh(*pods))
    client = Client(served, MESH)
    client.follow()
    assert client.received == 55

    served.take(mesh(pod("p0", "10.0.1.0", ready=False), *pods[1:]))
    client.follow()

    assert client.received == 56


def test_a_new_policy_of_all_changes_the_policy_alone(served: Served) -> None:
    served.take(mesh(*(pod(f"p{number}", f"10.0.1.{number}") for number in range(5))))
    before = served.addresses.sequence
    deny = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: deny, namespace: default}}"

    served.take(mesh(*(pod(f"p{number}", f"10.0.1.{number}") for number in range(5)), deny))

    assert served.addresses.sequence == before
    assert served.policies.get("default/deny") is not None


def test_a_service_that_nobody_sees_is_not_sent(served: Served) -> None:
    hidden = (
        _MESH.split("---")[-1]
        .replace("outside", "hidden")
        .replace("*.example", "hidden")
        .replace("spec:", 'spec:\n  exportTo: ["~"]')
    )
    served.take(mesh(hidden.replace("10.3.", "10.4.")))

    assert served.addresses.get("default/hidden.com") is None
    assert_same(served, Client(served, MESH).follow(), MESH)


def test_after_an_exception_everything_is_described(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(served, MESH)
    client.follow()
    with monkeypatch.context() as patch:
        patch.setattr(ApplyingPolicies, "take", lambda *its: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            served.take(mesh(pod("a", "10.0.0.1")))

    served.take(mesh(pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))

    assert_same(served, client.follow(), MESH)
