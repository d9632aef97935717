"""What a source of certificates is, wherever it has them from: files, or an authority.

Whoever uses certificates asks for an identity's, each time anew, and never keeps one: so a renewal counts for new
connections at once, and no certificate is used after its time.
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
"""Of a certificate's life; whoever renews does it at half of it."""


@dataclass(eq=False)
class NoCertificate(Exception):
    """There is no certificate with which we could speak for this identity now."""

    identity: Identity
    reason: str

    def __str__(self) -> str:
        return f"no certificate for {self.identity}: {self.reason}"


class CertificateAwaited(NoCertificate):
    """It has been asked for, and the answer may still come."""


class WorkloadCertificate:
    """A certificate with the TLS contexts of both directions, made once and shared by all its connections."""

    def __init__(self, certificate: Certificate, revocations: Revocations | None = None) -> None:
        self.certificate = certificate
        self.revocations = revocations
        # Both at once, not on first use (0.8 ms each): what OpenSSL refuses must not replace what works.
        self.server_context = tls.server_context(certificate, revocations)
        self.client_context = tls.client_context(certificate, revocations)

    @property
    def identity(self) -> Identity:
        return self.certificate.identity

    @property
    def expires_at(self) -> float:
        """In seconds of the wall clock."""
        return self.certificate.not_after.timestamp()

    def seconds_left(self, now: float) -> float:
        """Time until it expires, negative after."""
        return self.expires_at - now

    def concern(self, now: float) -> str:
        """Why somebody should look after it: renewal is late. Empty while it isn't."""
        certificate, left = self.certificate, self.seconds_left(now)
        if left <= 0:
            return f"the certificate of {self.identity} expired at {certificate.not_after}: nobody can be served"
        if left > _ALARM_SHARE * (certificate.not_after - certificate.not_before).total_seconds():
            return ""
        return (
            f"the certificate of {self.identity} expires at {certificate.not_after} and has not been renewed; "
            f"check {certificate.origin}"
        )


class CertificateSource(Protocol):
    """Certificates of the identities that are wanted. How many it keeps is bounded."""

    def want(self, identity: Identity) -> None:
        """Obtain this identity's certificate, and renew it until `forget`. Returns at once; may be called again."""

    def get(self, identity: Identity) -> WorkloadCertificate:
        """The certificate to speak as `identity` now; raises NoCertificate. Cheap: call it for every connection."""

    def forget(self, identity: Identity) -> None:
        """Keep and renew it no more; its workloads are gone."""

    def on_change(self, callback: Callable[[WorkloadCertificate], None]) -> None:
        """Call `callback` with every certificate that takes another one's place, or that was waited for."""

    @property
    def seconds_left(self) -> float | None:
        """Time until the first of them expires, negative after; None while there is none."""

    @property
    def concern(self) -> str:
        """What an operator should look after: a renewal that is late or fails. Empty while nothing is."""

    async def watch(self) -> None:
        """Obtain and renew until cancelled. A vital loop."""


class OwnCertificate:
    """The certificate of a program that is one workload, out of a source that may have many."""

    def __init__(self, source: CertificateSource, identity: Identity) -> None:
        self.identity = identity
        self.source = source
        source.want(identity)

    def get(self) -> WorkloadCertificate:
        """The certificate to speak as ourselves now; raises NoCertificate."""
        return self.source.get(self.identity)


def joined(concerns: Iterable[str]) -> str:
    """The first of many concerns in one sentence, and how many more there are."""
    found = list(filter(None, concerns))
    more = [f"and {len(found) - _MAX_CONCERNS} more"] if len(found) > _MAX_CONCERNS else []
    return "; ".join(found[:_MAX_CONCERNS] + more)
