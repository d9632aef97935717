"""What a large cluster costs the mesh's programs: many Services and Pods, of which endpoints come and go.

    python -m tests.cluster scale

The Services, Pods and EndpointSlices are objects only, on a node that no kubelet serves. SERVICES (1000), PODS (5000),
RATE (50 changes a second) and SECONDS (60) choose how many. One more Service, of two real pods, has one ready endpoint
at a time; a client asks it through a waypoint without a pause, and so sees how long a change takes to be live.
"""

import asyncio
import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from bench.figures import show
from l4.kubernetes import kubeconfig
from l4.kubernetes.client import ApiClient, ResourceType
from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.kubectl import kubectl
from tests.cluster.progress import step
from tests.cluster.tools import BIN

NAMESPACE, NODE = "scale", "scale-node"
_AT_ONCE = 24
_BEAT_SECONDS = 5.0
_PROBE_SECONDS = 3.0
_IMAGE = "docker.io/pywaypoint/bookinfo-reviews:v1"
_PROGRAMS = {"waypoint": b"waypoint\0run", "ztunnel": b"ztunnel\0run", "controller": b"controller\0run"}
_TICKS = os.sysconf("SC_CLK_TCK")

PODS = ResourceType("", "v1", "pods", "Pod")
NODES = ResourceType("", "v1", "nodes", "Node", is_namespaced=False)
SERVICES = ResourceType("", "v1", "services", "Service")
SLICES = ResourceType("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES = ResourceType("coordination.k8s.io", "v1", "leases", "Lease")

_CLIENT = """
import http.client, json, time
while True:
    try:
        connection = http.client.HTTPConnection("probe", 9080, timeout=2)
        connection.request("GET", "/reviews/0")
        answer = connection.getresponse()
        said = json.loads(answer.read())["podname"] if answer.status == 200 else answer.status
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        said = type(error).__name__
    print(time.time(), said, flush=True)
    time.sleep(0.01)
"""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    services: int = int(os.environ.get("SERVICES", "1000"))
    pods: int = int(os.environ.get("PODS", "5000"))
    rate: float = float(os.environ.get("RATE", "50"))
    seconds: float = float(os.environ.get("SECONDS", "60"))

    @property
    def pods_each(self) -> int:
        return self.pods // self.services


@dataclass(slots=True)
class Used:
    """What the processes of one program have used: CPU seconds, and bytes of memory of the largest."""

    cpu: float = 0.0
    rss: int = 0
    processes: int = 0


def used() -> dict[str, Used]:
    """By program. The nodes' processes are this machine's."""
    found = {name: Used() for name in _PROGRAMS}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            name = next((it for it, words in _PROGRAMS.items() if words in command), None)
            if name is None:
                continue
            times = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
            pages = int((folder / "statm").read_text().split()[1])
        except OSError:
            continue
        its = found[name]
        its.cpu += sum(map(int, times)) / _TICKS
        its.rss = max(its.rss, pages * os.sysconf("SC_PAGE_SIZE"))
        its.processes += 1
    return found


class Cluster:
    """The objects. `changed` is when the probe's endpoint was changed last, and to which pod."""

    def __init__(self, client: ApiClient, size: Size) -> None:
        self._client = client
        self._size = size
        self._asleep: dict[int, int] = {}
        self.probes: list[str] = []
        self.changes: list[tuple[float, str]] = []

    async def make(self) -> None:
        await self._make_node()
        size = self._size
        await _all(self._make_pod(it) for it in range(size.pods))
        await _all(self._make_service(it) for it in range(size.services))

    async def beat(self) -> None:
        """A node whose Lease is not renewed is taken for dead, and its pods with it."""
        path = LEASES.path("kube-node-lease", NODE)
        while True:
            await self._client.merge(path, {"spec": {"renewTime": _now()}})
            await asyncio.sleep(_BEAT_SECONDS)

    async def churn(self) -> int:
        """Change an endpoint of some Service `rate` times a second. Returns how many changes were made."""
        size, loop = self._size, asyncio.get_running_loop()
        began = loop.time()
        for number in count():
            await asyncio.sleep(max(0.0, began + number / size.rate - loop.time()))
            if loop.time() - began >= size.seconds:
                return number
            service = random.randrange(size.services)
            asleep = self._asleep.pop(service, None)
            if asleep is None:
                asleep = self._asleep[service] = random.randrange(size.pods_each)
            await self._client.merge(SLICES.path(NAMESPACE, f"s{service}"), {"endpoints": self._endpoints(service)})
        raise AssertionError

    async def probe(self) -> None:
        """Move the probe's Service from one of its pods to the other, again and again."""
        for number in count():
            ready = number % 2
            endpoints = [_endpoint(ip, name, is_ready=it == ready) for it, (name, ip) in enumerate(_probes())]
            if number == 0:
                await self._client.create(SLICES.path(NAMESPACE), _slice("probe", endpoints, 9080))
            else:
                await self._client.merge(SLICES.path(NAMESPACE, "probe"), {"endpoints": endpoints})
            self.changes.append((time.time(), _probes()[ready][0]))
            await asyncio.sleep(_PROBE_SECONDS * random.uniform(0.8, 1.2))

    async def _make_node(self) -> None:
        labels = {"kubernetes.io/os": "none"}  # no DaemonSet's pod comes here
        spec = {"taints": [{"key": "scale", "effect": "NoSchedule"}]}
        await self._client.create(NODES.path(), _object(NODES, NODE, labels=labels, spec=spec))
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Scale",
            "message": "",
            "lastHeartbeatTime": _now()[:19] + "Z",
        }
        ready["lastTransitionTime"] = ready["lastHeartbeatTime"]
        await self._client.merge(NODES.path("", NODE, "status"), {"status": {"conditions": [ready]}})
        spec = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": _now()}
        lease = _object(LEASES, NODE, "kube-node-lease", spec=spec)
        await self._client.apply(LEASES.path("kube-node-lease", NODE), lease, force=True)

    async def _make_pod(self, number: int) -> None:
        name, ip = f"p{number}", _address(number)
        spec = {
            "nodeName": NODE,
            "containers": [{"name": "app", "image": "none"}],
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": False,
        }
        annotations = {"ambient.istio.io/redirection": "enabled"}
        await self._client.create(
            PODS.path(NAMESPACE), _object(PODS, name, NAMESPACE, annotations=annotations, spec=spec)
        )
        conditions = [
            {"type": it, "status": "True"} for it in ("Ready", "ContainersReady", "Initialized", "PodScheduled")
        ]
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
        await self._client.merge(PODS.path(NAMESPACE, name, "status"), {"status": status})

    async def _make_service(self, number: int) -> None:
        name = f"s{number}"
        spec = {"ports": [{"name": "http", "port": 8080, "appProtocol": "http"}]}
        await self._client.create(SERVICES.path(NAMESPACE), _object(SERVICES, name, NAMESPACE, spec=spec))
        await self._client.create(SLICES.path(NAMESPACE), _slice(name, self._endpoints(number), 8080))

    def _endpoints(self, service: int) -> list[Object]:
        first, asleep = service * self._size.pods_each, self._asleep.get(service)
        return [
            _endpoint(_address(first + it), f"p{first + it}", is_ready=it != asleep)
            for it in range(self._size.pods_each)
        ]


