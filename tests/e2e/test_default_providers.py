"""MeshConfig's default providers in a mesh that has no Telemetry object."""

import asyncio
from pathlib import Path

from tests.kit.aio import run
from tests.kit.collector import http_collector
from tests.kit.origin import answering, origin
from tests.kit.process import waypoint_process

MESH_CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    defaultProviders: {{accessLogging: [short], tracing: [collector], metrics: [prometheus]}}
    extensionProviders:
    - name: short
      envoyFileAccessLog: {{logFormat: {{text: "%REQ(:METHOD)% %RESPONSE_CODE%"}}}}
    - name: collector
      opentelemetry: {{service: 127.0.0.1, port: {port}, http: {{path: /v1/traces}}}}
"""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REQUEST = f"GET / HTTP/1.1\r\nhost: a\r\ntraceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n\r\n"


def test_the_meshs_default_providers_count_without_a_telemetry_object(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with http_collector() as collector:
            config = tmp_path / "config.yaml"
            config.write_text(MESH_CONFIG.format(port=collector.url.rpartition(":")[2]))
            async with waypoint_process(tmp_path, more=[config]) as it, origin(it.pod, answering(b"hello")):
                reader, writer = await it.open()
                writer.write(REQUEST.encode())
                assert b" 200 " in await reader.readuntil(b"\r\n")
                writer.close()
            # The process has ended, so all that it had to say is there.
            assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
            assert await asyncio.to_thread((tmp_path / "access.log").read_text) == "GET 200\n"

    run(scenario())
