"""A mesh on this machine whose control plane is a real istiod: two ztunnels and a waypoint under steady load.

The API server has the objects of three pods, and no kubelet. The pods are network namespaces, each with a program of
this checkout or of the tests' kit, and an agent redirects them as on a node. istiod tells the ztunnels what is in the
mesh, and signs for all three programs; they reach it through a `Gate` and a `Middleman`, which tests can spoil.
"""

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from l4.net.tasks import Tasks
from l4.node.agent import Agent, NodePod
from tests.cluster import tools
from tests.cluster.bare import BareServer, bare_server
from tests.cluster.gate import Backstage, Gate, backstage
from tests.cluster.istiod import Istiod, crds
from tests.cluster.load import Outcome, lines_between
from tests.cluster.middleman import Middleman
from tests.cluster.programs import free_port
from tests.cluster.waiting import until
from tests.kit.certificates import MeshPki
from tests.kit.pod_network import PodNetwork, namespace, pod_networks
from tests.kit.timed import GRPC_PORT, HTTP_PORT

NAME = "mesh"
NODES = {"client": "node-a", "server": "node-b", "waypoint": "node-b"}
SERVICES = ("direct", "bound")
"""The second one is bound to the waypoint."""
_IPS = {"client": "10.99.0.1", "server": "10.99.0.2", "waypoint": "10.99.0.3"}
_ISTIO = (
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "serviceentries.networking.istio.io",
    "workloadentries.networking.istio.io",
)
_NEWS_SECONDS = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")


