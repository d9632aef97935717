"""What discovery costs the controller that serves it, and how long a change takes to reach every ztunnel.

    python -m bench.discovery [--ztunnels 20] [--workloads 2000] [--rate 20] [--seconds 30] [--json]

Three processes: an emulated API server, in which at the rate a pod gets another address and the EndpointSlice of its
Service follows; the controller's part that follows objects and serves discovery, which is measured; and the ztunnels,
clients that read, acknowledge, and note when each address arrived. All of that is on this machine, so that its two CPUs
are shared. First the same changes are followed without a client.
"""

import argparse
import asyncio
import multiprocessing
import os
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from multiprocessing.connection import Connection
from typing import Any

import grpc
import uvloop

from bench.figures import show
from l4._proto.workload_pb2 import Address
from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node
from l4.configuration import kubernetes_source
from l4.discovery.mesh import Mesh
from l4.kubernetes.client import ApiClient
from l4.kubernetes.credentials import Credentials, Secrets, Trust
from l4.xds import addresses, authorizations
from l4.xds.client import MAX_MESSAGE_BYTES, METHOD
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.waypoint.controller.accounts import AccountsServer, accounts_server
from waypoint.controller.callers import Callers
from waypoint.controller.discovering import READ, Discovering
from waypoint.controller.discovery_service import DiscoveryService
from waypoint.controller.root import RootAuthority, utc_now
from waypoint.controller.signing_service import SigningService

_PODS_EACH = 10
_START_SECONDS = 120.0
_REST_SECONDS = 5.0
"""Time for the last changes to arrive."""

_KINDS = (
    ("/api/v1", ("Namespace", "Node", "Pod", "Service"), {"Namespace", "Node"}),
    ("/apis/discovery.k8s.io/v1", ("EndpointSlice",), set[str]()),
)


@dataclass(frozen=True, slots=True)
class Size:
    ztunnels: int
    workloads: int
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Used:
    cpu_seconds: float
    peak_bytes: int


# -- the API server, and the changes -----------------------------------------------------------------------------------


class Cluster:
    """`changed` is when each address was given to a pod."""

    def __init__(self, server: KubernetesServer, size: Size) -> None:
        self._server = server
        self._size = size
        self._next = 0
        self._ips: dict[int, str] = {}
        self.changed: dict[str, float] = {}

    def make(self) -> None:
        for path, kinds, global_kinds in _KINDS:
            for kind in kinds:
                self._server.serve(path, kind, is_namespaced=kind not in global_kinds)
        self._server.put("/api/v1/namespaces/ns", {"kind": "Namespace", "apiVersion": "v1"})
        for number in range(self._size.workloads):
            self._ips[number] = self._ip()
            self._put_pod(number)
        for number in range(self._size.workloads // _PODS_EACH):
            vip = f"10.250.{number // 250}.{number % 250 + 1}"
            ports = [{"name": "web", "port": 80, "targetPort": 8080}]
            spec = {"clusterIP": vip, "ports": ports, "selector": {"app": f"app-{number}"}}
            its = {"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": spec}
            self._server.put(f"/api/v1/namespaces/ns/services/app-{number}", its)
            self._put_slice(number)

    async def change(self) -> None:
        """For the given time, at the given rate."""
        begun = time.monotonic()
        for count in range(int(self._size.rate * self._size.seconds)):
            await asyncio.sleep(max(0.0, begun + count / self._size.rate - time.monotonic()))
            number = count * 7919 % self._size.workloads
            self._ips[number] = ip = self._ip()
            self.changed[ip] = time.monotonic()
            self._put_pod(number)
            self._put_slice(number // _PODS_EACH)

    def _ip(self) -> str:
        self._next += 1
        return str(ip_address("10.0.0.0") + self._next)

    def _put_pod(self, number: int) -> None:
        about = {
            "labels": {"app": f"app-{number // _PODS_EACH}"},
            "annotations": {"ambient.istio.io/redirection": "enabled"},
        }
        node = f"node-{number % max(self._size.ztunnels, 1)}"
        ip = self._ips[number]
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready}
        spec = {"serviceAccountName": "app", "nodeName": node, "containers": [{"name": "app", "image": "app"}]}
        its = {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec, "status": status}
        self._server.put(f"/api/v1/namespaces/ns/pods/pod-{number}", its)

    def _put_slice(self, number: int) -> None:
        endpoints = [
            {
                "addresses": [self._ips[it]],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": f"pod-{it}"},
            }
            for it in range(number * _PODS_EACH, (number + 1) * _PODS_EACH)
        ]
        its = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"labels": {"kubernetes.io/service-name": f"app-{number}"}},
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        }
        self._server.put(f"/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/app-{number}", its)


