"""A real istiod for a waypoint: what it compiles of what istiod sends is what it compiles of all objects."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from l4.config.settings import Settings
from l4.config.source import in_a_thread
from l4.discovery.own_pod import OwnPod
from l4.hbone.connect import Authority, ConnectRequest
from l4.hbone.pool import HbonePool
from l4.identity.options import CertificateFiles
from l4.kubernetes.options import KubernetesOptions
from l4.xds.options import DiscoveryOptions
from tests.cluster import tools
from tests.cluster.bare import BareServer, bare_server
from tests.cluster.istiod import Istiod, crds
from tests.cluster.matrix import CRDS
from tests.cluster.programs import Program
from tests.cluster.waiting import until
from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.mesh import address
from tests.kit.origin import answering, origin
from waypoint.config.pipeline import Compiled, Pipeline
from waypoint.process.knowing import knowing_of
from waypoint.process.options import GatewayName, RunOptions

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(240)]

NAME, OTHER = "shop", "other"
OWN_IP = "10.0.9.9"
NOWHERE = ("127.0.0.1", 0)
GATEWAY = "gateway.networking.k8s.io/v1"
ISTIO = "networking.istio.io/v1"
WITH_WAYPOINT = {"istio.io/use-waypoint": "waypoint", "istio.io/use-waypoint-namespace": NAME}


def made(api: str, kind: str, name: str, namespace: str = NAME, **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **rest.pop("metadata", {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


def pod(name: str, namespace: str, node: str, **labels: str) -> dict[str, Any]:
    metadata = {"labels": labels, "annotations": {"ambient.istio.io/redirection": "enabled"}}
    container = {"name": "app", "image": "app", "ports": [{"name": "web", "containerPort": 9080}]}
    spec = {"nodeName": node, "containers": [container]}
    return made("v1", "Pod", name, namespace, metadata=metadata, spec=spec)


def service(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    its = {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}], **spec}
    return made("v1", "Service", name, namespace, metadata={"labels": WITH_WAYPOINT}, spec=its)


def sliced(service: str, namespace: str, pods: dict[str, str], ready: frozenset[str]) -> dict[str, Any]:
    """What the cluster's controllers make, of which this API server has none."""
    return made(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"{service}-1",
        namespace,
        metadata={"labels": {"kubernetes.io/service-name": service}},
        addressType="IPv4",
        ports=[{"name": "http", "port": 9080, "protocol": "TCP"}],
        endpoints=[
            {
                "addresses": [ip],
                "conditions": {"ready": name in ready, "serving": name in ready, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": namespace, "name": name},
            }
            for name, ip in pods.items()
        ],
    )


def entry(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    return made(
        ISTIO,
        "ServiceEntry",
        name,
        metadata={"labels": WITH_WAYPOINT},
        spec={"hosts": [f"{name}.example.com"], "ports": ports, "location": "MESH_EXTERNAL", **spec},
    )


def place(zone: str) -> dict[str, str]:
    return {"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": zone}


OBJECTS = [
    *(made("v1", "Node", f"node-{it}", "", metadata={"labels": place(it)}) for it in "ab"),
    service("app", NAME),
    service("app", OTHER, trafficDistribution="PreferSameZone"),
    service("headless", OTHER, clusterIP="None"),
    service("straight", OTHER, ports=[{"name": "grpc-x", "port": 90, "targetPort": 9090}]),
    entry(
        "static",
        resolution="STATIC",
        addresses=["240.1.0.1"],
        endpoints=[{"address": "192.0.2.1", "labels": {"t": "x"}}],
    ),
    entry("dns", resolution="DNS", addresses=["240.1.0.2"]),
    entry("none", resolution="NONE", addresses=["240.1.0.3"]),
    entry("selected", resolution="STATIC", addresses=["240.1.0.4"], workloadSelector={"labels": {"app": "vm"}}),
    made(ISTIO, "WorkloadEntry", "vm", spec={"address": "192.0.2.7", "labels": {"app": "vm"}, "serviceAccount": "vm"}),
    *(
        made(
            ISTIO,
            "DestinationRule",
            "app",
            namespace,
            spec={
                "host": "app",
                "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 3}},
                "subsets": [{"name": it, "labels": {"version": it}} for it in ("v1", "v2")],
            },
        )
        for namespace in (NAME, OTHER)
    ),
    *(
        made(
            ISTIO,
            "VirtualService",
            "app",
            namespace,
            spec={
                "hosts": ["app"],
                "http": [
                    {"route": [{"destination": {"host": "app", "subset": it}, "weight": 50} for it in ("v1", "v2")]}
                ],
            },
        )
        for namespace in (NAME, OTHER)
    ),
    made(
        GATEWAY,
        "Gateway",
        "waypoint",
        spec={
            "gatewayClassName": "pywaypoint",
            "listeners": [
                {
                    "name": "mesh",
                    "port": 15008,
                    "protocol": "HBONE",
                    "allowedRoutes": {"namespaces": {"from": "All"}},
                }
            ],
        },
    ),
]


class Cluster:
    """Pods by namespace and name, with their addresses."""

    def __init__(self, api: BareServer, istiod: Istiod, folder: Path) -> None:
        self.api, self.istiod, self.folder = api, istiod, folder
        self._pods: dict[tuple[str, str], str] = {}
        self._ready: set[tuple[str, str]] = set()

    def put(self, name: str, namespace: str, ip: str = "", *, version: str = "v1", is_ready: bool = True) -> None:
        """Create a pod, or set whether it is ready."""
        key = namespace, name
        if key not in self._pods:
            self._pods[key] = ip
            self.api.apply(
                pod(name, namespace, f"node-{'ab'[len(self._pods) % 2]}", app="app", version=version, tier="x")
            )
        self._be(name, namespace, self._pods[key], is_ready=is_ready)
        (self._ready.add if is_ready else self._ready.discard)(key)
        self._slice(namespace)

    def remove(self, name: str, namespace: str) -> None:
        del self._pods[namespace, name]
        self._ready.discard((namespace, name))
        self._slice(namespace)
        self.delete(name, namespace)

    def delete(self, name: str, namespace: str) -> None:
        self.api.kubectl("delete", "pod", name, "-n", namespace, "--grace-period=0", "--force")

    def alone(self, name: str, namespace: str, ip: str, **labels: str) -> None:
        """Create a pod that no slice names."""
        its = pod(name, namespace, "node-a", **labels)
        del its["metadata"]["annotations"]
        self.api.apply(its)
        self._be(name, namespace, ip, is_ready=True)

    def _be(self, name: str, namespace: str, ip: str, *, is_ready: bool) -> None:
        conditions = [{"type": "Ready", "status": str(is_ready)}]
        its = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
        self.patch("pod", name, namespace, its)

    def patch(self, kind: str, name: str, namespace: str, status: dict[str, Any]) -> None:
        change = json.dumps({"status": status})
        self.api.kubectl("patch", kind, name, "-n", namespace, "--subresource=status", "--type=merge", f"-p={change}")

    def _slice(self, namespace: str) -> None:
        its = {name: ip for (of, name), ip in self._pods.items() if of == namespace}
        ready = frozenset(name for of, name in self._ready if of == namespace)
        names = ("app",) if namespace == NAME else ("app", "headless")
        self.api.apply(*(sliced(it, namespace, its, ready) for it in names))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    tools.install("istio")
    folder = tmp_path_factory.mktemp("cluster")
    with bare_server(folder) as api:
        api.install_gateway_api()
        api.apply(*crds(*CRDS))
        api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        for it in (NAME, OTHER):
            api.apply(made("v1", "Namespace", it, ""), made("v1", "ServiceAccount", "default", it))
        istiod = Istiod(NAME, folder, api.kubeconfig)
        istiod.start()
        try:
            api.apply(*OBJECTS)
            it = Cluster(api, istiod, folder)
            it.patch("gateway", "waypoint", NAME, {"addresses": [{"type": "IPAddress", "value": "10.97.0.99"}]})
            it.alone("waypoint-1", NAME, OWN_IP, **{"gateway.networking.k8s.io/gateway-name": "waypoint"})
            it.put("a-1", NAME, "10.0.0.1")
            it.put("a-2", NAME, "10.0.0.2", version="v2")
            it.put("b-1", OTHER, "10.0.1.1")
            it.put("b-2", OTHER, "10.0.1.2", version="v2")
            yield it
        finally:
            istiod.end()


class Followed:
    """What a waypoint compiles, of objects alone or with what istiod sends."""

    def __init__(self, cluster: Cluster, *, by_discovery: bool) -> None:
        istiod, nothing = cluster.istiod, cluster.folder
        server = DiscoveryOptions(istiod.address, istiod.root, istiod.token) if by_discovery else None
        files = CertificateFiles(nothing, nothing, nothing)
        objects, gateway = KubernetesOptions(cluster.api.kubeconfig), GatewayName(NAME, "waypoint")
        options = RunOptions(objects, gateway, files, NOWHERE, NOWHERE, NOWHERE, NOWHERE, "", discovery=server)
        settings = Settings(OwnPod(pod_namespace=NAME))
        self._knowing = knowing_of(options, settings)
        self._pipeline = Pipeline((NAME, "waypoint"), settings, OWN_IP, join=self._knowing.join)
        self.updates = 0
        """Answers after which nothing was compiled but endpoints."""

    def _take(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.updates += compiled.known.update is not None

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        self._take(self._pipeline.compile(await self._knowing.source.load()))
        watching = asyncio.ensure_future(self._knowing.source.watch(in_a_thread(self._pipeline.compile, self._take)))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._knowing.source.close()
            await asyncio.sleep(0.5)  # aiohttp closes its TLS connections after it has said that they are closed

    @property
    def said(self) -> dict[str, Any]:
        """All that requests depend on."""
        its = self.compiled.snapshot
        assert self.compiled.taken.is_understood
        clusters = {name: replace(it, names=tuple(map(_named, it.names))) for name, it in its.clusters.items()}
        rest = {"problems": its.problems, "tells_client": its.tells_client, "is_open": its.is_open}
        return {**clusters, **{str(place): it for place, it in its.destinations.items()}, **rest}


def _named(it: Any) -> Any:
    return replace(it, workload=it.workload.metric_labels)


def addresses(followed: Followed, name: str) -> list[str]:
    (found,) = (it for its, it in followed.compiled.snapshot.clusters.items() if str(its) == name)
    return [it.ip for it in found.endpoints]


V2 = f"inbound-vip|80|http/v2|app.{OTHER}.svc.cluster.local"


def test_istiod_and_objects_compile_to_the_same_snapshot_after_every_change(cluster: Cluster) -> None:
    async def scenario() -> None:
        by_discovery, by_objects = (Followed(cluster, by_discovery=it) for it in (True, False))

        async def agree(v2: list[str]) -> None:
            """Both know the newest change, and the same."""
            different: dict[str, Any] = {}
            with suppress(TimeoutError):
                async with asyncio.timeout(30):
                    while True:
                        one, other = by_discovery.said, by_objects.said
                        names = one.keys() | other.keys()
                        different = {it: (one.get(it), other.get(it)) for it in names if one.get(it) != other.get(it)}
                        if not different and addresses(by_objects, V2) == v2:
                            return
                        await asyncio.sleep(0.1)
            raise AssertionError(f"{addresses(by_objects, V2)}, different: {different}")

        async with by_discovery.watching(), by_objects.watching():
            await agree(["10.0.1.2"])
            assert len(by_discovery.said) >= 30
            before = by_discovery.updates
            change = asyncio.to_thread
            for namespace in (NAME, OTHER):
                await change(cluster.put, "late", namespace, f"10.0.{1 + len(namespace)}.9", version="v2")
            await agree(["10.0.1.2", "10.0.6.9"])
            await change(cluster.put, "late", OTHER, is_ready=False)
            await agree(["10.0.1.2"])
            await change(cluster.put, "late", OTHER, is_ready=True)
            await agree(["10.0.1.2", "10.0.6.9"])
            for namespace in (NAME, OTHER):
                await change(cluster.remove, "late", namespace)
            await agree(["10.0.1.2"])
            assert by_discovery.updates > before

            await change(cluster.istiod.end)
            await change(cluster.put, "b-3", OTHER, "10.0.1.3", version="v2")
            await asyncio.sleep(1)
            assert addresses(by_discovery, V2) == ["10.0.1.2"]
            await change(cluster.istiod.start)
            await agree(["10.0.1.2", "10.0.1.3"])
            await change(cluster.remove, "b-3", OTHER)
            await agree(["10.0.1.2"])

    run(scenario(), 200)


class Clients:
    """Ask the waypoint at `ip` for a service, each on a connection of its own. `answers` are counted by their body,
    those that are not 200 by their status."""

    def __init__(self, pki: MeshPki, ip: str, authority: str) -> None:
        self._pki = pki
        self._ip, self._authority = ip, authority
        self._pool = HbonePool(Settings())
        self.answers: Counter[bytes] = Counter()

    @asynccontextmanager
    async def asking(self, count: int) -> AsyncIterator[None]:
        """No connection may end meanwhile."""
        tasks = [asyncio.ensure_future(self._ask()) for _ in range(count)]
        try:
            yield
            assert not any(it.done() for it in tasks), self.answers
        finally:
            for it in tasks:
                it.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._pool.close()

    async def _ask(self) -> None:
        identity = self._pki.identity(NAME, "client")
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        tunnel = await self._pool.connect(
            lambda: protocol,
            certificate=self._pki.certificate(identity),
            identities=frozenset({self._pki.identity(NAME, "waypoint")}),
            address=(self._ip, 15008),
            request=ConnectRequest(Authority.parse(self._authority.encode())),
        )
        writer = asyncio.StreamWriter(tunnel, protocol, reader, asyncio.get_running_loop())
        try:
            while True:
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.answers[body if b" 200 " in head else head[9:12]] += 1
        finally:
            writer.close()

    async def get(self, *bodies: bytes) -> None:
        """Wait until these are the answers, and no others."""
        async with asyncio.timeout(30):
            while True:
                self.answers, before = Counter(), self.answers
                assert not {it for it in before if it.isdigit()}, before
                await asyncio.sleep(0.2)
                if self.answers.keys() == set(bodies):
                    return


def test_a_waypoint_carries_requests_while_endpoints_change_and_istiod_is_away(
    cluster: Cluster, tmp_path: Path
) -> None:
    vip, ip, one, two = "10.97.0.77", address(), address(), address()
    pki = MeshPki(tmp_path / "pki")
    chain, istiod = pki.write(pki.identity(NAME, "waypoint")), cluster.istiod
    cluster.api.apply(service("plain", OTHER, clusterIP=vip, selector={"app": "plain"}))
    cluster.alone("plain-1", OTHER, one, app="plain")
    command = [
        "waypoint", "run", f"--gateway={NAME}/waypoint", f"--kubeconfig={cluster.api.kubeconfig}",
        f"--discovery={istiod.address}", f"--discovery-root={istiod.root}", f"--discovery-token={istiod.token}",
        f"--certificate={chain}", f"--private-key={chain.with_suffix('.key')}", f"--trust-bundle={pki.bundle_path}",
        f"--listen={ip}:15008",
    ]  # fmt: skip
    program = Program(command, tmp_path / "waypoint.log", {"POD_NAMESPACE": NAME, "DRAIN_DELAY_SECONDS": "0"})

    async def scenario() -> None:
        change, clients = asyncio.to_thread, Clients(pki, ip, f"{vip}:80")
        async with origin(one, answering(b"one")), origin(two, answering(b"two")), clients.asking(4):
            await clients.get(b"one")
            for _ in range(3):
                await change(cluster.alone, "plain-2", OTHER, two, app="plain")
                await clients.get(b"one", b"two")
                await change(cluster.delete, "plain-2", OTHER)
                await clients.get(b"one")
            await change(istiod.end)
            await change(until, lambda: "what was known stays in force" in program.readiness()[1])
            assert program.readiness()[0] == 200
            await change(cluster.alone, "plain-2", OTHER, two, app="plain")
            await clients.get(b"one")
            await change(istiod.start)
            await clients.get(b"one", b"two")
            await change(until, lambda: "stays in force" not in program.readiness()[1])

    try:
        program.becomes_ready()
        run(scenario(), 150)
    finally:
        program.end()
        cluster.api.kubectl("delete", "service", "plain", "-n", OTHER)
        cluster.delete("plain-1", OTHER)
