"""A real istiod for the cluster: what a ztunnel learns from it is what it learns from the API server's objects."""

import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from l4.config.holder import Holder
from l4.configuration import source_of
from l4.discovery import kubernetes
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.discovery.workload import GatewayAddress, Service, Workload
from l4.kubernetes.options import KubernetesOptions
from l4.xds.feed import DiscoveryFeed
from l4.ztunnel.discovering import FromControlPlane
from l4.ztunnel.knowing import FromObjects, Known
from policies.access import Access
from policies.attributes import Identity, Peer
from tests.cluster import tools
from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.controllers import apply
from tests.cluster.istiod import Istiod, crds
from tests.cluster.kubectl import kubectl
from tests.cluster.kubelets import SANDBOX
from tests.cluster.waiting import until
from tests.kit.aio import run
from tests.kit.certificates import MeshPki

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(600)]

NAME = "istiod-test"
NODE = "node-a"
WAYPOINT = f"waypoint.{NAME}.svc.cluster.local"
NEEDED = (
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "serviceentries.networking.istio.io",
    "workloadentries.networking.istio.io",
)
"""Those of Istio's CRDs of which the tests have objects."""
CLIENT = Identity("cluster.local", NAME, "client")
SETTLED_SECONDS = 60.0


def metadata(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": NAME, **more}


def pod(name: str, app: str, **spec: Any) -> dict[str, Any]:
    labels, annotations = {"app": app, "version": "v1"}, {"ambient.istio.io/redirection": "enabled"}
    container = {
        "name": "app",
        "image": SANDBOX,
        "imagePullPolicy": "Never",
        "ports": [{"name": "web", "containerPort": 8080}],
    }
    its = {"nodeName": NODE, "containers": [container], "terminationGracePeriodSeconds": 1, **spec}
    about = metadata(name, labels=labels, annotations=annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": its}


def service(name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    its = {"selector": {"app": "server"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, labels=labels or {}), "spec": its}


def istio(kind: str, name: str, spec: dict[str, Any], *, group: str = "security.istio.io") -> dict[str, Any]:
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata(name), "spec": spec}


OBJECTS: list[dict[str, Any]] = [
    pod("client", "client"),
    pod("server-1", "server"),
    pod("server-2", "server", nodeName="node-b"),
    pod("on-node", "server", hostNetwork=True),
    service("plain"),
    service("headless", clusterIP="None"),
    service(
        "named",
        ports=[{"name": "web", "port": 80, "targetPort": "web"}, {"name": "grpc-x", "port": 90, "targetPort": 9090}],
    ),
    service("near", trafficDistribution="PreferSameZone"),
    service("near-node", trafficDistribution="PreferSameNode"),
    service("on-node", internalTrafficPolicy="Local"),
    service("bound", labels={"istio.io/use-waypoint": "waypoint"}),
    service("empty", selector={"app": "nobody"}),
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": metadata("waypoint"),
        "spec": {
            "gatewayClassName": "istiod-test",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
    },
    istio(
        "ServiceEntry",
        "static",
        {
            "hosts": ["static.example.com"],
            "addresses": ["240.0.0.9"],
            "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
            "resolution": "STATIC",
            "location": "MESH_EXTERNAL",
            "endpoints": [{"address": "192.0.2.1"}, {"address": "192.0.2.2", "ports": {"tls": 8443}}],
        },
        group="networking.istio.io",
    ),
]
POLICIES: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "allow a client": [
        istio(
            "AuthorizationPolicy",
            "p",
            {
                "selector": {"matchLabels": {"app": "server"}},
                "rules": [{"from": [{"source": {"principals": [f"cluster.local/ns/{NAME}/sa/client"]}}]}],
            },
        )
    ],
    "deny a port in the namespace": [
        istio("AuthorizationPolicy", "p", {"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["8080"]}}]}]})
    ],
    "allow nothing": [istio("AuthorizationPolicy", "p", {})],
    "strict": [istio("PeerAuthentication", "p", {"mtls": {"mode": "STRICT"}})],
    "strict but for a port": [
        istio(
            "PeerAuthentication",
            "p",
            {
                "selector": {"matchLabels": {"app": "server"}},
                "mtls": {"mode": "STRICT"},
                "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}},
            },
        )
    ],
}


@pytest.fixture(scope="module")
def istiod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Istiod]:
    tools.install("istio")
    present = kubectl("get", "crd", "-o", "name").split()
    missing = [it for it in NEEDED if f"customresourcedefinition.apiextensions.k8s.io/{it}" not in present]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}
    try:
        for crd in crds(*missing):
            kubectl("apply", "--server-side", "-f", "-", given=crd)
        kubectl("wait", "--for=condition=Established", *(f"crd/{it}" for it in NEEDED), "--timeout=60s")
        apply(namespace)
        until(lambda: "default" in kubectl("get", "serviceaccounts", "-n", NAME, "-o", "name"))
        apply(*OBJECTS)
        status = {"status": {"addresses": [{"type": "Hostname", "value": WAYPOINT}]}}
        which = ("gateway", "waypoint", "-n", NAME, "--subresource=status", "--type=merge")
        kubectl("patch", *which, "-p", json.dumps(status))
        kubectl("wait", "--for=condition=Ready", "pods", "--all", "-n", NAME, "--timeout=120s")
        it = Istiod(NAME, tmp_path_factory.mktemp("istiod"))
        it.start()
        yield it
        it.end()
    finally:
        kubectl("delete", "namespace", NAME, "--ignore-not-found", "--timeout=120s")
        for kind in ("clusterrole", "clusterrolebinding"):
            kubectl("delete", kind, f"{NAME}-controller", "--ignore-not-found")
        if missing:
            kubectl("delete", "crd", *missing, "--ignore-not-found", "--timeout=60s")


# -- what both know ----------------------------------------------------------------------------------------------------


class Followed:
    """The newest of what both ways tell, which are followed in a thread of their own."""

    def __init__(self, istiod: Istiod) -> None:
        self._istiod = istiod
        self.by_istiod: Known | None = None
        self.by_objects: Known | None = None

    async def follow(self, is_over: asyncio.Event) -> None:
        mesh = Mesh()
        control_plane = FromControlPlane(DiscoveryFeed(self._istiod.server(), mesh), mesh, NODE)
        objects = FromObjects(source_of(KubernetesOptions(KUBECONFIG), kubernetes.KINDS), mesh, NODE)
        watches = [
            asyncio.ensure_future(control_plane.watch(partial(setattr, self, "by_istiod"))),
            asyncio.ensure_future(objects.watch(partial(setattr, self, "by_objects"))),
        ]
        await is_over.wait()
        for it in watches:
            it.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await control_plane.close()
        await objects.close()
        await asyncio.sleep(0.5)  # aiohttp closes its TLS connections after it has said that they are closed

    def both(self) -> tuple[Known, Known]:
        until(lambda: all(it is not None and it.understood.is_understood for it in (self.by_istiod, self.by_objects)))
        assert self.by_istiod is not None
        assert self.by_objects is not None
        return self.by_istiod, self.by_objects

    def differences(self, look: Callable[[Known], dict[str, Any]]) -> dict[str, Any]:
        return differences(*map(look, self.both()))


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    names = one.keys() | other.keys()
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


@pytest.fixture(scope="module")
def followed(istiod: Istiod) -> Iterator[Followed]:
    it, loop, is_over = Followed(istiod), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(it.follow(is_over)))
    thread.start()
    yield it
    loop.call_soon_threadsafe(is_over.set)
    thread.join(30)
    loop.close()


