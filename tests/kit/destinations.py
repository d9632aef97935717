"""The clusters that manifests compile to in the mesh of the golden cases, including those that no route uses."""

from pathlib import Path

from l4.config.resources import Decoder
from l4.discovery.index import Index
from l4.discovery.mesh import Mesh
from tests.kit.snapshots import GATEWAY, documents_of
from waypoint.config.clusters import ClusterConfigs
from waypoint.config.istio.destination_rule import DestinationRule, DestinationRules
from waypoint.config.istio.locality import place_of
from waypoint.config.kinds import KINDS
from waypoint.config.reach import Reach
from waypoint.config.snapshot import ClusterConfig

MESH = (Path(__file__).parents[1] / "golden" / "mesh.yaml").read_text()
REVIEWS = "reviews.default.svc.cluster.local"
RATINGS = "ratings.shop.svc.cluster.local"


class Destinations:
    """Requests clusters as routes do."""

    def __init__(self, *documents: str) -> None:
        text = "\n---\n".join((MESH, *documents))
        resources = Decoder(KINDS).decode(documents_of(mesh=text)).resources
        self._registry = Index(resources, Mesh()).registry
        place = place_of(self._registry, GATEWAY, None)
        self.rules = DestinationRules(resources.of(DestinationRule), self._registry, Reach(GATEWAY[0]), place.labels)
        self.clusters = ClusterConfigs(GATEWAY, self.rules, place)

    def cluster(self, host: str = REVIEWS, port: int = 9080, subset: str = "") -> ClusterConfig | None:
        service = self._registry.services[host]
        its = next(it for it in service.ports if it.port == port)
        name = self.clusters.of(service, its, subset)
        return self.clusters.by_name[name] if name is not None else None

    def policy_of(self, host: str = REVIEWS, port: int = 9080, subset: str = "") -> ClusterConfig:
        found = self.cluster(host, port, subset)
        assert found is not None
        return found


def rule(spec: str, name: str = "rule", namespace: str = "default", created: str = "") -> str:
    """Return a DestinationRule; `spec` is the text between the braces."""
    meta = f"name: {name}, namespace: {namespace}" + (f", creationTimestamp: '{created}'" if created else "")
    return f"{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{{meta}}}, spec: {{{spec}}}}}"
