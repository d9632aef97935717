"""The objects of the matrix: accounts, pods, Services, Gateways, and the policies that hold all the time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.attributes import Identity

NAME = "matrix"
HBONE = 15008
WAYPOINTS = ("ours", "theirs")
"""Ours, and Istio's."""
ACCOUNTS = ("client", "stranger")
"""Who a client can be."""
DESTINATIONS = ("behind-ztunnel", "behind-envoy")
IMPOSTORS = ("right", "other-account", "other-root", "other-domain")
"""Pods that show a certificate other than that of their account, but for the first."""
PODS = ("waypoint", "theirs", "ztunnel-near", "ztunnel-far", *DESTINATIONS, *IMPOSTORS)


@dataclass(frozen=True)
class Port:
    """Of a Service, and of its pods."""

    service: int
    pod: int
    protocol: str


PORTS = {
    "http": Port(80, 8080, "http"),
    "h2c": Port(81, 8080, "kubernetes.io/h2c"),
    "grpc": Port(90, 7070, "grpc"),
    "own": Port(82, 8081, "http"),
    "tcp": Port(95, 8082, "tcp"),
}
"""Nothing listens behind the last two but what a test starts there."""


@dataclass(frozen=True)
class Service:
    """`app` selects pods by a label; all pods of the destinations have `app` and `is`."""

    vip: str
    selector: Mapping[str, str]
    waypoint: str = "waypoint"


SERVICES = {
    **{it: Service(f"10.97.0.{10 + number}", {"app": it}) for number, it in enumerate(DESTINATIONS)},
    **{
        f"theirs-{it}": Service(f"10.97.0.{15 + number}", {"app": it}, "theirs")
        for number, it in enumerate(DESTINATIONS)
    },
    "either": Service("10.97.0.20", {"is": "destination"}),
    "theirs-either": Service("10.97.0.21", {"is": "destination"}, "theirs"),
    **{f"to-{it}": Service(f"10.97.0.{30 + number}", {"app": it}) for number, it in enumerate(IMPOSTORS)},
    **{
        f"theirs-to-{it}": Service(f"10.97.0.{35 + number}", {"app": it}, "theirs")
        for number, it in enumerate(IMPOSTORS)
    },
    **{f"straight-to-{it}": Service(f"10.97.0.{40 + number}", {"app": it}, "") for number, it in enumerate(IMPOSTORS)},
    "misled": Service("10.97.0.50", {"is": "destination"}, "impostor"),
}


def identity(account: str) -> Identity:
    return Identity("cluster.local", NAME, account)


def behind(waypoint: str, service: str) -> str:
    """The name of the same Service with one of `WAYPOINTS`."""
    return service if waypoint == "ours" else f"{waypoint}-{service}"


def metadata(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": NAME, **more}


def accounts() -> list[dict[str, Any]]:
    names = (*ACCOUNTS, "waypoint", "ztunnel", "app")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}
    return [namespace, *({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(it)} for it in names)]


def services() -> list[dict[str, Any]]:
    made = []
    for name, it in SERVICES.items():
        labels = {"istio.io/use-waypoint": it.waypoint} if it.waypoint else {}
        ports = [
            {"name": name, "port": port.service, "targetPort": port.pod, "appProtocol": port.protocol}
            for name, port in PORTS.items()
        ]
        spec = {"clusterIP": it.vip, "selector": dict(it.selector), "ports": ports}
        made.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, labels=labels), "spec": spec})
    return made


TELLS_CLIENT = {"ambient.istio.io/xfcc-include-client-identity": "true"}
"""A waypoint with this annotation tells applications who it believes calls."""
LABELS_OF_THEIRS = {
    "gateway.networking.k8s.io/gateway-name": "theirs",
    "gateway.istio.io/managed": "istio.io-mesh-controller",
}


