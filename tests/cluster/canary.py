"""A mesh of a real istiod, with a waypoint of Istio's class and one of ours, in a network of its own. Needs root.

    client ─▶ our ztunnel ─▶ Envoy, or our waypoint ─▶ our ztunnel ─▶ server

Envoy stands in for Istio's waypoint, with a configuration that istiod doesn't make. All else is real: the API server,
an istiod that writes what it writes in a cluster of its own, our controller, ztunnel and waypoint. There is no kubelet
and no controller of Kubernetes, so the pods, their readiness and their EndpointSlices are the test's.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l4.net.network import Network
from l4.net.tasks import Tasks
from l4.node.agent import Agent, NodePod
from tests.cluster import tools
from tests.cluster.bare import BareServer, bare_server
from tests.cluster.canary_load import WAYPOINT
from tests.cluster.controllers import Process, may, rule, service_account
from tests.cluster.istiod import Istiod, crds
from tests.cluster.programs import Program
from tests.cluster.waiting import until
from tests.image.buildah import ROOT
from tests.kit import envoy
from tests.kit.certificates import MeshPki
from tests.kit.pod_network import PodNetwork, namespace, pod_networks
from tests.kit.timed import HTTP_PORT

SHOP, SYSTEM, OURS = "shop", "istio-system", "ours"
NODE = "node-a"
CLIENT_IP, SERVER_IP, ISTIO_IP, OUR_IP = "10.99.0.1", "10.99.0.2", "10.99.0.10", "10.99.0.11"
OUR_CONTROLLER, THEIR_CONTROLLER = f"pywaypoint.dev/{OURS}", "istio.io/gateway-controller"
_HOST = f"app.{SHOP}.svc.cluster.local"
_SETTLED_SECONDS = 60.0
_GATEWAY_API = "gateway.networking.k8s.io/v1"
_NEEDED = (
    "authorizationpolicies.security.istio.io",
    "destinationrules.networking.istio.io",
    "envoyfilters.networking.istio.io",
    "peerauthentications.security.istio.io",
    "requestauthentications.security.istio.io",
    "serviceentries.networking.istio.io",
    "sidecars.networking.istio.io",
    "telemetries.telemetry.istio.io",
    "virtualservices.networking.istio.io",
    "wasmplugins.extensions.istio.io",
    "workloadentries.networking.istio.io",
    "workloadgroups.networking.istio.io",
)
_USE, _CANARY, _WEIGHT = (f"istio.io/use-waypoint{it}" for it in ("", "-canary", "-canary-weight"))


# -- objects -----------------------------------------------------------------------------------------------------------


def named(
    kind: str, name: str, api: str = "v1", *, labels: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    about = {"name": name, "namespace": SHOP, "labels": labels or {}}
    return {"apiVersion": api, "kind": kind, "metadata": about, **more}


def gateway(name: str, class_: str) -> dict[str, Any]:
    listener = {"name": "mesh", "port": 15008, "protocol": "HBONE"}
    return named("Gateway", name, _GATEWAY_API, spec={"gatewayClassName": class_, "listeners": [listener]})


def _pod(name: str, labels: dict[str, str]) -> dict[str, Any]:
    container = {"name": "app", "image": "none"}
    spec = {"nodeName": NODE, "serviceAccountName": name, "containers": [container]}
    it = named("Pod", f"{name}-1", labels=labels, spec=spec)
    if name in ("client", "server"):
        it["metadata"]["annotations"] = {"ambient.istio.io/redirection": "enabled"}
    return it


def _slice(service: str, ip: str, port: int, port_name: str) -> dict[str, Any]:
    target = {"kind": "Pod", "name": f"{'server' if service == 'app' else service}-1", "namespace": SHOP}
    endpoint = {"addresses": [ip], "conditions": {"ready": True}, "nodeName": NODE, "targetRef": target}
    its = {"addressType": "IPv4", "endpoints": [endpoint], "ports": [{"name": port_name, "port": port}]}
    return named("EndpointSlice", service, "discovery.k8s.io/v1", labels={"kubernetes.io/service-name": service}, **its)


def _selector(gateway: str) -> dict[str, str]:
    return {"gateway.networking.k8s.io/gateway-name": gateway}


def _of_waypoint(name: str) -> dict[str, str]:
    return {
        **_selector(name),
        "gateway.istio.io/managed": "istio.io-mesh-controller",
        "istio.io/dataplane-mode": "none",
    }


def _objects() -> Iterator[dict[str, Any]]:
    for name in ("default", "client", "server", "istio"):
        yield named("ServiceAccount", name)
    port = {"name": "http", "port": 80, "targetPort": HTTP_PORT}
    yield named("Service", "app", spec={"selector": {"app": "server"}, "ports": [port]})
    mesh = {"name": "mesh", "port": 15008, "appProtocol": "hbone"}
    its = _of_waypoint("istio")
    yield named("Service", "istio", labels=its, spec={"selector": _selector("istio"), "ports": [mesh]})
    yield gateway("istio", "istio-waypoint")
    yield gateway(OURS, "pywaypoint")
    yield _slice("app", SERVER_IP, HTTP_PORT, "http")
    yield _slice("istio", ISTIO_IP, 15008, "mesh")
    yield _slice(OURS, OUR_IP, 15008, "mesh")
    header = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": WAYPOINT, "value": OURS}]}}
    parent = {"group": "", "kind": "Service", "name": "app"}
    rules = [{"filters": [header], "backendRefs": [{"name": "app", "port": 80}]}]
    yield named("HTTPRoute", "app", _GATEWAY_API, spec={"parentRefs": [parent], "rules": rules})


# -- the mesh ----------------------------------------------------------------------------------------------------------


class Mesh:
    """The API server, and how the ztunnel divides what it carries to the service. `admin` is the ztunnel's port."""

    istiod: Istiod

    def __init__(self, api: BareServer, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.admin = 0

    def get(self, kind: str, name: str, namespace: str = SHOP) -> Any:
        return json.loads(self.api.kubectl("get", kind, name, "-n", namespace, "-o", "json"))

    def patch(self, kind: str, name: str, content: dict[str, Any], *more: str) -> None:
        self.api.kubectl("patch", kind, name, "-n", SHOP, "--type=merge", "-p", json.dumps(content), *more)

    def exists(self, kind: str, name: str) -> bool:
        return name in self.api.kubectl("get", kind, "-n", SHOP, "-o", "name").replace("/", " ").split()

    def runs(self, name: str, ip: str, labels: dict[str, str]) -> None:
        """Makes a pod that is ready."""
        self.api.apply(_pod(name, labels))
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        self.patch("pod", f"{name}-1", {"status": status | ready}, "--subresource=status")

    def bind(self, first: str, canary: str | None = None, weight: int = 0) -> None:
        """Changes labels and annotation of the namespace in one step, and waits until the ztunnel divides like that."""
        labels = {_USE: first, _CANARY: canary}
        annotations = {_WEIGHT: None if canary is None else str(weight)}
        self.patch("namespace", SHOP, {"metadata": {"labels": labels, "annotations": annotations}})
        expected = {first: 100} if canary is None else {first: 100 - weight, canary: weight}
        until(lambda: self.divides() == expected, _SETTLED_SECONDS)

    def divides(self) -> dict[str, int]:
        """The weights of waypoints in force in the ztunnel."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/config_dump", timeout=5) as answer:
            services = json.load(answer)["services"]
        (it,) = [it for it in services if it["hostname"] == _HOST]
        shares = it.get("weightedWaypoints") or [{"waypoint": it.get("waypoint"), "weight": 100}]
        return {_name(share["waypoint"]): share["weight"] for share in shares if share["waypoint"] is not None}

    def parents(self, route: str = "app") -> dict[str, dict[str, str]]:
        """The conditions of a route's entries, by controller."""
        entries = self.get("httproute", route).get("status", {}).get("parents", [])
        return {
            it["controllerName"]: {condition["type"]: condition["status"] for condition in it["conditions"]}
            for it in entries
        }

    def versions(self) -> dict[str, str]:
        """The resource versions of all that a controller might write."""
        kinds = "gatewayclasses,gateways,httproutes,services,authorizationpolicies,namespaces,deployments,pods"
        found = json.loads(self.api.kubectl("get", kinds, "-A", "-o", "json"))["items"]
        return {f"{it['kind']} {it['metadata']['name']}": it["metadata"]["resourceVersion"] for it in found}


def _name(waypoint: dict[str, Any]) -> str:
    return str(waypoint["destination"].partition("/")[2].partition(".")[0])


@contextmanager
def mesh(folder: Path) -> Iterator[tuple[Mesh, PodNetwork]]:
    """All of it, with Istio's waypoint for the whole namespace, and the client's pod."""
    tools.install("istio")
    with pod_networks(CLIENT_IP, SERVER_IP) as (client, server), namespace() as (elsewhere, _), ExitStack() as stack:
        machine = client.machine
        machine.run(["ip", "link", "set", "lo", "up"])
        for ip in (ISTIO_IP, OUR_IP):
            machine.run(["ip", "address", "add", f"{ip}/24", "dev", "bridge"])
        with inside(server, folder / "server", "tests.cluster.load_program", "serve"), machine.entered():
            it = Mesh(stack.enter_context(bare_server(folder)), folder)
            _install(it)
            it.istiod = stack.enter_context(_istiod(it))
            stack.enter_context(_controller(it))
            for name, ip in (("client", CLIENT_IP), ("server", SERVER_IP)):
                it.runs(name, ip, {"app": name})
            for name, ip in (("istio", ISTIO_IP), (OURS, OUR_IP)):
                it.runs(name, ip, _of_waypoint(name))
            it.patch("deployment", OURS, {"status": {"replicas": 1, "readyReplicas": 1}}, "--subresource=status")
            stack.enter_context(_data_plane(it, {"client": client, "server": server}, elsewhere))
            it.bind("istio")
            yield it, client
            stack.close()


def _install(it: Mesh) -> None:
    api = it.api
    api.install_gateway_api()
    api.apply(*crds(*_NEEDED))
    api.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy" / "crds"))
    api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    for name in (SYSTEM, OURS, SHOP):
        labels = {"istio.io/dataplane-mode": "ambient"} if name == SHOP else {}
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    class_ = {"apiVersion": _GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": "pywaypoint"}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": OURS}}
    api.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}},
        {**class_, "spec": {"controllerName": OUR_CONTROLLER}},
        {**role, "rules": [rule("*", "*", "list watch")]},
        *_objects(),
    )


