"""Imports modules that few configurations need, before one that needs them is in force.

An import takes 10 to 80 ms, in which no request would proceed. These modules are not imported at the start, because
they take memory: gRPC 11 MiB, the others 1 to 2 each.
"""

from collections.abc import Iterator
from importlib import import_module

from policies.authorizer import Authorizer
from policies.rate_limit import RateLimits
from waypoint.config.snapshot import Snapshot


def load_for(snapshot: Snapshot) -> None:
    """Import what the snapshot needs. Call it in a thread."""
    for name in _needed(snapshot):
        import_module(name)


def _needed(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.collectors:
        yield "waypoint.telemetry.span_export"
    if any(it.is_grpc for it in snapshot.collectors):
        yield "waypoint.telemetry.grpc_export"
    if any(it.names or it.followed is not None for it in snapshot.clusters.values()):
        yield "waypoint.upstream.dns"
    if any(it.authentication is not None for it in snapshot.destinations.values()):
        yield "policies.jwks"
    if any(it.is_grpc for it in _authorizers(snapshot)):
        yield "waypoint.filters.external_auth_grpc"
    if any(isinstance(it, RateLimits) and it.service is not None for it in snapshot.policies):
        yield "waypoint.filters.rate_limit_service"


def _authorizers(snapshot: Snapshot) -> Iterator[Authorizer]:
    for destination in snapshot.destinations.values():
        yield from (destination.authorizers or {}).values()
        tables = (destination.routes, *destination.consumer_routes.values())
        for route in (route for table in tables for route in table.routes):
            yield from (it for it in route.rule.filters.policies if isinstance(it, Authorizer))
