"""A mesh around an echo service in two versions, for tests of routes: who answered, and what did it see?

Services `echo`, `echo-v1` and `echo-v2` of namespace `default` stand behind the waypoint, `far` of namespace `other`
doesn't. Every pod answers 200 with a JSON of the request that reached it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from l4.config.settings import Settings
from tests.kit.mesh import Mesh, address, gateway, mesh
from tests.kit.origin import Handler, Origin, origin

_PORT = 9080


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


_SERVICE = """---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
spec:
  clusterIP: {vip}
  selector: {{{selector}}}
  ports: [{ports}]
"""
_POD = """---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app: {app}, version: {version}}}
  annotations: {{ambient.istio.io/redirection: enabled}}
spec: {{serviceAccountName: app, nodeName: node}}
status: {{podIP: {ip}}}
"""
_PORTS = "{name: http, port: 80, targetPort: 9080}, {name: http-alt, port: 8080, targetPort: 9080}"


@dataclass
class Answer:
    """`pod` is the responding pod, empty if none responded. `seen` is the request that it got: method, path, host,
    headers (names in lower case, repeated values joined by commas)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    pod: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)
    seen_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class EchoMesh:
    """Pods that run in the block. They accept a request's head and no body."""

    mesh: Mesh
    vips: Mapping[str, str]
    pods: Mapping[str, str]
    origins: Mapping[str, Origin]
    stuck: set[str]
    """Pods that take a request's head and nothing more, for as long as they are in here."""

    async def ask(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: str = "",
        host: str = "echo",
        to: str = "echo",
        port: int = 80,
        namespace: str = "default",
        body: bytes = b"",
        authority: str = "",
    ) -> Answer:
        """Send one request, on its own tunnel, as a client of `namespace`. `headers` are whole lines. `authority` is
        the tunnel's, if it is not the address of service `to`."""
        tunnel = await self.mesh.tunnel(authority or f"{self.vips[to]}:{port}", namespace=namespace)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        text = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{headers}\r\n"
        return await _exchange(tunnel, text.encode() + body)

    async def ask_pod(self, name: str) -> Answer:
        """Send one request to a pod's own address, which has no waypoint."""
        ip = self.pods[name]
        tunnel = await self.mesh.tunnel(f"{ip}:{_PORT}", to=ip, expect="app")
        return await _exchange(tunnel, b"GET / HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n")


async def _exchange(tunnel: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> Answer:
    reader, writer = tunnel
    writer.write(request)
    async with asyncio.timeout(10):
        raw = await reader.read()
    writer.close()
    return _answer(raw)


def manifests(vips: Mapping[str, str], pods: Mapping[str, str], waypoint: str, waypoint_for: str = "service") -> str:
    text = gateway(waypoint, labels=f"istio.io/waypoint-for: {waypoint_for}")
    for name, vip in vips.items():
        version = name.partition("-")[2]
        selector = f"app: {name}" if name == "far" else "app: echo" + (f", version: {version}" if version else "")
        namespace = "other" if name == "far" else "default"
        text += _SERVICE.format(name=name, namespace=namespace, labels="", vip=vip, selector=selector, ports=_PORTS)
    for name, ip in pods.items():
        app, _, version = name.partition("-")
        namespace = "other" if app == "far" else "default"
        text += _POD.format(name=name, namespace=namespace, app=app, version=version, ip=ip)
    return text


@asynccontextmanager
async def echo_mesh(
    folder: Path, *objects: Mapping[str, Any], settings: Settings | None = None, waypoint_for: str = "service"
) -> AsyncIterator[EchoMesh]:
    """Run the mesh, with `objects` in addition to its services."""
    waypoint = address()
    vips = {name: address() for name in ("echo", "echo-v1", "echo-v2", "far")}
    pods = {name: address() for name in ("echo-v1", "echo-v2", "far-v1")}
    stuck: set[str] = set()
    async with AsyncExitStack() as stack:
        origins = {
            name: await stack.enter_async_context(origin(ip, _echo(name, stuck), _PORT)) for name, ip in pods.items()
        }
        more = yaml.dump_all(objects, Dumper=_Plain)
        text = f"{manifests(vips, pods, waypoint, waypoint_for)}\n---\n{more}"
        it = await stack.enter_async_context(mesh(folder, text, waypoint, settings))
        stack.callback(stuck.clear)
        yield EchoMesh(it, vips, pods, origins, stuck)


def _echo(name: str, stuck: set[str]) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            while name in stuck:  # noqa: ASYNC110 - a test decides when it ends
                await asyncio.sleep(0.01)
            line, *fields = head.rstrip().split("\r\n")
            headers: dict[str, str] = {}
            for key, _, value in (it.partition(": ") for it in fields):
                headers[key.lower()] = f"{headers[key.lower()]},{value}" if key.lower() in headers else value
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = line.split(" ")
            told = {"pod": name, "method": method, "path": path, "headers": headers, "body": body.decode()}
            answer = json.dumps(told).encode()
            extra = "X-Header-Set: from origin\r\nX-Header-Remove: from origin\r\nX-Header-Add: from origin\r\n"
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n{extra}\r\n".encode() + answer)
            if headers.get("connection") == "close":
                return

    return handler


def _answer(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for key, _, value in (it.partition(": ") for it in fields):
        headers[key.lower()] = f"{headers[key.lower()]},{value}" if key.lower() in headers else value
    status = int(line.split(" ")[1])
    if status != 200 or not body:
        return Answer(status, headers, body)
    told = json.loads(body)
    seen = {
        "method": told["method"],
        "path": told["path"],
        "host": told["headers"].get("host", ""),
        "body": told["body"],
    }
    return Answer(status, headers, body, told["pod"], seen, told["headers"])
