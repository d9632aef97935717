"""Command-line options for certificates: files that others renew, or an authority that signs.

Its settings are in `l4.identity.signing_settings`: `--help` loads none.
"""

from dataclasses import dataclass
from pathlib import Path


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
