"""What a mesh takes, computed from measured unit costs: `docs/capacity.md` explains the model.

    python -m bench.capacity [--requests 5000] [--nodes 1000] [--features log rules-10 …] [--figures FILE]

Costs of carrying come from the JSON of a run of `make bench`, by default the published one; those of knowing (memory of
a workload, CPU of a change) from what other benches measured, in `Knowing`. All arithmetic is linear: a cost, times how
many there are.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).parent / "measured" / "figures.json"
PAGE = Path(__file__).parents[1] / "docs" / "capacity.md"
_BEGIN, _END = "<!-- computed: python -m bench.capacity --write -->", "<!-- end -->"

UTILIZATION = 0.6
"""How much of a worker's CPU is planned for: beyond, latency grows with every burst."""

LEAST_REPLICAS = 2
SIZES = (100, 1_000, 10_000)
STREAMS_OF_A_CONTROLLER = 4_096

FEATURES = {
    "log": "access log alone",
    "tracing": "1 % tracing alone",
    "resilience": "timeout, retries, breaker and outliers alone",
    "limits": "rate limit alone",
    "rules-10": "authorization alone, 10 rules",
    "rules-100": "authorization alone, 100 rules",
    "tokens": "tokens alone, RS256",
    "mirror": "mirror of every request alone",
}
"""Features that can be asked for, by the titles of the scenarios that measure them."""

_BARE = "nothing switched on"


class Missing(Exception):
    """The JSON lacks a figure that the model needs."""


@dataclass(frozen=True, slots=True)
class Knowing:
    """What it costs to know the mesh: measured by `make churn`, `make discovery`, and in clusters."""

    workload_kib: float = 9.5
    """Of a ztunnel, where workloads come one by one: (160 - 65) MiB for 10,000. From docs/with-istio.md."""
    waypoint_workload_kib: float = 5.8
    """Of a waypoint: bench/README.md, "Endpoints that come and go"."""
    change_ms: float = 2.0
    """CPU of a change of one pod, at a ztunnel or a waypoint that follows it: 10 % of a core for 50 a second."""
    follow_ms: float = 1.2
    """CPU of the controller for the same: 6 % for 50 a second. From docs/controller.md."""
    tell_ms: float = 0.032
    """CPU of the controller for telling one client: (14 - 6) % for 50 changes a second to 50 clients."""
    told_workload_kib: float = 20.0
    """Of a controller that serves discovery: (277 - 80) MiB for 10,000 pods."""
    controller_mib: float = 80.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured unit costs: CPU in microseconds, memory in KiB or MiB. `features` are added to the bare request."""

    bare_us: float
    full_us: float
    features_us: Mapping[str, float]
    mib_us: float
    waypoint_mib: float
    tunnel_kib: float
    connection_kib: float
    route_kib: float
    ztunnel_mib: float
    carried_us: float
    opened_us: float
    knowing: Knowing = Knowing()

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> "Costs":
        """Of the JSON of `python -m bench`. Raises Missing."""

        def ours(title: str, figure: str) -> float:
            try:
                return float(figures["summary"][title][figure]["ours"])
            except KeyError as error:
                raise Missing(f"the JSON has no figure {figure!r} of {title!r}: measure it, too") from error

        cpu, rss = "CPU µs/request", "RSS MiB, with the routes"
        bare = ours(_BARE, cpu)
        few, many = ours("10 routes", rss), ours("10,000 routes", rss)
        return cls(
            bare_us=bare,
            full_us=ours("HTTP/1.1, 16 connections", cpu),
            features_us={name: max(0.0, ours(title, cpu) - bare) for name, title in FEATURES.items()},
            mib_us=ours("download of 10 MiB", "CPU ms/MiB") * 1000,
            waypoint_mib=ours("memory", "RSS MiB, after the load"),
            tunnel_kib=ours("memory", "RSS MiB per 1,000 idle tunnels") * 1.024,
            connection_kib=ours("memory", "RSS KiB per idle HBONE connection"),
            route_kib=(many - few) * 1024 / 9_990,
            ztunnel_mib=ours("ztunnel pair at rest", "RSS MiB, application's"),
            carried_us=ours("ztunnel, requests on 16 connections", "CPU µs/request, both ztunnels") / 2,
            opened_us=ours("ztunnel, a new connection per request", "CPU µs/connection, both ztunnels") / 2,
        )


@dataclass(frozen=True, slots=True)
class Load:
    """What a namespace's waypoint carries and knows. `features` of None is everything of the full setup."""

    requests: float = 5_000
    body_kib: float = 4.0
    features: tuple[str, ...] | None = None
    routes: int = 100
    workloads: int = 500
    connections: int = 200
    tunnels: int = 2_000
    changes: float = 1.0