def said_of(it: Workload | Service | GatewayAddress | None) -> Any:
    """What a ztunnel uses of it."""
    match it:
        case Workload():
            return {
                "addresses": it.addresses,
                "identity": str(it.identity),
                "protocol": it.tunnel_protocol,
                "node": it.node,
                "is_healthy": it.is_healthy,
                "names": (it.name, it.namespace, it.workload_name, it.canonical_name, it.canonical_revision),
                "is_redirected": it.is_redirected,
                "waypoint": said_of(it.waypoint),
                "locality": it.locality,
                "capacity": it.capacity,
            }
        case Service():
            return {
                "names": (it.name, it.namespace, it.is_entry),
                "addresses": it.addresses,
                "networks": it.networks,
                "ports": sorted(port.port for port in it.ports),
                "endpoints": {end.workload.uid: (dict(end.ports), end.health) for end in it.endpoints},
                "waypoint": said_of(it.waypoint),
                "traffic_distribution": it.traffic_distribution,
                "nearness": it.nearness,
                "exported_to": it.exported_to,
            }
        case GatewayAddress():
            return it.hostname, it.ip, it.hbone_port
    return None


def own(known: Known) -> dict[str, Any]:
    """All of the test's namespace."""
    objects = [*known.registry.workloads.items(), *known.registry.services.items()]
    return {name: said_of(it) for name, it in objects if it.namespace == NAME}