@contextmanager
def _istiod(it: Mesh) -> Iterator[Istiod]:
    folder = it.folder / "istiod-files"
    folder.mkdir()
    istiod = Istiod(SYSTEM, folder, it.api.kubeconfig, is_writing=True)
    istiod.start()
    try:
        yield istiod
    finally:
        istiod.end()


@contextmanager
def _controller(it: Mesh) -> Iterator[None]:
    """Our controller, from when it has made the waypoint."""
    folder = it.folder / "controller"
    folder.mkdir()
    account = service_account(OURS, folder, may(OURS), it.api.kubeconfig)
    process = Process(OURS, "first", folder / "log", account)
    try:
        until(lambda: it.exists("deployments", OURS))
        yield
    finally:
        process.end()


@contextmanager
def _data_plane(it: Mesh, pods: dict[str, PodNetwork], elsewhere: Network) -> Iterator[None]:
    folder, istiod, pki = it.folder, it.istiod, MeshPki(it.folder / "mesh-pki")
    chains = {name: pki.write(pki.identity(SHOP, name)) for name in ("client", "server", "istio", OURS)}
    reader = it.api.account("reader", [rule("*", "*", "list watch")])
    roots = f"--trust-bundle={pki.bundle_path}"
    waypoint = [
        "waypoint", "run", f"--gateway={SHOP}/{OURS}", f"--certificate={chains[OURS]}", roots,
        f"--private-key={chains[OURS].with_suffix('.key')}", f"--listen={OUR_IP}:15008", f"--kubeconfig={reader}",
        f"--access-log={folder / 'waypoint-access.log'}",
    ]  # fmt: skip
    ztunnel = [
        "ztunnel", "run", f"--node={NODE}", f"--certificates={pki.folder}", roots, f"--agent={folder / 'agent.sock'}",
        f"--discovery={istiod.address}", f"--discovery-root={istiod.root}", f"--discovery-token={istiod.token}",
        f"--access-log={folder / 'ztunnel-access.log'}",
    ]  # fmt: skip
    certificate = envoy.Certificate(chains["istio"], chains["istio"].with_suffix(".key"), pki.bundle_path)
    with ExitStack() as stack:
        stack.enter_context(envoy.run(_envoy(certificate, folder), ready=(ISTIO_IP, 15008)))
        programs = (
            Program(waypoint, folder / "waypoint.log"),
            Program(ztunnel, folder / "ztunnel.log", {"POD_NAMESPACE": SYSTEM, "DRAIN_SECONDS": "1"}),
        )
        for program in programs:
            stack.callback(program.end)
        it.admin = programs[1].admin
        stack.enter_context(_redirected(folder / "agent.sock", elsewhere, pods))
        for program in programs:
            program.becomes_ready()
        yield