@dataclass(frozen=True, slots=True)
class Mesh:
    """`lifetime_hours` is how long a pod lives: its end and the beginning of the next are two changes."""

    nodes: int
    pods: int = 20
    lifetime_hours: float = 12.0
    requests: float = 500
    new_connections: float = 20
    peers: int = 50

    @property
    def workloads(self) -> int:
        return self.nodes * self.pods

    @property
    def changes(self) -> float:
        """A second, in the whole mesh."""
        return 2 * self.workloads / (self.lifetime_hours * 3600)


@dataclass(frozen=True, slots=True)
class Need:
    """CPU in cores, memory in MiB: of each, and how many."""

    cores: float
    mib: float
    count: int = 1


def request_us(costs: Costs, load: Load) -> float:
    """CPU of one request with its body."""
    body = load.body_kib / 1024 * costs.mib_us
    if load.features is None:
        return costs.full_us + body
    return costs.bare_us + sum(costs.features_us[it] for it in load.features) + body


def waypoint(costs: Costs, load: Load) -> Need:
    """The replicas of one worker each that a namespace needs, and what each takes."""
    carrying = load.requests * request_us(costs, load) / 1e6
    following = load.changes * costs.knowing.change_ms / 1e3  # each replica follows everything
    if following >= UTILIZATION:
        raise ValueError(f"{load.changes:g} changes a second leave nothing of a worker to carry requests")
    count = max(LEAST_REPLICAS, math.ceil(carrying / (UTILIZATION - following)))
    known = load.routes * costs.route_kib + load.workloads * costs.knowing.waypoint_workload_kib
    clients = load.connections * costs.connection_kib + load.tunnels / count * costs.tunnel_kib
    return Need(carrying / count + following, costs.waypoint_mib + (known + clients) / 1024, count)


def ztunnel(costs: Costs, mesh: Mesh, *, on_demand: bool = False) -> Need:
    """That of one node. On demand it knows its own pods and its peers', and learns of changes of these."""
    known = mesh.pods + mesh.peers if on_demand else mesh.workloads
    changes = mesh.changes * known / mesh.workloads
    carrying = mesh.requests * costs.carried_us + mesh.new_connections * costs.opened_us
    cores = carrying / 1e6 + changes * costs.knowing.change_ms / 1e3
    mib = costs.ztunnel_mib + (known * costs.knowing.workload_kib + mesh.peers * costs.connection_kib) / 1024
    return Need(cores, mib, mesh.nodes)


def controller(costs: Costs, mesh: Mesh, *, on_demand: bool = False) -> Need:
    """The replicas that serve discovery to all nodes, and what each takes."""
    count = max(LEAST_REPLICAS, math.ceil(mesh.nodes / STREAMS_OF_A_CONTROLLER))
    share = (mesh.pods + mesh.peers) / mesh.workloads if on_demand else 1.0
    told = mesh.changes * share * mesh.nodes / count
    cores = (mesh.changes * costs.knowing.follow_ms + told * costs.knowing.tell_ms) / 1e3
    return Need(cores, costs.knowing.controller_mib + mesh.workloads * costs.knowing.told_workload_kib / 1024, count)


def tables(costs: Costs) -> str:
    """What `docs/capacity.md` shows, as Markdown."""
    return "\n".join((*_unit_costs(costs), "", *_loads(costs), "", *_sizes(costs)))


