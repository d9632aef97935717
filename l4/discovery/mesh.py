"""What holds for the whole mesh."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mesh:
    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    network: str = ""
