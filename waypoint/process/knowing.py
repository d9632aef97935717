"""Where a waypoint knows services, routes, policies and workloads from: objects alone, or objects and a discovery
server, which then sends the workloads."""

from collections.abc import Callable
from dataclasses import dataclass

from l4.config.settings import Settings
from l4.config.source import Source
from l4.configuration import source_of
from l4.discovery.mesh import Mesh
from l4.discovery.pipeline import Discovered
from l4.telemetry.metrics import MeshMetrics
from waypoint.config.kinds import BESIDE_DISCOVERY, KINDS
from waypoint.process.options import RunOptions


@dataclass(frozen=True, slots=True)
class Knowing:
    """`join` adds what the server sends to what objects describe. `server` is a name for messages; `show` exports what
    the source counts."""

    source: Source
    join: Callable[[Discovered], Discovered] = lambda known: known
    server: str = "the API server"
    show: Callable[[MeshMetrics], None] = lambda metrics: None


def objects_of(options: RunOptions, *, is_encoded: bool = False) -> Source:
    """Return the source of the objects that the command line names. `is_encoded`: the contents of an API server's
    objects are Encoded. Raises CredentialsError."""
    if options.discovery is None:
        return source_of(options.resources, KINDS, is_encoded=is_encoded)
    from l4.kubernetes.reflector import Scope

    own_namespace = {("", "Pod"): Scope(options.gateway.namespace)}
    return source_of(options.resources, BESIDE_DISCOVERY, own_namespace, is_encoded=is_encoded)


def knowing_of(options: RunOptions, settings: Settings, objects: Source) -> Knowing:
    """Return `objects`, with a discovery server if the command line names one. Raises InvalidSetting."""
    if options.discovery is None:
        return Knowing(objects)
    from l4.xds.feed import DiscoveryFeed  # only now: gRPC takes time and memory to load
    from l4.xds.joined_mesh import JoinedMesh
    from l4.xds.joined_source import JoinedSource
    from l4.xds.server import server_of

    mesh = settings.of(Mesh)
    feed = DiscoveryFeed(server_of(options.discovery, settings, "waypoint"), mesh, has_policies=False)
    joined = JoinedMesh(mesh)
    return Knowing(JoinedSource(objects, feed, joined), joined.take, f"the API server or {feed.name}", feed.counts.show)