def metadata(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": NAME, **more}


def pod(name: str, account: str, node: str, **about: Any) -> dict[str, Any]:
    spec = {"nodeName": node, "serviceAccountName": account, "automountServiceAccountToken": False}
    spec["containers"] = [{"name": "app", "image": "app"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata(name, **about), "spec": spec}


def service(name: str, app: str, ports: dict[str, int], **about: Any) -> dict[str, Any]:
    spec = {"selector": {"app": app}, "ports": [{"name": name, "port": port} for name, port in ports.items()]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, **about), "spec": spec}


def _objects() -> list[dict[str, Any]]:
    ports = {"http": HTTP_PORT, "grpc": GRPC_PORT}
    accounts = ("ztunnel", *NODES)
    gateway = {"gatewayClassName": "pywaypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]}
    its = {"gateway.networking.k8s.io/gateway-name": "waypoint"}
    redirected = {"ambient.istio.io/redirection": "enabled"}
    return [
        *({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(it)} for it in accounts),
        *(pod(f"ztunnel-{node}", "ztunnel", node) for node in sorted(set(NODES.values()))),
        *(pod(it, it, NODES[it], labels={"app": it}, annotations=redirected) for it in ("client", "server")),
        pod("waypoint", "waypoint", NODES["waypoint"], labels={"app": "waypoint", **its}),
        service("waypoint", "waypoint", {"hbone": 15008}, labels=its),
        service("direct", "server", ports),
        service("bound", "server", ports, labels={"istio.io/use-waypoint": "waypoint"}),
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "pywaypoint"},
            "spec": {"controllerName": "pywaypoint.dev/mesh-controller"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": metadata("waypoint"),
            "spec": gateway,
        },
    ]


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds so far, and MiB of memory."""

    cpu: float
    mib: int


class Program:
    """One of ours. What it says goes to `log`."""

    def __init__(self, name: str, command: list[str], log: Path, place: PodNetwork | None = None, **more: str) -> None:
        self.name = name
        self.log = log
        self._place = place
        self._ports = {it: free_port() for it in ("metrics", "readiness", "admin")}
        environment = {it: value for it, value in os.environ.items() if it != "KUBERNETES_SERVICE_HOST"}
        environment |= {"DRAIN_SECONDS": "1", "POD_NAMESPACE": NAME, "PYTHONPATH": os.pathsep.join(sys.path), **more}
        flags = [f"--{it}=127.0.0.1:{port}" for it, port in self._ports.items()]
        with log.open("ab") as file:
            self._process = started(place, [sys.executable, "-m", *command, *flags], file, file, environment)

    def is_ready(self) -> bool:
        assert self._process.poll() is None, f"{self.name} has ended: {self.log.read_text()[-3000:]}"
        return self._get("readiness", "healthz/ready")[0] == 200

    def concern(self) -> str:
        """What readiness says."""
        return self._get("readiness", "healthz/ready")[1]

    def metrics(self) -> str:
        return self._get("metrics", "stats/prometheus")[1]

    def dump(self) -> Any:
        return json.loads(self._get("admin", "config_dump")[1])

    def used(self) -> Used:
        folder = Path(f"/proc/{self._process.pid}")
        times = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        pages = int((folder / "statm").read_text().split()[1])
        return Used(sum(map(int, times)) / _TICKS, pages * os.sysconf("SC_PAGE_SIZE") >> 20)

    def end(self) -> None:
        _end(self._process)

    def _get(self, port: str, path: str) -> tuple[int, str]:
        command = ["curl", "-s", "-m", "20", "-w", "\n%{http_code}", f"http://127.0.0.1:{self._ports[port]}/{path}"]
        process = started(self._place, command, subprocess.PIPE, None, dict(os.environ))
        out, _ = process.communicate(timeout=30)
        text, _, status = out.decode().rpartition("\n")
        return int(status), text


def started(
    place: PodNetwork | None, command: list[str], out: Any, errors: Any, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    with ExitStack() as stack:
        if place is not None:
            stack.enter_context(place.network.entered())
        return subprocess.Popen(command, stdout=out, stderr=errors, env=environment)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


class Mesh:
    """`ztunnels` and `waypoint` are ready, and requests are sent all the time: see `watched`."""

    def __init__(self, folder: Path, server: BareServer, istiod: Istiod, stage: Backstage) -> None:
        self.folder = folder
        self.server = server
        self.istiod = istiod
        self.stage = stage
        self.pki = istiod.pki
        pair = self.pki.leaf(ips=["127.0.0.1"])
        self.middleman = Middleman(stage, istiod.address, istiod.root, pair)
        self.gate = Gate(stage, self.middleman.port, _certificate(self.pki, folder))
        self.pods: dict[str, PodNetwork] = {}
        self.ztunnels: list[Program] = []
        self.waypoint: Program | None = None
        self._clients: list[Path] = []
        self._changes = 0

    def call_directly(self) -> None:
        """Let our programs call istiod itself from now on."""
        self.gate.lead_to(int(self.istiod.address.rpartition(":")[2]))

    def replace_middleman(self, pki: MeshPki) -> None:
        """By one whose certificate leads to the root of `pki`, and which trusts the roots that there are now."""
        self.middleman.close()
        self.middleman = self.middleman.successor(pki.leaf(ips=["127.0.0.1"]))
        self.call_middleman()

    def call_middleman(self) -> None:
        self.gate.lead_to(self.middleman.port)

    def change(self, *also: dict[str, Any]) -> float:
        """Change a workload, and `also` these objects. Returns after how many seconds both ztunnels know it."""
        self._changes += 1
        address = f"198.51.100.{self._changes}"
        entry = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": metadata("probe"),
            "spec": {"address": address, "serviceAccount": "probe"},
        }
        began = time.monotonic()
        self.server.apply(entry, *also)
        until(lambda: all(address in json.dumps(it.dump()["workloads"]) for it in self.ztunnels))
        return time.monotonic() - began

    @property
    def programs(self) -> list[Program]:
        return [*self.ztunnels, *([self.waypoint] if self.waypoint else [])]

    @contextmanager
    def watched(self, what: str) -> Iterator[Outcome]:
        """Yields the outcome, filled when the block has ended and none of its requests is active any more. Prints it,
        and what our programs have used meanwhile."""
        before, seen = [it.used() for it in self.programs], Outcome(what, time.time())
        yield seen
        ended = time.time()
        seen.seconds = ended - seen.began
        after = [it.used() for it in self.programs]
        for path in self._clients:
            lines = until(lambda: _lines(path, seen.began, ended), _NEWS_SECONDS)  # noqa: B023
            seen.add(lines or ())
        rows = [
            f"{it.name} {100 * (b.cpu - a.cpu) / seen.seconds:.0f} % of a core, {b.mib} MiB"
            for it, a, b in zip(self.programs, before, after, strict=True)
        ]
        print(f"\n{seen.row()}\n    {'; '.join(rows)}")

    def start(self, pods: list[PodNetwork], rate: float, stack: ExitStack) -> None:
        """`rate` requests a second in all."""
        self.pods = dict(zip(NODES, pods, strict=True))
        self._write_statuses()
        agents = Agents(self.stage, self.folder, stack)
        port = self.gate.listen()
        for name in ("client", "server"):
            socket = agents.socket(name, self._uid(name), self.pods[name])
            self.ztunnels.append(self.ztunnel(NODES[name], port, f"--agent={socket}"))
        self.waypoint = self._waypoint(stack)
        for it in self.programs:
            stack.callback(it.end)
        until(lambda: all(it.is_ready() for it in self.programs))
        agents.wait()
        self._start_load(rate, stack)

    def _start_load(self, rate: float, stack: ExitStack) -> None:
        # What clients keep for longer than a certificate lives is cut.
        kept = str(self.middleman.valid_seconds / 5)
        environment = os.environ | {"RATE": str(rate / len(SERVICES)), "GO": "/dev/null", "KEPT_SECONDS": kept}
        module = [sys.executable, "-m", "tests.cluster.load_program"]
        with (self.folder / "load.log").open("ab") as errors:
            stack.callback(_end, started(self.pods["server"], [*module, "serve"], errors, errors, environment))
            for name in SERVICES:
                path = self.folder / f"load-{name}"
                self._clients.append(path)
                command = [*module, "ask", self.vip(name)]
                its = environment | ({"WITHOUT_HTTP2": ""} if name == "direct" else {})
                with path.open("wb") as out:
                    stack.callback(_end, started(self.pods["client"], command, out, errors, its))
        self.is_answered()

    def is_answered(self) -> None:
        """Wait until no request of the last second has failed."""
        until(lambda: all(_is_answered(it) for it in self._clients))

    def vip(self, name: str) -> str:
        return self.server.kubectl("get", "service", name, "-n", NAME, "-o", "jsonpath={.spec.clusterIP}")

    def _uid(self, name: str) -> str:
        return self.server.kubectl("get", "pod", name, "-n", NAME, "-o", "jsonpath={.metadata.uid}")

    def _write_statuses(self) -> None:
        """In place of kubelet and controllers."""
        for name, ip in _IPS.items():
            self.set_status("pod", name, running(ip))
        for node in set(NODES.values()):
            self.set_status("pod", f"ztunnel-{node}", running("10.98.0.1"))
        address = {"type": "Hostname", "value": f"waypoint.{NAME}.svc.cluster.local"}
        self.set_status("gateway", "waypoint", {"addresses": [address]})

    def set_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        text = json.dumps({"status": status})
        self.server.kubectl("patch", kind, name, "-n", NAME, "--subresource=status", "--type=merge", "-p", text)

    def ztunnel(self, node: str, port: int, *more: str) -> Program:
        """One of a node, whose istiod is at a port."""
        token = self.istiod.token_of("ztunnel", f"ztunnel-{node}")
        address, root = f"127.0.0.1:{port}", self.istiod.root
        flags = [
            f"--discovery={address}", f"--discovery-root={root}", f"--discovery-token={token}",
            f"--ca-address={address}", f"--ca-root={root}", f"--ca-token={token}",
            f"--node={node}", f"--access-log={self.folder / f'access-{node}.log'}", *more,
        ]  # fmt: skip
        log = self.folder / f"ztunnel-{node}.log"
        return Program(f"ztunnel of {node}", ["l4.ztunnel.cli", "run", *flags], log, POD_NAME=f"ztunnel-{node}")

    def _waypoint(self, stack: ExitStack) -> Program:
        place = self.pods["waypoint"]
        url, kubeconfig = self.server.url, self.folder / "waypoint.yaml"
        api = Gate(self.stage, int(url.rpartition(":")[2]), _certificate(self.pki, self.folder))
        stack.callback(api.close)
        here = f"https://127.0.0.1:{api.listen(place.network)}"
        kubeconfig.write_text(self.server.kubeconfig.read_text().replace(url, here))
        flags = [
            f"--kubeconfig={kubeconfig}", f"--gateway={NAME}/waypoint",
            f"--ca-address=127.0.0.1:{self.gate.listen(place.network)}",
            f"--ca-root={self.istiod.root}", f"--ca-token={self.istiod.token_of('waypoint', 'waypoint')}",
            f"--access-log={self.folder / 'access-waypoint.log'}",
        ]  # fmt: skip
        log = self.folder / "waypoint.log"
        return Program("waypoint", ["waypoint.cli", "run", *flags], log, place, SERVICE_ACCOUNT="waypoint")


class Agents:
    """The agents of both nodes. Each pod is redirected by that of its node."""

    def __init__(self, stage: Backstage, folder: Path, stack: ExitStack) -> None:
        self._stage = stage
        self._folder = folder
        self._stack = stack
        self._agents: dict[str, Agent] = {}

    def socket(self, name: str, uid: str, place: PodNetwork) -> Path:
        path = self._folder / f"{name}.sock"
        machine, _ = self._stack.enter_context(namespace())
        pod = NodePod(uid, name, NAME, name, (place.ip,), (place.container,))

        async def start() -> tuple[Agent, Tasks]:
            agent, tasks = Agent(path, machine, proc=replace(place, machine=machine).proc), Tasks()
            agent.want([pod])
            tasks.keep("announcing", agent.announcer.serve)
            tasks.keep("redirecting", agent.follow)
            return agent, tasks

        agent, tasks = self._stage.run(start())
        self._stack.callback(lambda: self._stage.run(tasks.close()))
        self._agents[uid] = agent
        return path

    def wait(self) -> None:
        until(lambda: all(uid in agent.redirected for uid, agent in self._agents.items()))


def running(ip: str) -> dict[str, Any]:
    ready = [{"type": "Ready", "status": "True"}]
    return {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready}


def _certificate(pki: MeshPki, folder: Path) -> ssl.SSLContext:
    pair = pki.leaf(ips=["127.0.0.1"])
    path = folder / "gate.pem"
    path.write_bytes(pair.key_pem + pair.chain_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    context.set_alpn_protocols(["h2"])
    return context


def _lines(path: Path, began: float, ended: float) -> list[Any] | None:
    whole, _, _ = path.read_text().rpartition("\n")
    return lines_between(whole, began, ended)


def _is_answered(path: Path) -> bool:
    """The first seconds may meet redirection that is not complete."""
    whole, _, _ = path.read_text().rpartition("\n")
    found = [json.loads(it) for it in whole.splitlines()]
    return len(found) > 2 and not found[-1]["failed"] and bool(found[-1]["milliseconds"])


@contextmanager
def istio_mesh(folder: Path, rate: float = 100.0, valid_seconds: int = 3600) -> Iterator[Mesh]:
    """Sends `rate` requests a second in all. Certificates are valid for `valid_seconds`."""
    tools.install("istio")
    with ExitStack() as stack:
        pods = stack.enter_context(pod_networks(*_IPS.values()))
        server = stack.enter_context(bare_server(folder / "api"))
        server.install_gateway_api()
        for crd in crds(*_ISTIO):
            server.kubectl("apply", "--server-side", "-f", "-", given=crd)
        server.kubectl("wait", "--for=condition=Established", *(f"crd/{it}" for it in _ISTIO), "--timeout=60s")
        ambient = {"name": NAME, "labels": {"istio.io/dataplane-mode": "ambient"}}
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": ambient})
        server.apply(*_objects())
        istiod = Istiod(NAME, folder, server.kubeconfig, is_authority=True)
        istiod.start()
        stack.callback(istiod.end)
        stage = stack.enter_context(backstage())
        mesh = Mesh(folder, server, istiod, stage)
        mesh.middleman.valid_seconds = valid_seconds
        stack.callback(mesh.gate.close)
        stack.callback(lambda: mesh.middleman.close())
        mesh.start(pods, rate, stack)
        yield mesh