def gateways() -> list[dict[str, Any]]:
    """With the Service and the class that istiod makes for its waypoint."""
    group = {"apiVersion": "gateway.networking.k8s.io/v1"}
    listeners = [{"name": "mesh", "port": HBONE, "protocol": "HBONE"}]
    spec = {
        "clusterIP": "10.97.0.60",
        "selector": LABELS_OF_THEIRS,
        "ports": [{"name": "mesh", "port": HBONE, "appProtocol": "hbone"}],
    }
    controller = {"controllerName": "istio.io/mesh-controller"}
    return [
        *(
            {
                **group,
                "kind": "Gateway",
                "metadata": metadata(name, annotations=TELLS_CLIENT),
                "spec": {"gatewayClassName": its_class, "listeners": listeners},
            }
            for name, its_class in (
                ("waypoint", "pywaypoint"),
                ("impostor", "pywaypoint"),
                ("theirs", "istio-waypoint"),
            )
        ),
        {**group, "kind": "GatewayClass", "metadata": {"name": "istio-waypoint"}, "spec": controller},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata("theirs", labels=LABELS_OF_THEIRS), "spec": spec},
    ]


def pods(ips: Mapping[str, str], captures: Mapping[str, str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each with its status."""
    app = {"is": "destination"}
    waypoint = {"gateway.networking.k8s.io/gateway-name": "waypoint"}
    return [
        _pod("ztunnel-near", "ztunnel", "near", ips),
        _pod("ztunnel-far", "ztunnel", "far", ips),
        _pod("waypoint", "waypoint", "far", ips, labels=waypoint),
        _pod("theirs", "waypoint", "far", ips, labels=LABELS_OF_THEIRS),
        *(_pod(it, it, "near", ips, is_redirected=True, capture=captures[it]) for it in ACCOUNTS),
        _pod("behind-ztunnel", "app", "far", ips, is_redirected=True, labels=app),
        _pod("behind-envoy", "app", "elsewhere", ips, is_redirected=True, labels=app),
        *(_pod(it, "app", "elsewhere", ips, is_redirected=True) for it in IMPOSTORS),
    ]


def _pod(
    name: str,
    account: str,
    node: str,
    ips: Mapping[str, str],
    *,
    is_redirected: bool = False,
    capture: str = "",
    labels: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    annotations = {"ambient.istio.io/redirection": "enabled"} if is_redirected else {}
    if capture:
        annotations["pywaypoint.dev/outbound-capture"] = capture
    spec = {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "app", "image": "app"}]}
    about = metadata(name, labels={"app": name, **(labels or {})}, annotations=annotations)
    is_ready = {"type": "Ready", "status": "True"}
    status = {"phase": "Running", "podIP": ips[name], "podIPs": [{"ip": ips[name]}], "conditions": [is_ready]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}, status


def policies() -> list[dict[str, Any]]:
    """Requests with `x-guarded` are for the client alone, as the waypoint decides; connections to the pod behind the
    ztunnel are for the waypoint alone, as that ztunnel decides. Requests below /slow have 0.4 s."""
    names = [behind(waypoint, it) for waypoint in WAYPOINTS for it in DESTINATIONS]
    targets = [{"group": "", "kind": "Service", "name": it} for it in names]
    strangers = {"from": [{"source": {"notPrincipals": [str(identity("client")).removeprefix("spiffe://")]}}]}
    guarded = {**strangers, "when": [{"key": "request.headers[x-guarded]", "values": ["*"]}]}
    waypoint = {"from": [{"source": {"principals": [str(identity("waypoint")).removeprefix("spiffe://")]}}]}
    selected = {"matchLabels": {"app": "behind-ztunnel"}}
    slow = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/slow"}}],
        "timeouts": {"request": "400ms"},
    }
    return [
        _policy("guarded", {"targetRefs": targets, "action": "DENY", "rules": [guarded]}),
        _policy("waypoint-only", {"selector": selected, "action": "ALLOW", "rules": [waypoint]}),
        *(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": metadata(f"slow-{it}"),
                "spec": {
                    "parentRefs": [{"group": "", "kind": "Service", "name": it, "port": PORTS["http"].service}],
                    "rules": [_rule(slow, it), _rule({}, it)],
                },
            }
            for it in names
        ),
    ]


def _rule(fields: Mapping[str, Any], service: str) -> dict[str, Any]:
    return {**fields, "backendRefs": [{"name": service, "port": PORTS["http"].service}]}


def _policy(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    api = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}
    return {**api, "metadata": metadata(name), "spec": dict(spec)}
