"""The interface of certificate sources. A source may use files or an authority.

Users of certificates call `get` for each connection and never keep the result. A renewal thus affects new connections
immediately, and no certificate is used after its expiry.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from l4.identity import tls
from l4.identity.certificate import Certificate
from l4.identity.revocation import Revocations
from policies.attributes import Identity

Clock = Callable[[], float]

_MAX_CONCERNS = 3
_ALARM_SHARE = 0.2
"""Remaining share of a certificate's life at which a missing renewal is reported. Renewal is due at half."""


@dataclass(eq=False)
class NoCertificate(Exception):
    """There is no valid certificate for this identity now."""

    identity: Identity
    reason: str

    def __str__(self) -> str:
        return f"no certificate for {self.identity}: {self.reason}"


class CertificateAwaited(NoCertificate):
    """The certificate was requested and may still arrive."""


class WorkloadCertificate:
    """A certificate with its two TLS contexts, which are created once and shared by all connections.

    `expires_at` is in seconds of the wall clock.
    """

    def __init__(self, certificate: Certificate, revocations: Revocations | None = None) -> None:
        self.certificate = certificate
        self.identity = certificate.identity
        self.expires_at = certificate.not_after.timestamp()
        self.revocations = revocations
        # Create both now, not on first use (0.8 ms each): what OpenSSL refuses must not replace what works.
        self.server_context = tls.server_context(certificate, revocations)
        self.client_context = tls.client_context(certificate, revocations)

    def seconds_left(self, now: float) -> float:
        """Seconds until expiry; negative afterwards."""
        return self.expires_at - now

    def concern(self, now: float) -> str:
        """Return a sentence if renewal is late, or an empty text."""
        certificate, left = self.certificate, self.seconds_left(now)
        if left <= 0:
            return f"the certificate of {self.identity} expired at {certificate.not_after}; no connection is possible"
        if left > _ALARM_SHARE * (certificate.not_after - certificate.not_before).total_seconds():
            return ""
        return (
            f"the certificate of {self.identity} expires at {certificate.not_after} and has not been renewed; "
            f"check {certificate.origin}"
        )


class CertificateSource(Protocol):
    """Certificates of the wanted identities. Their number is bounded."""

    def want(self, identity: Identity) -> None:
        """Obtain the identity's certificate, and renew it until `forget`. Returns at once; may be repeated."""

    def get(self, identity: Identity) -> WorkloadCertificate:
        """Return the current certificate of `identity`. Raises NoCertificate. Cheap: call it for every connection."""

    def forget(self, identity: Identity) -> None:
        """Stop keeping and renewing the certificate, because its workloads are gone."""

    def on_change(self, callback: Callable[[WorkloadCertificate], None]) -> None:
        """Call `callback` with every new certificate, whether first or renewed."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the first certificate expires; negative afterwards. None if there is none."""

    @property
    def concern(self) -> str:
        """Return a late or failing renewal that needs attention, or an empty text."""

    async def watch(self) -> None:
        """Obtain and renew certificates until cancelled. A vital loop."""


class OwnCertificate:
    """The certificate of a program that is one workload, from a source that may have many."""

    def __init__(self, source: CertificateSource, identity: Identity) -> None:
        self.identity = identity
        self.source = source
        source.want(identity)

    def get(self) -> WorkloadCertificate:
        """Return our current certificate. Raises NoCertificate."""
        return self.source.get(self.identity)


def joined(concerns: Iterable[str]) -> str:
    """Join the first concerns in one sentence, with the number of the others."""
    found = list(filter(None, concerns))
    more = [f"and {len(found) - _MAX_CONCERNS} more"] if len(found) > _MAX_CONCERNS else []
    return "; ".join(found[:_MAX_CONCERNS] + more)
