"""What a large configuration costs: to compile, to keep, to look routes up in, and to swap under a client's eyes.

    python -m bench.configuration [--services 1000] [--routes 5] [--swaps 5] [--json]

The client sends 200 requests a second, calm for a while and then while the waypoint is given a changed configuration
every few seconds. Everything stops by itself.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from bench.figures import show
from bench.innocent import Innocent, application
from l4.config import manifest
from l4.config.resources import Decoder
from l4.discovery.index import Index
from l4.discovery.mesh import Mesh
from policies.attributes import RequestHead
from policies.path_match import PathKind, PathMatch
from policies.route import Match, Route, RouteTable, Rule
from tests.kit import mesh
from tests.kit.process import waypoint_process
from waypoint.config.compile import Compilation
from waypoint.config.compile_options import CompileOptions
from waypoint.config.kinds import KINDS

_CALM_SECONDS = 10.0
_SWAP_SECONDS = 5.0
_LOOKUPS = 20_000

_SERVICE = """---
apiVersion: v1
kind: Service
metadata: {{name: s{0}, namespace: default}}
spec: {{clusterIP: 10.{1}.{2}.{3}, ports: [{{name: http, port: 8080}}], selector: {{app: s{0}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: s{0}, labels: {{app: s{0}}}, annotations: {{ambient.istio.io/redirection: enabled}}}}
spec: {{serviceAccountName: s{0}}}
status: {{podIP: 11.{1}.{2}.{3}}}
"""
_ROUTE = """---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: s{0}-{1}}}
spec:
  parentRefs: [{{group: "", kind: Service, name: s{0}}}]
  rules:
  - matches: [{{path: {{value: /area{1}/v{2}}}}}, {{headers: [{{name: x-version, value: "{1}"}}]}}]
    filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-area, value: "{1}"}}]}}}}]
    backendRefs: [{{name: s{0}, port: 8080, weight: 9}}, {{name: s{3}, port: 8080}}]
"""


_AROUND = mesh.manifests(waypoint="127.0.0.1", vip="127.0.0.2", pods={})


def manifests(services: int, routes: int, version: int) -> str:
    """So many services, each with a pod and so many routes; another version is another configuration."""
    parts = []
    for number in range(services):
        parts.append(_SERVICE.format(number, number >> 16, number >> 8 & 255, number & 255))
        parts += [_ROUTE.format(number, route, version, (number + 1) % services) for route in range(routes)]
    return "".join(parts)


def compile_cost(text: str) -> dict[str, float]:
    """In a process of its own, because memory is looked at."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_compile_cost, (text,))


def _compile_cost(text: str) -> dict[str, float]:
    before, marks = _rss_mib(), [time.perf_counter()]
    documents, _ = manifest.parse("mesh.yaml", text.encode())
    marks.append(time.perf_counter())
    decoded = Decoder(KINDS).decode(documents)
    marks.append(time.perf_counter())
    registry = Index(decoded.resources, Mesh()).registry
    marks.append(time.perf_counter())
    snapshot = Compilation(decoded.resources, registry, CompileOptions(("default", "waypoint"))).snapshot
    marks.append(time.perf_counter())
    names = ("parse YAML s", "decode s", "registry s", "compile s")
    costs = {name: round(end - start, 2) for name, start, end in zip(names, marks, marks[1:], strict=False)}
    routes = sum(
        len(it.routes.routes) for (host, _), it in snapshot.destinations.items() if host == it.service.hostname
    )
    return {**costs, "matches": routes, "RSS MiB": round(_rss_mib() - before, 1)}


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)


def lookup_cost(rules: int) -> float:
    """Microseconds to find the rule of a request among so many prefixes and exact paths."""
    kinds = (PathKind.PREFIX, PathKind.EXACT)
    table = RouteTable(
        Route(Match(PathMatch(kinds[number % 2], b"/shop/%d/items" % number)), Rule(str(number), ()))
        for number in range(rules)
    )
    heads = [RequestHead(b"GET", b"s", b"/shop/%d/items" % (number * 7919 % rules), b"", []) for number in range(100)]
    started = time.process_time()
    for number in range(_LOOKUPS):
        table.find(heads[number % 100])
    return round((time.process_time() - started) / _LOOKUPS * 1e6, 2)


async def swap_cost(services: int, routes: int, swaps: int) -> dict[str, dict[str, float]]:
    """What a client sees while the configuration is exchanged so many times."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="configuration-")))
        log = stack.enter_context(folder.joinpath("log").open("wb"))
        waypoint = await stack.enter_async_context(
            waypoint_process(folder, log=log, DRAIN_SECONDS="1", DRAIN_DELAY_SECONDS="0")
        )
        server = await asyncio.start_server(application, waypoint.pod, 9080)
        stack.callback(server.close)
        file = folder / "mesh.yaml"
        own = file.read_text()
        innocent = Innocent(waypoint)
        await innocent.start()
        await innocent.ask(2)
        calm = await innocent.ask(_CALM_SECONDS)
        versions = [f"{own}\n{manifests(services, routes, version)}" for version in range(swaps)]
        asking = asyncio.create_task(innocent.ask(_SWAP_SECONDS * swaps))
        for text in versions:
            await asyncio.to_thread(file.write_text, text)
            await asyncio.sleep(_SWAP_SECONDS)
        swapped = await asking
        live = (folder / "log").read_text().count(" is live: ") - 1
    if live < swaps:
        raise RuntimeError(f"only {live} of {swaps} configurations went live in time")
    return {"calm": calm.figures(), "while swapping": swapped.figures()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.configuration", description="A large configuration.")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--routes", type=int, default=5, help="for each service")
    parser.add_argument("--swaps", type=int, default=5, help="of the whole configuration")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    print(f"about {30 + options.swaps * _SWAP_SECONDS:.0f} s …", file=sys.stderr)
    result = {
        "compiling": compile_cost(f"{_AROUND}\n{manifests(options.services, options.routes, 0)}"),
        "finding a rule, µs": {f"{rules} rules": lookup_cost(rules) for rules in (10, 1_000, 10_000)},
        **uvloop.run(swap_cost(options.services, options.routes, options.swaps)),
    }
    show(result, as_json=options.json)


if __name__ == "__main__":
    main()
