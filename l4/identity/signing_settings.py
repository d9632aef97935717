"""Settings of certificates that an authority signs."""

from dataclasses import dataclass

from l4.config.settings import Section

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class SigningSettings(Section):
    title = "Certificates from an authority"

    certificate_seconds: int = DAY_SECONDS
    """The requested life, as SECRET_TTL of Istio's proxies. Istio's authority signs nothing for more than its
    MAX_WORKLOAD_CERT_TTL; others may sign for less than requested."""
