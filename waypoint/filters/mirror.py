"""The filter of HTTPRoute's RequestMirror, and of a VirtualService's `mirrors`. `mirrored` carries one copy."""

from collections.abc import Iterator

from policies.attributes import Headers
from policies.chance import Chance
from policies.mirror import Mirror
from waypoint.config.words import cluster_name, percent
from waypoint.errors import ExchangeError
from waypoint.filters.filter import Environment, Filter, Filtering
from waypoint.filters.mirrored import MirroredRequest, MirrorSettings
from waypoint.filters.part import Part
from waypoint.telemetry.record import ExchangeRecord


class Mirroring(Filter[Mirror]):
    """`count` is the number of copies under way."""

    types = (Mirror,)
    settings = (MirrorSettings,)
    is_after_edits = True

    def __init__(self) -> None:
        self.count = 0

    def begin(self, environment: Environment) -> None:
        self.environment = environment

    def request_head(self, policy: Mirror, request: Filtering) -> None:
        if policy.takes(request.roll(Chance.MIRROR)):
            request.want(policy.cluster)
            request.attach(_Copy(self, policy, request))

    def words(self, policy: Mirror) -> Iterator[str]:
        yield f"copy {percent(policy.numerator / policy.denominator)} to {cluster_name(policy.cluster)}"


class _Copy(Part):
    """Gives the copy what the endpoint gets. Upgraded connections are not copied."""

    __slots__ = ("_copy", "_mirror", "_mirroring", "_request")

    def __init__(self, mirroring: Mirroring, mirror: Mirror, request: Filtering) -> None:
        self._mirroring = mirroring
        self._mirror = mirror
        self._request = request
        self._copy: MirroredRequest | None = None

    def forwarded(self) -> None:
        request, environment = self._request, self._mirroring.environment
        if request.body.is_opaque or self._mirroring.count >= environment.settings.of(MirrorSettings).max_mirrors:
            return
        cluster = request.clusters[self._mirror.cluster]
        if cluster.branches is not None:
            registry = environment.holder.current.registry
            try:
                cluster = cluster.branches.at(request.authority[0], request.head.authority, registry)
            except ExchangeError:
                return
        self._copy = MirroredRequest(self._mirroring, environment, cluster, request)

    def request_body(self, data: bytes) -> bytes:
        if self._copy is not None:
            self._copy.send_body(data)
        return data

    def request_end(self, trailers: Headers) -> bytes:
        if self._copy is not None:
            self._copy.send_end(trailers)
        return b""

    def end(self, record: ExchangeRecord) -> None:
        if self._copy is not None:
            self._copy.abandon()