def verdicts(known: Known) -> dict[str, bool]:
    """Who may reach each pod of the test, at which ports."""
    peers = {"client": CLIENT, "other": Identity("cluster.local", "default", "other"), "nobody": None}
    found = {}
    for pod in known.registry.workloads.values():
        if pod.namespace != NAME or "//Pod/" not in pod.uid:
            continue
        its = known.policies.of(pod)
        for (name, identity), port in ((peer, port) for peer in peers.items() for port in (8080, 9090)):
            access = Access(Peer(identity, "10.244.0.99", 1), pod.addresses[:1], port)
            found[f"{name} → {pod.name}:{port}"] = its is None or its.judge(access).is_allowed
    return found


def settles(look: Callable[[], Any], expected: Any) -> None:
    """Wait until both have learned the newest change."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while (found := look()) != expected and time.monotonic() < deadline:
        time.sleep(0.3)
    assert found == expected


def test_istiod_and_objects_tell_the_same_registry(followed: Followed) -> None:
    settles(lambda: followed.differences(own), {})

    known, _ = followed.both()
    assert {
        f"{it}.{NAME}.svc.cluster.local"
        for it in ("plain", "headless", "named", "near", "near-node", "on-node", "bound")
    } <= own(known).keys()
    assert "static.example.com" in own(known)
    bound = known.registry.services[f"bound.{NAME}.svc.cluster.local"].waypoint
    assert bound is not None
    assert bound.hostname == WAYPOINT


@pytest.mark.parametrize("which", POLICIES)
def test_istiod_and_objects_allow_the_same(followed: Followed, which: str) -> None:
    settles(lambda: [all(verdicts(it).values()) for it in followed.both()], [True, True])

    if POLICIES[which]:
        apply(*POLICIES[which])

    settles(lambda: [all(verdicts(it).values()) for it in followed.both()], [which == "none"] * 2)
    settles(lambda: followed.differences(verdicts), {})
    assert len(verdicts(followed.both()[0])) >= 24
    kubectl("delete", "authorizationpolicies,peerauthentications", "--all", "-n", NAME)


def test_changes_come_as_deltas_and_after_a_restart_only_the_difference(istiod: Istiod) -> None:
    async def scenario() -> None:
        its = FromControlPlane(DiscoveryFeed(istiod.server(), Mesh()), Mesh(), NODE)
        known = [await its.load()]
        is_new = asyncio.Event()

        def take(it: Known) -> None:
            known.append(it)
            is_new.set()

        async def learns(condition: Callable[[Known], bool]) -> Known:
            async with asyncio.timeout(SETTLED_SECONDS):
                while not condition(known[-1]):
                    is_new.clear()
                    await is_new.wait()
            return known[-1]

        def has(it: Known, name: str) -> bool:
            return any(pod.name == name and pod.is_healthy for pod in it.registry.workloads.values())

        watching = asyncio.get_running_loop().create_task(its.watch(take))
        try:
            await asyncio.to_thread(apply, pod("late", "server"))
            found = await learns(lambda it: has(it, "late"))
            assert found.update is not None
            assert {moved.after.name for moved in found.update.workloads if moved.after} <= {"late"}
            hosts = {moved.after.hostname.partition(".")[0] for moved in found.update.services if moved.after}
            assert hosts == {"plain", "headless", "named", "near", "near-node", "on-node", "bound"}

            await asyncio.to_thread(istiod.end)
            await learns(lambda it: any("stays in force" in str(doubt.problem) for doubt in it.understood.doubts))
            assert has(known[-1], "late")
            assert its.silent_seconds > 0
            await asyncio.to_thread(kubectl, "delete", "pod", "late", "-n", NAME)
            await asyncio.to_thread(istiod.start)
            found = await learns(lambda it: not has(it, "late"))
            await learns(lambda it: not it.understood.doubts)
            assert found.update is not None  # not everything came again
            assert its.silent_seconds == 0
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await its.close()

    run(scenario(), 240)


def test_on_demand_it_learns_what_a_connection_needs(istiod: Istiod, followed: Followed) -> None:
    settles(lambda: f"Kubernetes//Pod/{NAME}/late" in own(followed.both()[0]), False)
    whole = followed.both()[0].registry

    async def scenario() -> None:
        mesh, registry = Mesh(), Holder(Registry())
        its = FromControlPlane(DiscoveryFeed(istiod.server(), mesh, is_on_demand=True), mesh, NODE)
        first = await its.load()
        assert first.understood.is_understood
        watching = asyncio.get_running_loop().create_task(its.watch(lambda known: registry.swap(known.registry)))
        try:
            finder = its.finder(registry)
            assert finder is not None
            assert dict(registry.current.workloads) == {}

            await finder.pods([(NAME, "client")])
            assert [it.name for it in registry.current.workloads.values()] == ["client"]
            assert await finder.destination("192.0.2.99")
            assert len(registry.current.workloads) == 1
            bound = whole.services[f"bound.{NAME}.svc.cluster.local"]
            assert await finder.destination(bound.addresses[0])
            assert said_of(registry.current.service_at(bound.addresses[0])) == said_of(bound)
            entry = whole.services["static.example.com"]
            assert await finder.destination(entry.addresses[0])
            assert said_of(registry.current.service_at(entry.addresses[0])) == said_of(entry)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await its.close()

    run(scenario(), 60)


# -- the program -------------------------------------------------------------------------------------------------------


@contextmanager
def ztunnel(folder: Path, port: int, *source: str) -> Iterator[str]:
    """A ztunnel of this machine. Yields the address of its administration pages when it is ready."""
    pki = MeshPki(folder / f"pki-{port}")
    operators = [("--metrics", port), ("--readiness", port + 1), ("--admin", port + 2)]
    command = [
        sys.executable, "-m", "l4.ztunnel.cli", "run", f"--node={NODE}", f"--certificates={pki.folder}",
        f"--trust-bundle={pki.bundle_path}", "--access-log=", *source,
        *(f"{name}=127.0.0.1:{number}" for name, number in operators),
    ]  # fmt: skip
    environment = {"PYTHONPATH": ":".join(sys.path), "POD_NAMESPACE": NAME, "DRAIN_SECONDS": "1"}
    with (folder / f"{port}.log").open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
        try:
            until(lambda: get(f"http://127.0.0.1:{port + 1}/healthz/ready"))
            yield f"http://127.0.0.1:{port + 2}"
        finally:
            process.terminate()


def get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, OSError):
        return b""


def dumped(admin: str) -> dict[str, Any]:
    found = json.loads(get(f"{admin}/config_dump"))
    services = [it | {"endpoints": sorted(it["endpoints"])} for it in found["services"]]
    its = {it["hostname"]: it for it in services if f".{NAME}." in it["hostname"] or "example" in it["hostname"]}
    return its | {it["uid"]: it for it in found["workloads"] if it["namespace"] == NAME}


def discovery(istiod: Istiod) -> tuple[str, ...]:
    return (
        f"--discovery={istiod.address}",
        f"--discovery-root={istiod.root}",
        f"--discovery-token={istiod.token}",
    )


def test_the_program_outside_of_the_cluster_knows_the_same_either_way(istiod: Istiod, tmp_path: Path) -> None:
    with (
        ztunnel(tmp_path, 25100, *discovery(istiod)) as by_discovery,
        ztunnel(tmp_path, 25110, f"--kubeconfig={KUBECONFIG}") as by_api_server,
    ):
        settles(lambda: differences(dumped(by_discovery), dumped(by_api_server)), {})

        assert len(dumped(by_discovery)) >= 11


def test_istioctl_lists_the_program_among_those_of_istiod(istiod: Istiod, tmp_path: Path) -> None:
    with ztunnel(tmp_path, 25120, *discovery(istiod)):
        command = [str(tools.BIN / "istioctl"), f"--kubeconfig={KUBECONFIG}", f"--istioNamespace={NAME}"]
        said = tools.run([*command, "proxy-status", "--insecure", f"--xds-address={istiod.address}"])

    assert f"ztunnel.{NAME}" in said
