"""The current state of all destinations: numbers for metrics, and full details for operators.

It shows ejections, active requests and exhausted limits, under Envoy's names.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from l4.admin import Page
from l4.aiohttp import web
from l4.telemetry.metrics import Family, Value, gauge
from l4.telemetry.samples import Merging
from policies.attributes import ClusterName
from policies.circuit import Circuit
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.clusters import Clusters
from waypoint.upstream.endpoint import LiveEndpoint

_SHOW_SECONDS = 1.0
CLUSTERS_PATH = "/clusters"
CLUSTERS_SHOWS = "current state of each destination: endpoints, ejections, active requests; ?name= selects one"
CLUSTER_STATE = gauge(
    "pywaypoint_cluster_state",
    "State of a destination that has policies, named as in Envoy.",
    ("state", "cluster_name"),
    Merging.MAX,
)


def numbers(cluster: Cluster) -> dict[str, int]:
    """Return gauges for the policies that the destination has; most destinations have none."""
    found: dict[str, int] = {}
    if cluster.config.outlier is not None:
        found["outlier_detection.ejections_active"] = sum(it.health.is_ejected for it in cluster.endpoints)
    for name, (count, limit) in _bounds(cluster.circuit).items():
        if limit is not None:
            found[f"circuit_breakers.default.{name}_open"] = int(count >= limit)
    return found


async def show_numbers(clusters: Clusters, gauges: Family[Value]) -> None:
    """Update gauges every second until cancelled. Removed destinations and policies are set to 0."""
    shown: dict[tuple[str, ClusterName], int] = {}
    while True:
        found = {(state, it.config.name): value for it in clusters for state, value in numbers(it).items()}
        for key in shown.keys() | found.keys():
            gauges.labels(key).value = found.get(key, 0)
        shown = found
        await asyncio.sleep(_SHOW_SECONDS)


def described(clusters: Iterable[Cluster], now: float, name: str | None) -> list[dict[str, object]]:
    """Describe all destinations, or those with this cluster name or service. `now` is from the clock used for
    ejections."""
    wanted = (it for it in clusters if name is None or name in (it.config.name, it.config.service.hostname))
    return [_described(it, now) for it in wanted]


def clusters_page(
    clusters: Callable[[str | None], Awaitable[list[dict[str, object]]]],
    as_envoy: Callable[[list[dict[str, object]]], object],
) -> Page:
    """Return the page. `clusters` returns destinations as `described` does, and `as_envoy` makes of them what Envoy
    answers to `?format=json`."""

    async def page(request: web.Request) -> web.Response:
        wanted = request.query.get("name")
        found = await clusters(wanted)
        if wanted is not None and not found:
            raise web.HTTPNotFound(text=f"there is no destination {wanted!r}; {CLUSTERS_PATH} lists all\n")
        body = msgspec.json.encode(as_envoy(found) if request.query.get("format") == "json" else found)
        return web.Response(body=msgspec.json.format(body, indent=2) + b"\n", content_type="application/json")

    return page


def _described(cluster: Cluster, now: float) -> dict[str, object]:
    return {
        "name": cluster.config.name,
        "service": cluster.config.service.hostname,
        "circuit_breakers": {
            name: {"now": count, "max": limit} for name, (count, limit) in _bounds(cluster.circuit).items()
        },
        "retries_under_way": cluster.retries.all_under_way,
        "endpoints": [_endpoint(live, now) for each in (cluster, *(cluster.branches or ())) for live in each.endpoints],
    }


def _bounds(circuit: Circuit) -> dict[str, tuple[int, int | None]]:
    limits = circuit.limits
    return {
        "cx": (circuit.all_connections, limits.max_connections),
        "rq_pending": (circuit.all_pending, limits.max_pending_requests),
        "rq": (circuit.all_requests, limits.max_requests),
    }


def _endpoint(live: LiveEndpoint, now: float) -> dict[str, object]:
    until = live.health.ejected_until
    return {
        "address": str(live.endpoint),
        "workload": live.endpoint.workload.workload,
        "identity": None if live.endpoint.identity is None else str(live.endpoint.identity),
        "weight": live.weight,
        "priority": live.endpoint.rank.priority,
        "requests": live.active,
        "connections": live.connection_count,
        "idle_connections": len(live.idle),
        "is_unreachable": live.reach.is_avoided,
        "ejected_for_seconds": None if until is None else round(max(until - now, 0.0), 1),
    }
