"""Who speaks HBONE to whom: our ztunnel or Envoy in front of our waypoint, our ztunnel or Envoy behind it.

    client ──▶ our ztunnel ┐                    ┌ our ztunnel ──▶ app
                           ├══▶ our waypoint ══▶┤
    client ──▶ Envoy       ┘                    └ Envoy       ──▶ app

Istio's waypoint stands beside ours, to compare: `tests.cluster.istio_waypoint`. istiod signs all certificates: our
programs ask it by their own client, Envoy gets files. The ztunnel behind learns the mesh from istiod, and our waypoint
its workloads. Everything else is known from the API server, which has no node. All pods are addresses of this machine;
the applications, and the client, are Istio's echo.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l4.identity.authority import SignedChain, certificate_request
from l4.identity.istio_ca import IstioCa
from policies.attributes import Identity
from tests.cluster import hbone_peers, istio_waypoint, tools
from tests.cluster import matrix_objects as objects
from tests.cluster.bare import BareServer, bare_server
from tests.cluster.echo import echo
from tests.cluster.hbone_peers import Place
from tests.cluster.istiod import Istiod, crds
from tests.cluster.matrix_objects import (
    ACCOUNTS,
    DESTINATIONS,
    HBONE,
    IMPOSTORS,
    NAME,
    PORTS,
    SERVICES,
    identity,
)
from tests.cluster.programs import Program
from tests.cluster.waiting import until
from tests.kit import envoy
from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.envoy_pieces import Certificate
from tests.kit.mesh import address

SOURCES = ("ztunnel", "envoy")
STRAIGHT = {f"pod-{it}": it for it in DESTINATIONS}
"""What leads to the address of a pod, past the waypoint."""
_TARGETS = (*SERVICES, *STRAIGHT)
LIFE = 20
"""Seconds for which the certificates of our programs are good. Those of Envoy outlast the tests."""
CRDS = (
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "requestauthentications.security.istio.io",
    "destinationrules.networking.istio.io",
    "serviceentries.networking.istio.io",
    "virtualservices.networking.istio.io",
    "workloadentries.networking.istio.io",
)
_FLUSHES = ("--file-flush-interval-msec", "100")  # access logs
_CRDS_OF_OURS = Path(__file__).parents[2] / "deploy" / "crds"


@dataclass
class Matrix:
    """`pods` are their addresses. `entries` are where a client connects: by source, account, and the Service or what of
    `STRAIGHT` it reaches."""

    folder: Path
    api: BareServer
    istiod: Istiod
    pods: Mapping[str, str]
    entries: Mapping[tuple[str, str, str], str]
    _certificates: dict[str, Certificate] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        """The access log of `waypoint`, `ztunnel-near`, `ztunnel-far`, `envoy-client` or `envoy-server`."""
        return self.folder / f"{name}.access"

    def url(self, source: str, service: str, port: str = "http", *, account: str = "client", path: str = "") -> str:
        scheme = {"h2c": "http", "own": "http"}.get(port, port)
        number = PORTS["http" if port == "ws" else port].service
        return f"{scheme}://{self.entries[source, account, service]}:{number}{path}"

    def certificate(self, account: str, *peers: str) -> Certificate:
        """Files of an account's certificate from istiod, for a proxy that talks to `peers` alone, if there are any."""
        if account not in self._certificates:
            self._certificates[account] = self._signed(account)
        its = self._certificates[account]
        return Certificate(its.chain, its.key, its.roots, tuple(str(identity(it)) for it in peers))

    def _signed(self, account: str) -> Certificate:
        key, request = certificate_request(identity(account))
        its = self.istiod
        ca = IstioCa(its.address, root_path=its.root, token_path=its.token_of(account), cluster_id="Kubernetes")

        async def sign() -> SignedChain:
            try:
                return await ca.sign(identity(account), request)
            finally:
                await ca.close()

        answer = run(sign(), 30)
        files = Certificate(*(self.folder / f"{account}.{kind}" for kind in ("pem", "key", "roots")))
        files.chain.write_bytes(answer.chain_pem)
        files.key.write_bytes(key.pem)
        files.roots.write_bytes(answer.trust_bundle_pem)
        return files

    def impostor(self, kind: str) -> Certificate:
        """What the HBONE server of an impostor shows in place of the certificate of `app`."""
        if kind == "right":
            return self.certificate("app")
        if kind == "other-account":
            return self.certificate("stranger")
        pki, name = self.istiod.pki, Identity("elsewhere.local", NAME, "app")
        if kind == "other-root":
            pki, name = MeshPki(self.folder / "other-root"), identity("app")
        pair = pki.leaf([str(name)])
        its = Certificate(self.folder / f"{kind}.pem", self.folder / f"{kind}.key", self.istiod.root)
        its.chain.write_bytes(pair.chain_pem)
        its.key.write_bytes(pair.key_pem)
        return its


@contextmanager
def matrix(folder: Path) -> Iterator[Matrix]:
    tools.install("istio")
    with ExitStack() as stack:
        api = stack.enter_context(bare_server(folder))
        api.install_gateway_api()
        api.kubectl("apply", "--server-side", "-f", str(_CRDS_OF_OURS))
        api.apply(*crds(*CRDS))
        api.wait_for_crds()
        api.apply(*objects.accounts())
        istiod = Istiod(NAME, folder, api.kubeconfig, is_authority=True)
        istiod.start()
        stack.callback(istiod.end)

        pods = {name: address() for name in (*ACCOUNTS, *objects.PODS)}
        entries = {(by, account, to): address() for by in SOURCES for account in ACCOUNTS for to in _TARGETS}
        it = Matrix(folder, api, istiod, pods, entries)
        _populate(it)
        for program in _programs(it):
            stack.callback(program.end)
            program.becomes_ready()
        for config, ready in _peers(it):
            stack.enter_context(envoy.run(config, ready=ready, options=_FLUSHES))
        for name in DESTINATIONS:
            stack.enter_context(echo(pods[name], name, folder))
        yield it


