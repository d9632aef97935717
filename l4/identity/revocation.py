"""Certificate revocation lists (RFC 5280 section 5): whose certificate counts no more, whatever its time says.

In a handshake OpenSSL looks the peer's own certificate up. It then wants a list of each authority that signs peers,
in its time and with a good signature: where one is missing or too old, those peers are refused. A connection that was
made before its peer was revoked is looked up here, by issuer and serial number.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from l4.identity.certificate import InvalidCertificate

_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Revocations:
    """The lists of one file. `serials` are pairs of issuer, in DER, and serial number."""

    pem: bytes = field(repr=False)
    serials: frozenset[tuple[bytes, int]] = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> "Revocations":
        """Raises InvalidCertificate."""
        try:
            pem = path.read_bytes()
            lists = [x509.load_pem_x509_crl(block) for block in _BLOCK.findall(pem)]
        except OSError as error:
            raise InvalidCertificate(path, f"cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InvalidCertificate(path, f"holds a revocation list that can't be read: {error}") from error
        if not lists:
            raise InvalidCertificate(path, "holds no revocation list (PEM, X509 CRL)")
        serials = ((it.issuer.public_bytes(), entry.serial_number) for it in lists for entry in it)
        return cls(pem, frozenset(serials))

    def has(self, der: bytes) -> bool:
        """Whether a certificate that was accepted once is revoked now."""
        certificate = x509.load_der_x509_certificate(der)
        return (certificate.issuer.public_bytes(), certificate.serial_number) in self.serials