# -- the controller's part ---------------------------------------------------------------------------------------------


class _Nobody:
    keep_seconds = 3600.0

    async def secrets(self) -> Secrets:
        return Secrets("controller")


def _serve(objects: str, accounts: str, pipe: Connection) -> None:
    async def main() -> None:
        to_objects, to_accounts = (ApiClient(Credentials(it, Trust(), _Nobody())) for it in (objects, accounts))
        callers = Callers(to_accounts, "cluster.local", ())
        discovery, is_described = DiscoveryService(callers), asyncio.Event()
        authority = RootAuthority.of(RootAuthority.make("cluster.local", utc_now()), utc_now())
        signing = SigningService(authority, callers, ["localhost"])
        await signing.start("127.0.0.1:0", discovery)

        def publish(description: Any) -> None:
            discovery.publish(description)
            is_described.set()

        discovering = Discovering(kubernetes_source(to_objects, READ, {}), Mesh(), publish)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(discovering.follow())
            await is_described.wait()
            pipe.send((signing.port, authority.roots))
            while await asyncio.to_thread(pipe.recv):
                its = resource.getrusage(resource.RUSAGE_SELF)
                pipe.send(Used(its.ru_utime + its.ru_stime, its.ru_maxrss << 10))
            following.cancel()
        await signing.stop(0)
        for it in (to_objects, to_accounts):
            await it.close()

    uvloop.run(main())


# -- the ztunnels ------------------------------------------------------------------------------------------------------


@dataclass
class Arrived:
    """Of all clients: when each address arrived, responses, and their bytes; and how long the first one took."""

    at: dict[str, list[float]]
    responses: int = 0
    size: int = 0
    first_seconds: float = 0.0


def _listen(port: int, roots: bytes, tokens: list[str], pipe: Connection) -> None:
    async def main() -> None:
        arrived, begun = Arrived(defaultdict(list)), time.monotonic()
        are_ready = [asyncio.Event() for _ in tokens]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_client(port, roots, number, token, arrived, are_ready[number]))
                for number, token in enumerate(tokens)
            ]
            for it in are_ready:
                await it.wait()
            arrived.first_seconds = time.monotonic() - begun
            arrived.at.clear()
            arrived.responses = arrived.size = 0
            pipe.send(None)
            await asyncio.to_thread(pipe.recv)
            for task in tasks:
                task.cancel()
        pipe.send(arrived)

    uvloop.run(main())