def _populate(it: Matrix) -> None:
    captures = {
        account: ", ".join(
            f"{it.entries['ztunnel', account, to]}:{listen}={ip}:{port}"
            for to in _TARGETS
            for ip, listen, port in _reached(it, to)
        )
        for account in ACCOUNTS
    }
    made = objects.pods(it.pods, captures)
    it.api.apply(*(pod for pod, _ in made), *objects.gateways(), *objects.services(), *objects.policies())
    for pod, status in made:
        _patch(it.api, "pod", pod["metadata"]["name"], status)
    places = {
        "waypoint": {"type": "IPAddress", "value": it.pods["waypoint"]},
        "impostor": {"type": "IPAddress", "value": it.pods["other-account"]},
        "theirs": {"type": "Hostname", "value": f"theirs.{NAME}.svc.cluster.local"},
    }
    for name, place in places.items():
        _patch(it.api, "gateway", name, {"addresses": [place]})


def _reached(it: Matrix, name: str) -> list[tuple[str, int, int]]:
    """Address and ports behind an entry: the client's port, which is that of a Service, and the reached one."""
    if name in STRAIGHT:
        return [(it.pods[STRAIGHT[name]], port.service, port.pod) for port in PORTS.values()]
    return [(SERVICES[name].vip, port.service, port.service) for port in PORTS.values()]


def _patch(api: BareServer, kind: str, name: str, status: Mapping[str, Any]) -> None:
    change = json.dumps({"status": status})
    api.kubectl("patch", kind, name, "-n", NAME, "--subresource=status", "--type=merge", f"-p={change}")


def _programs(it: Matrix) -> Iterator[Program]:
    istiod = it.istiod
    by_objects = [f"--kubeconfig={it.api.kubeconfig}"]
    by_discovery = [f"--discovery={istiod.address}", f"--discovery-root={istiod.root}"]
    by_discovery += [f"--discovery-token={istiod.token}"]
    own = {"POD_NAMESPACE": NAME, "SERVICE_ACCOUNT": "waypoint", "DRAIN_DELAY_SECONDS": "0", "DRAIN_SECONDS": "1"}
    own["CERTIFICATE_SECONDS"] = str(LIFE)

    def started(name: str, token: Path, command: list[str]) -> Program:
        authority = [f"--ca-address={istiod.address}", f"--ca-root={istiod.root}", f"--ca-token={token}"]
        command = [*command, *authority, "--cluster-id=Kubernetes", f"--access-log={it.log(name)}"]
        return Program(command, it.folder / f"{name}.log", own)

    listen = f"--listen={it.pods['waypoint']}:{HBONE}"
    waypoint = ["waypoint", "run", f"--gateway={NAME}/waypoint", listen, *by_objects, *by_discovery]
    yield started("waypoint", istiod.token_of("waypoint"), waypoint)
    for node, source in (("far", by_discovery), ("near", by_objects)):
        token = istiod.token_of("ztunnel", f"ztunnel-{node}")
        yield started(f"ztunnel-{node}", token, ["ztunnel", "run", f"--node={node}", *source])


def _peers(it: Matrix) -> Iterator[tuple[envoy.Config, envoy.Address]]:
    calls = []
    for account in ACCOUNTS:
        for name in _TARGETS:
            pod = STRAIGHT.get(name) or ("theirs" if name.startswith("theirs-") else "waypoint")
            to = it.pods[pod], HBONE
            its = it.certificate(account, "app" if name in STRAIGHT else "waypoint")
            for ip, listen, port in _reached(it, name):
                calls.append(((it.entries["envoy", account, name], listen), its, to, f"{ip}:{port}"))
    yield hbone_peers.client(calls, source_ip=it.pods["client"], log=it.log("envoy-client")), calls[-1][0]

    app, waypoint, client = it.pods["behind-envoy"], str(identity("waypoint")), str(identity("client"))
    places = [Place((app, HBONE), it.certificate("app"), app, (waypoint,))]
    places += [Place((it.pods[kind], HBONE), it.impostor(kind), app, (waypoint, client), "0.2s") for kind in IMPOSTORS]
    ports = {port.pod for port in PORTS.values()}
    theirs = istio_waypoint.node("theirs", NAME, it.pods["theirs"], objects.LABELS_OF_THEIRS, objects.TELLS_CLIENT)
    until(lambda: _is_complete(istio_waypoint.programmed(it.istiod, theirs)))

    def endpoints(host: str, port: int) -> list[envoy.Address]:
        name = host.partition(".")[0].removeprefix("theirs-").removeprefix("to-")
        names = DESTINATIONS if name == "either" else (name,)
        return [(it.pods[name], next(its.pod for its in PORTS.values() if its.service == port)) for name in names]

    config = istio_waypoint.waypoint(it.istiod, theirs, it.certificate("waypoint"), endpoints)
    yield config, (it.pods["theirs"], HBONE)
    yield hbone_peers.server(places, ports=ports, log=it.log("envoy-server")), places[-1].listen


def _is_complete(told: Mapping[str, Any]) -> bool:
    """Whether istiod has followed all objects of the waypoint."""
    text = json.dumps(told["listeners"])
    its = [f"theirs-{name}.{NAME}.svc" for name in (*DESTINATIONS, "either", "to-right")]
    routes = [f"slow-theirs-{name}" for name in DESTINATIONS]
    return all(it in text for it in (*its, *routes, "policy[guarded]"))