def _address(number: int) -> str:
    return f"10.200.{number >> 8}.{number & 255}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _object(kind: ResourceType, name: str, namespace: str = "", **rest: Any) -> Object:
    about = {it: rest.pop(it) for it in ("labels", "annotations") if it in rest}
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **about}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **rest}


def _slice(service: str, endpoints: list[Object], port: int) -> Object:
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "pywaypoint-scale"}
    ports = [{"name": "http", "port": port, "protocol": "TCP"}]
    return _object(SLICES, service, NAMESPACE, labels=labels, addressType="IPv4", endpoints=endpoints, ports=ports)


def _endpoint(ip: str, pod: str, *, is_ready: bool) -> Object:
    target = {"kind": "Pod", "namespace": NAMESPACE, "name": pod}
    conditions = {"ready": is_ready, "serving": is_ready, "terminating": False}
    return {"addresses": [ip], "conditions": conditions, "targetRef": target}


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all, a few at a time."""
    waiting = iter(works)

    async def work() -> None:
        for it in waiting:
            await it

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())


def _probes() -> list[tuple[str, str]]:
    """Name and address of the two real pods."""
    items = json.loads(kubectl("get", "pods", "-n", NAMESPACE, "-l", "app=probe", "-o", "json"))["items"]
    return sorted((it["metadata"]["name"], it["status"]["podIP"]) for it in items)


def _make_real() -> None:
    """Namespace, waypoint, the probe's two pods and the client's."""
    labels = {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"}
    listeners = [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]
    gateway = _object(ResourceType("gateway.networking.k8s.io", "v1", "gateways", "Gateway"), "waypoint", NAMESPACE)
    ports = [{"name": "http", "port": 9080, "appProtocol": "http"}]
    items = [
        _object(ResourceType("", "v1", "namespaces", "Namespace"), NAMESPACE, labels=labels),
        gateway | {"spec": {"gatewayClassName": "pywaypoint", "listeners": listeners}},
        _object(SERVICES, "probe", NAMESPACE, spec={"ports": ports}),
        _deployment("probe", 2, {"POD_NAME": "metadata.name"}),
        _deployment("client", 1, {}),
    ]
    kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": items})
    kubectl("-n", NAMESPACE, "wait", "--for=condition=Programmed", "gateway/waypoint", "--timeout=180s")
    for name in ("probe", "client"):
        kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=120s")


def _deployment(name: str, replicas: int, fields: dict[str, str]) -> Object:
    env = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()]
    container = {"name": "app", "image": _IMAGE, "imagePullPolicy": "Never", "env": env}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    kind = ResourceType("apps", "v1", "deployments", "Deployment")
    return _object(kind, name, NAMESPACE, labels={"app": name}, spec=spec)


def _latencies(changes: list[tuple[float, str]], answers: list[tuple[float, str]]) -> list[float]:
    """Seconds from each change to the last answer of the pod before it, where the new pod answered afterwards."""
    found = []
    for (at, pod), (until, _) in pairwise(changes):
        within = [(when, said) for when, said in answers if at <= when < until]
        others = [when for when, said in within if said != pod]
        if within and within[-1][1] == pod:
            found.append(max((it - at for it in others), default=0.0))
    return found


async def _measure(size: Size) -> dict[str, dict[str, object]]:
    client = ApiClient(kubeconfig.load(KUBECONFIG, ""))
    cluster = Cluster(client, size)
    with step("make a waypoint and the pods that answer"):
        _make_real()
    beating: asyncio.Task[None] | None = None
    try:
        began = time.monotonic()
        with step(f"make {size.services} Services and {size.pods} Pods"):
            await cluster.make()
        made = time.monotonic() - began
        beating = asyncio.create_task(cluster.beat())
        await asyncio.sleep(15)
        command = [
            str(BIN / "kubectl"),
            f"--kubeconfig={KUBECONFIG}",
            "exec",
            "-n",
            NAMESPACE,
            "deployment/client",
            "--",
        ]
        asking = await asyncio.create_subprocess_exec(*command, "python3", "-c", _CLIENT, stdout=subprocess.PIPE)
        probing = asyncio.create_task(cluster.probe())
        answers: list[tuple[float, str]] = []
        reading = asyncio.create_task(_read(asking, answers))
        with step(f"change {size.rate:g} endpoints a second for {size.seconds:g} s"):
            before, started = used(), time.monotonic()
            changes = await cluster.churn()
            after, seconds = used(), time.monotonic() - started
        probing.cancel()
        asking.terminate()
        await reading
        await client.close()
    finally:
        if beating is not None:
            beating.cancel()
        with step("delete it all"):
            kubectl("delete", "node", NODE, "--ignore-not-found")
            kubectl("delete", "pods", "-n", NAMESPACE, "--all", "--grace-period=0", "--force", "--wait=false")
            kubectl("delete", "namespace", NAMESPACE, "--timeout=200s")
    latencies = sorted(_latencies(cluster.changes, answers))
    failed = sum(1 for _, said in answers if not said.startswith("probe-"))
    result: dict[str, dict[str, object]] = {
        "changes": {
            "made per second": round(changes / seconds, 1),
            "live after, p50 ms": round(statistics.median(latencies) * 1000) if latencies else None,
            "at most ms": round(latencies[-1] * 1000) if latencies else None,
            "of": len(latencies),
        },
        "requests beside": {"answered": len(answers) - failed, "failed": failed},
        "objects": {"made in s": round(made, 1)},
    }
    for name, its in after.items():
        cores = (its.cpu - before[name].cpu) / seconds / max(its.processes, 1)
        result[name] = {
            "processes": its.processes,
            "% of a core each": round(100 * cores, 1),
            "MiB of the largest": its.rss >> 20,
        }
    return result


async def _read(asking: asyncio.subprocess.Process, answers: list[tuple[float, str]]) -> None:
    assert asking.stdout is not None
    async for line in asking.stdout:
        when, _, said = line.decode().strip().partition(" ")
        answers.append((float(when), said))


def measure(*, as_json: bool = False) -> None:
    show(asyncio.run(_measure(Size())), as_json=as_json)