def _envoy(certificate: envoy.Certificate, folder: Path) -> envoy.Config:
    """A waypoint that does what the route says, with a name of its own."""
    config = envoy.waypoint(
        certificate,
        listen=(ISTIO_IP, 15008),
        to=(SERVER_IP, 15008),
        authority=f"{SERVER_IP}:{HTTP_PORT}",
        access_log=folder / "envoy-access.log",
    )
    (main,) = [it for it in config["static_resources"]["listeners"] if it["name"] == "main"]
    routes = main["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    routes["response_headers_to_add"] = [{"header": {"key": WAYPOINT, "value": "istio"}}]
    return config


@contextmanager
def _redirected(socket: Path, elsewhere: Network, pods: dict[str, PodNetwork]) -> Iterator[None]:
    """Redirects these pods by an agent whose rules for the machine are in another namespace: nothing probes here."""
    loop, is_over, is_done = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def follow() -> None:
        (proc,) = {it.proc for it in pods.values()}
        agent, tasks = Agent(socket, elsewhere, proc=proc), Tasks()
        tasks.keep("announcing", agent.announcer.serve)
        tasks.keep("redirecting", agent.follow)
        agent.want(
            NodePod(f"uid-{name}", f"{name}-1", SHOP, name, (it.ip,), (f"containerd://{it.container}",))
            for name, it in pods.items()
        )
        await agent.done()
        is_done.set()
        await is_over.wait()
        await tasks.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(follow()))
    thread.start()
    try:
        assert is_done.wait(_SETTLED_SECONDS), "the pods are not redirected"
        yield
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join(30)
        loop.close()