async def _client(port: int, roots: bytes, number: int, token: str, arrived: Arrived, is_ready: asyncio.Event) -> None:
    node = Node(id=f"ztunnel~1.1.1.1~ztunnel-{number}.system~system.svc.cluster.local")
    options = (("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(roots), options) as channel:
        call = channel.stream_stream(METHOD, DeltaDiscoveryRequest.SerializeToString)(
            metadata=(("authorization", f"Bearer {token}"),)
        )
        missing = {addresses.TYPE, authorizations.TYPE}
        for url in missing:
            await call.write(DeltaDiscoveryRequest(node=node, type_url=url))
        while (read := await call.read()) is not grpc.aio.EOF:
            response, now = DeltaDiscoveryResponse.FromString(read), time.monotonic()
            await call.write(DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce))
            arrived.responses += 1
            arrived.size += len(read)
            if response.type_url == addresses.TYPE:
                for it in response.resources:
                    for packed in Address.FromString(it.resource.value).workload.addresses:
                        arrived.at[str(ip_address(packed))].append(now)
            missing.discard(response.type_url)
            if not missing:
                is_ready.set()


# -- all together ------------------------------------------------------------------------------------------------------


async def measure(size: Size) -> dict[str, dict[str, object]]:
    context = multiprocessing.get_context("spawn")
    accounts = AccountsServer()
    tokens = [accounts.account("system", "ztunnel", f"ztunnel-{it}", "uid") for it in range(size.ztunnels)]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(kubernetes_server())
        await stack.enter_async_context(accounts_server(accounts))
        cluster = Cluster(server, size)
        cluster.make()
        started = time.monotonic()
        serving = await stack.enter_async_context(_process(context, _serve, server.address, accounts.address))
        port, roots = await _received(serving)
        start_seconds = time.monotonic() - started
        first = await _used(serving)
        alone = await _follow(cluster, serving)
        listening = await stack.enter_async_context(_process(context, _listen, port, roots, tokens))
        await _received(listening)
        joined = await _used(serving)
        cluster.changed.clear()
        both = await _follow(cluster, serving)
        await asyncio.sleep(_REST_SECONDS)
        last = await _used(serving)
        listening.send(False)
        arrived: Arrived = await _received(listening)
        serving.send(False)
    took = [at - begun for ip, begun in cluster.changed.items() for at in arrived.at.get(ip, ())]
    expected = len(cluster.changed) * size.ztunnels
    cuts = statistics.quantiles(took, n=100)
    each = size.ztunnels * size.seconds
    return {
        "asked for": {
            "ztunnels": size.ztunnels,
            "workloads": size.workloads,
            "changes": f"{size.rate:g}/s for {size.seconds:g} s",
            "load of the machine": f"{os.getloadavg()[0]:.1f}",
        },
        "start": {
            "until it is served": f"{start_seconds:.1f} s",
            "CPU": f"{first.cpu_seconds:.1f} s",
            "until all ztunnels have everything": f"{arrived.first_seconds:.2f} s",
            "CPU for that": f"{joined.cpu_seconds - first.cpu_seconds - alone * size.seconds:.2f} s",
        },
        "a change": {
            "arrives, median": f"{statistics.median(took) * 1000:.0f} ms",
            "99 %": f"{cuts[98] * 1000:.0f} ms",
            "at worst": f"{max(took) * 1000:.0f} ms",
            "arrived": f"{len(took)} of {expected}",
        },
        "the controller": {
            "CPU of following alone": f"{alone * 100:.0f} % of a CPU",
            "with serving": f"{both * 100:.0f} %",
            "peak memory": f"{last.peak_bytes / (1 << 20):.0f} MiB",
        },
        "a ztunnel gets": {
            "responses": f"{arrived.responses / each:.1f}/s",
            "bytes": f"{arrived.size / each / 1000:.1f} kB/s",
        },
    }


async def _follow(cluster: Cluster, serving: Connection) -> float:
    """Change, and return the share of a CPU that serving took."""
    before, begun = await _used(serving), time.monotonic()
    await cluster.change()
    return ((await _used(serving)).cpu_seconds - before.cpu_seconds) / (time.monotonic() - begun)


async def _used(serving: Connection) -> Used:
    serving.send(True)
    used: Used = await _received(serving)
    return used


async def _received(pipe: Connection) -> Any:
    async with asyncio.timeout(_START_SECONDS):
        while not pipe.poll():  # noqa: ASYNC110 - a pipe has no event
            await asyncio.sleep(0.005)
    return pipe.recv()


@asynccontextmanager
async def _process(context: Any, main: Any, *arguments: object) -> AsyncIterator[Connection]:
    ours, its = context.Pipe()
    process = context.Process(target=partial(main, *arguments, its), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        await asyncio.to_thread(process.join, 10)
        process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.discovery")
    for name, default in (("ztunnels", 20), ("workloads", 2000), ("rate", 20.0), ("seconds", 30.0)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = Size(options.ztunnels, options.workloads, options.rate, options.seconds)
    show(asyncio.run(measure(size)), as_json=options.json)


if __name__ == "__main__":
    main()
