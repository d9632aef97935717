"""Command-line options for certificates: files that others renew, or an authority that signs."""

from dataclasses import dataclass
from pathlib import Path

from l4.config.settings import Section

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """One workload's certificate chain and key, and the roots that it trusts."""

    certificate: Path
    private_key: Path
    trust_bundle: Path


@dataclass(frozen=True, slots=True)
class CertificateFolder:
    """Chains and keys of many workloads, and the roots that they trust."""

    folder: Path
    trust_bundle: Path


@dataclass(frozen=True, slots=True)
class AuthorityOptions:
    """An authority at `address`, which is `host:port`. An empty `cluster_id` is the setting CLUSTER_ID."""

    address: str
    root: Path
    token: Path
    cluster_id: str = ""


@dataclass(frozen=True, slots=True)
class SigningSettings(Section):
    title = "Certificates from an authority"

    certificate_seconds: int = DAY_SECONDS
    """The requested life, as SECRET_TTL of Istio's proxies. Istio's authority signs nothing for more than its
    MAX_WORKLOAD_CERT_TTL; others may sign for less than requested."""
