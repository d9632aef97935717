"""Names that apply to the whole mesh."""

from dataclasses import dataclass

from l4.config.settings import Section, setting


@dataclass(frozen=True, slots=True)
class Mesh(Section):
    title = "Mesh"

    trust_domain: str = "cluster.local"
    """The trust domain of this mesh: the first part of every identity."""
    cluster_domain: str = "cluster.local"
    """The DNS suffix of Services."""
    cluster_id: str = setting("Kubernetes", aliases=("ISTIO_META_CLUSTER_ID",))
    """The cluster's name in metrics and in workloads' identifiers."""
    network: str = setting("", aliases=("ISTIO_META_NETWORK",))
    """The network that this process is in."""
    trust_domain_aliases: str = ""
    """Further trust domains whose clients are let in, separated by commas (MeshConfig.trustDomainAliases)."""

    @property
    def trust_domains(self) -> frozenset[str]:
        """Our own and the aliases."""
        aliases = (alias.strip() for alias in self.trust_domain_aliases.split(","))
        return frozenset({self.trust_domain, *filter(None, aliases)})
