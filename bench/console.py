"""What the console costs a waypoint: CPU while nobody looks, and what each view adds, at a constant rate of requests.

`python -m bench.console` starts a waypoint with many Services, so that the graph has as many links, and looks at it as
the page does: `waypoint/console/assets/live.js` asks every two seconds; Requests follows /tap besides, and Routes /top.
All views take turns, several times. CPU is what the kernel counts for the waypoint.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from bench.process import cpu_seconds
from tests.kit.mesh import address, manifests
from tests.kit.origin import origin
from tests.kit.process import WaypointProcess, waypoint_process

PAUSE_SECONDS = 2.0
"""PAUSE_MS of live.js."""
TABLE_SECONDS = 4.0
"""SECONDS of listing.js and routes.js."""
SHARE = 0.05
"""SHARE of api.js: how much of the time tables may be answered."""
NOBODY = "nobody looks"
_TOP = "/top?by=destination,route&interval=2"
VIEWS: dict[str, tuple[str, ...]] = {
    NOBODY: (),
    "Graph": ("/programs", "/traffic"),
    "Requests": ("/programs", "/traffic", "/tap"),
    "Routes": ("/programs", "/traffic", "/routes", _TOP),
    "Endpoints": ("/programs", "/traffic", "/endpoints"),
    "Programs": ("/programs", "/traffic", "/status"),
}
"""The pages that each view asks."""
_ROUTE = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: app-{0}-{1}}}
spec:
  parentRefs: [{{group: "", kind: Service, name: app-{0}}}]
  rules: [{{matches: [{{path: {{value: /page{1}}}}}], backendRefs: [{{name: app-{0}, port: 9080}}]}}]
"""
_SETTLE_SECONDS = 2.0
_TABLES = frozenset({"routes", "endpoints", "status"})
_STREAMS = frozenset({"/tap", _TOP})
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=__doc__)
    parser.add_argument("--services", type=int, default=100, help="Services, each a link of the graph")
    parser.add_argument("--routes", type=int, default=1, help="routes of each Service")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each look")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measured(Path(folder), options))
    print(json.dumps(found, indent=2) if options.json else table(found))
    return 0


def table(found: Mapping[str, Sequence[float]]) -> str:
    """`found` has shares of a core, of each round. Views are shown as what they add to NOBODY."""
    nobody = statistics.median(found[NOBODY])
    lines = ["| | CPU of a core |", "|---|--:|", f"| {NOBODY} | {nobody:.1%} |"]
    lines += [
        f"| {view} | {statistics.median(shares) - nobody:+.1%} |" for view, shares in found.items() if view != NOBODY
    ]
    return "\n".join(lines)


async def measured(folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    async with _waypoint(folder, options.services, options.routes) as (it, authorities):
        sending = asyncio.gather(*(_send(it, own, options.rate / len(authorities)) for own in authorities))
        await _look(it, (), _SETTLE_SECONDS)  # the configuration is analyzed after it is live
        found: dict[str, list[float]] = {view: [] for view in VIEWS}
        try:
            for _ in range(options.rounds):
                for view, pages in VIEWS.items():
                    found[view].append(await _look(it, pages, options.seconds))
                    print(f"{view}: {found[view][-1]:.1%}", file=sys.stderr)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return found


@asynccontextmanager
async def _waypoint(folder: Path, services: int, routes: int) -> AsyncIterator[tuple[WaypointProcess, list[str]]]:
    """Yield it and the destinations, at each of which an application listens."""
    vips, pod, ip = [address() for _ in range(services)], address(), address()
    more = "---".join(
        f"\napiVersion: v1\nkind: Service\nmetadata: {{name: app-{number}}}\n"
        f"spec: {{clusterIP: {vip}, ports: [{{name: http, port: 9080}}], selector: {{app: app}}}}\n"
        for number, vip in enumerate(vips)
    ) + "".join(_ROUTE.format(number, route) for number in range(services) for route in range(routes))
    text = manifests(waypoint=ip, vip=address(), pods={"app-1": pod}, more=more)
    text = text.replace("ambient.istio.io/redirection: enabled", "")
    async with AsyncExitStack() as stack:
        it = await stack.enter_async_context(waypoint_process(folder, text=text))
        await stack.enter_async_context(origin(pod, _answer))
        yield it, [f"{vip}:9080" for vip in vips]


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while (await reader.read(1 << 16)).endswith(b"\r\n\r\n"):
        writer.write(_ANSWER)


async def _send(it: WaypointProcess, authority: str, rate: float) -> None:
    """One client of one Service, until cancelled."""
    reader, writer = await replace(it, authority=authority).open()
    while True:
        writer.write(b"GET /page0 HTTP/1.1\r\nHost: app\r\nUser-Agent: bench\r\n\r\n")
        await reader.readuntil(b"hello")
        await asyncio.sleep(1 / rate)


async def _look(it: WaypointProcess, pages: Sequence[str], seconds: float) -> float:
    """Return the share of a core that the waypoint takes while these pages are asked."""
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        looking = [
            tasks.create_task((_follow if page in _STREAMS else _poll)(session, f"http://{it.ip}:15000{page}"))
            for page in pages
        ]
        await asyncio.sleep(_SETTLE_SECONDS)
        loop = asyncio.get_running_loop()
        began, used = loop.time(), cpu_seconds(it.process.pid)
        await asyncio.sleep(seconds)
        share = (cpu_seconds(it.process.pid) - used) / (loop.time() - began)
        for task in looking:
            task.cancel()
    return share


async def _poll(session: aiohttp.ClientSession, url: str) -> None:
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        async with session.get(url, raise_for_status=True) as answer:
            await answer.read()
        took = loop.time() - began
        is_table = url.rpartition("/")[2] in _TABLES
        await asyncio.sleep(max(TABLE_SECONDS, took / SHARE) - took if is_table else PAUSE_SECONDS)


async def _follow(session: aiohttp.ClientSession, url: str) -> None:
    async with session.get(url, raise_for_status=True, timeout=aiohttp.ClientTimeout()) as answer:
        async for _ in answer.content:
            pass


if __name__ == "__main__":
    sys.exit(main())
