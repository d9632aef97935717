"""A real Jaeger: it receives spans by OTLP, over gRPC and HTTP, and returns traces."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.programs import free_port
from tests.cluster.tools import CACHE, Group

JAEGER = Group("jaeger", into=CACHE / "jaeger", is_always_needed=False, seconds=360)  # two cores need 120
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Span:
    """`parent` is empty for the first span of a trace."""

    trace: str
    id: str
    parent: str
    name: str
    service: str
    tags: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Jaeger:
    """`query` is where traces are asked for; spans go to `http` or `grpc`."""

    query: str
    http: str
    grpc: str

    def traces(self, service: str) -> list[list[Span]]:
        """Return the traces in which a service has spans."""
        query = urllib.parse.urlencode({"service": service, "limit": 100})
        with urllib.request.urlopen(f"{self.query}/api/traces?{query}", timeout=10) as answer:
            return [[_span(span, it["processes"]) for span in it["spans"]] for it in json.load(answer)["data"]]


def _span(span: dict[str, Any], processes: dict[str, Any]) -> Span:
    parents = [it["spanID"] for it in span["references"] if it["refType"] == "CHILD_OF"]
    return Span(
        span["traceID"],
        span["spanID"],
        parents[0] if parents else "",
        span["operationName"],
        processes[span["processID"]]["serviceName"],
        {tag["key"]: tag["value"] for tag in span["tags"]},
    )


@contextmanager
def jaeger(folder: Path) -> Iterator[Jaeger]:
    """Yield a Jaeger that keeps traces in memory. `JAEGER` must have been built."""
    purposes = {
        "query.http-server.host-port": "query",
        "collector.otlp.http.host-port": "http",
        "collector.otlp.grpc.host-port": "grpc",
        "query.grpc-server.host-port": "",
        "admin.http.host-port": "admin",
        "collector.http-server.host-port": "",
        "collector.grpc-server.host-port": "",
    }
    ports = {flag: free_port() for flag in purposes}
    urls = {purpose: f"http://127.0.0.1:{ports[flag]}" for flag, purpose in purposes.items() if purpose}
    command = [JAEGER.into / "all-in-one", *(f"--{flag}=127.0.0.1:{port}" for flag, port in ports.items())]
    log = folder / "jaeger.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _await_ready(process, urls.pop("admin"), log)
            yield Jaeger(**urls)
        finally:
            process.terminate()


def _await_ready(process: subprocess.Popen[bytes], admin: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(admin, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