def _unit_costs(costs: Costs) -> Iterator[str]:
    yield from ("| unit cost of a waypoint | |", "|---|--:|")
    yield f"| a request, nothing switched on but metrics | {costs.bare_us:.1f} µs |"
    for name, title in FEATURES.items():
        yield f"| + {title.replace(' alone', '')} (`{name}`) | {costs.features_us[name]:.1f} µs |"
    yield f"| a request with everything of `FULL` | {costs.full_us:.1f} µs |"
    yield f"| a MiB of body | {costs.mib_us / 1000:.2f} ms |"
    yield f"| a worker after load | {costs.waypoint_mib:.0f} MiB |"
    yield f"| an HBONE connection; an idle tunnel | {costs.connection_kib:.1f} KiB; {costs.tunnel_kib:.1f} KiB |"
    yield f"| a route of two matches | {costs.route_kib:.1f} KiB |"
    yield f"| a workload | {costs.knowing.waypoint_workload_kib} KiB |"
    yield f"| a change of a pod | {costs.knowing.change_ms} ms |"


def _loads(costs: Costs) -> Iterator[str]:
    yield "| requests/s of a namespace | replicas | CPU of each, cores | memory of each, MiB |"
    yield "|--:|--:|--:|--:|"
    for requests in (500, 5_000, 50_000, 500_000):
        need = waypoint(costs, Load(requests=requests))
        yield f"| {requests:,} | {need.count} | {need.cores:.2f} | {need.mib:.0f} |"


def _sizes(costs: Costs) -> Iterator[str]:
    ours, theirs = "a ztunnel: cores, MiB", "controllers: cores, MiB of each"
    what = ("nodes", "pods", "changes/s", ours, "on demand", theirs, "on demand")
    yield f"| {' | '.join(what)} |"
    yield "|--:|--:|--:|--:|--:|--:|--:|"
    for nodes in SIZES:
        mesh = Mesh(nodes)
        each = (f"{it.cores:.3f}, {it.mib:,.0f}" for on in (False, True) for it in [ztunnel(costs, mesh, on_demand=on)])
        told = (
            f"{it.count} of {it.cores:.2f}, {it.mib:,.0f}"
            for on in (False, True)
            for it in [controller(costs, mesh, on_demand=on)]
        )
        yield f"| {nodes:,} | {mesh.workloads:,} | {mesh.changes:.1f} | {' | '.join((*each, *told))} |"


def written(page: str, costs: Costs) -> str:
    """The page with its tables computed anew."""
    before, _, rest = page.partition(_BEGIN)
    return f"{before}{_BEGIN}\n\n{tables(costs)}\n\n{_END}{rest.partition(_END)[2]}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    try:
        costs = Costs.of(json.loads(options.figures.read_text()))
    except (OSError, ValueError, Missing) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 1
    if options.write:
        PAGE.write_text(written(PAGE.read_text(), costs))
        return 0
    load = Load(
        requests=options.requests,
        body_kib=options.body_kib,
        features=None if options.features is None else tuple(options.features),
        routes=options.routes,
        workloads=options.workloads,
    )
    mesh = Mesh(options.nodes, options.pods, options.lifetime_hours)
    needs = {
        "waypoint of the namespace": waypoint(costs, load),
        "ztunnel of a node": ztunnel(costs, mesh),
        "ztunnel of a node, on demand": ztunnel(costs, mesh, on_demand=True),
        "controller that serves discovery": controller(costs, mesh),
        "controller, all on demand": controller(costs, mesh, on_demand=True),
    }
    print(f"{request_us(costs, load):.1f} µs of CPU a request; {mesh.changes:.1f} changes a second in the mesh")
    for name, need in needs.items():
        print(f"{name}: {need.count} × {need.cores:.2f} cores, {need.mib:,.0f} MiB")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    load, mesh = Load(), Mesh(1_000)
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description="What a mesh takes.")
    parser.add_argument("--requests", type=float, default=load.requests, help="a second, of the namespace (5000)")
    parser.add_argument("--body-kib", type=float, default=load.body_kib, help="of request and response together (4)")
    parser.add_argument("--features", nargs="*", choices=FEATURES, help="without: everything of the full setup")
    parser.add_argument("--routes", type=int, default=load.routes, help="that the waypoint serves (100)")
    parser.add_argument("--workloads", type=int, default=load.workloads, help="that the waypoint knows (500)")
    parser.add_argument("--nodes", type=int, default=mesh.nodes, help="(1000)")
    parser.add_argument("--pods", type=int, default=mesh.pods, help="of a node (20)")
    parser.add_argument("--lifetime-hours", type=float, default=mesh.lifetime_hours, help="of a pod (12)")
    parser.add_argument("--figures", type=Path, default=MEASURED, help="JSON of `make bench`; the published one")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/capacity.md")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