@contextmanager
def inside(pod: PodNetwork, log: Path, *arguments: str) -> Iterator[None]:
    """A Python program in a pod, which may take its time to end. Its output is `log`."""
    place = f"--net=/proc/{os.getpid()}/fd/{pod.network.fd}"
    with log.open("wb") as output, log.with_suffix(".err").open("wb") as errors:
        command = ["nsenter", place, sys.executable, "-m", *arguments]
        process = subprocess.Popen(command, stdout=output, stderr=errors, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


# -- its load ----------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What became of the connections that began in a while: how many of each kind went through which waypoint."""

    through: dict[str, Counter[str]]
    requests: int
    failures: list[str]

    def share(self, waypoint: str) -> tuple[int, int]:
        """The connections through a waypoint, and all of them."""
        found = sum(self.through.values(), Counter[str]())
        return found[waypoint], found.total()


class Load:
    """`tests.cluster.canary_load` in the client's pod."""

    def __init__(self, lines: Path) -> None:
        self._lines = lines

    def during(self, seconds: float) -> Seen:
        """Goes on for a while, and tells of the connections that began in it and have ended."""
        began = time.time()
        time.sleep(seconds)
        return self.seen(began)

    def seen(self, began: float = 0.0) -> Seen:
        found = Seen({}, 0, [])
        for it in map(json.loads, self._lines.read_text().splitlines()):
            found.requests += len(it["through"])
            if it["failure"]:
                found.failures.append(f"{it['kind']}: {it['failure']}")
            elif it["began"] >= began:
                (through,) = set(it["through"])  # a connection stays where it is
                found.through.setdefault(it["kind"], Counter())[through] += 1
        return found


@contextmanager
def load(it: Mesh, client: PodNetwork) -> Iterator[Load]:
    """Runs until the end of the block. After that, it knows all connections."""
    lines = it.folder / "load.jsonl"
    vip = it.get("service", "app")["spec"]["clusterIP"]
    with inside(client, lines, "tests.cluster.canary_load", vip, "80"):
        until(lambda: lines.stat().st_size)
        yield Load(lines)
