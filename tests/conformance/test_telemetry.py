"""Telemetry objects, as requests through real tunnels show them."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import answering, origin

OBJECT = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: a}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
"""


@asynccontextmanager
async def _mesh(folder: Path, spec: str) -> AsyncIterator[tuple[Mesh, str]]:
    waypoint, vip, pod = address(), address(), address()
    text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod}, more=OBJECT + spec)
    async with mesh(folder, text, waypoint) as it, origin(pod, answering(b"hello")):
        yield it, f"{vip}:9080"


async def _get(it: Mesh, authority: str, path: str = "/") -> None:
    reader, writer = await it.tunnel(authority)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: app.example\r\nx-user: jason\r\nconnection: close\r\n\r\n".encode())
    assert b" 200 " in await reader.readuntil(b"\r\n")
    writer.close()
    await settled(lambda: it.path.exchanges == 0)


def _labels(it: Mesh, name: str) -> list[dict[str, str]]:
    text = it.metrics.render("")[0].decode()
    return [dict(re.findall(r'(\w+)="(.*?)"', found)) for found in re.findall(rf"^{name}{{(.*)}}", text, re.MULTILINE)]


def test_tags_are_overridden_and_metrics_disabled(tmp_path: Path) -> None:
    spec = """
  metrics:
    - overrides:
        - match: {metric: REQUEST_COUNT}
          tagOverrides:
            request_host: {value: request.host}
            source_app: {value: "request.headers['x-user']"}
            source_version: {operation: REMOVE}
            nobody: {value: "request.headers['x-nobody']"}
        - match: {metric: REQUEST_SIZE}
          disabled: true
"""

    async def scenario() -> None:
        async with _mesh(tmp_path, spec) as (it, authority):
            for path in ("/a", "/b"):
                await _get(it, authority, path)

            [labels] = _labels(it, "istio_requests_total")
            assert labels["request_host"] == "app.example"
            assert labels["source_app"] == "jason"
            assert labels["source_version"] == ""
            assert labels["nobody"] == "unknown"
            assert labels["response_code"] == "200"
            assert not _labels(it, "istio_request_bytes_count")
            [labels] = _labels(it, "istio_response_bytes_count")
            assert "request_host" not in labels
            assert labels["source_app"] != "jason"

    run(scenario())


def test_a_request_whose_metrics_are_all_disabled_has_a_line_in_the_log_and_no_series(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _mesh(tmp_path, "  metrics: [{overrides: [{disabled: true}]}]\n") as (it, authority):
            await _get(it, authority, "/a")

            await settled(lambda: '"GET /a HTTP/1.1" 200 - via_upstream' in it.access_log)
            assert "istio_request" not in re.sub("^#.*", "", it.metrics.render("")[0].decode(), flags=re.MULTILINE)

    run(scenario())


def test_a_log_has_the_format_and_the_requests_that_an_object_asks_for(tmp_path: Path) -> None:
    spec = """
  accessLogging:
    - providers: [{name: own}]
      filter: {expression: "request.path.startsWith('/a')"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: own
      envoyFileAccessLog:
        path: /dev/stdout
        logFormat: {labels: {user: "%REQ(X-USER)%", code: "%RESPONSE_CODE%", server: "%RESP(SERVER)%"}}
"""

    async def scenario() -> None:
        async with _mesh(tmp_path, spec) as (it, authority):
            for path in ("/a", "/b", "/abc"):
                await _get(it, authority, path)

            line = '{"user":"jason","code":200,"server":"istio-envoy"}\n'
            await settled(lambda: it.access_log == line * 2)

    run(scenario())


def test_a_log_can_be_off_for_a_service(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _mesh(tmp_path, "  accessLogging: [{disabled: true}]\n") as (it, authority):
            await _get(it, authority, "/unseen")
            it.apply(it.text.replace("disabled: true", "disabled: false"))
            await _get(it, authority, "/seen")

            await settled(lambda: "/seen " in it.access_log)
            assert "/unseen" not in it.access_log

    run(scenario())
