"""Certificate revocation lists (RFC 5280 section 5).

In a handshake, OpenSSL checks the peer's own certificate. It then requires a valid and current list from every
authority that signs peers; without one, that authority's peers are refused. For connections that were established
before the revocation, this module compares issuer and serial number.
"""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from l4.config.status import Version, version_of
from l4.identity.certificate import InvalidCertificate

log = logging.getLogger(__name__)

_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Revocations:
    """The lists of one file. `serials` are pairs of issuer (DER) and serial number."""

    pem: bytes = field(repr=False)
    serials: frozenset[tuple[bytes, int]] = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> "Revocations":
        """Raises InvalidCertificate."""
        try:
            pem = path.read_bytes()
            lists = [x509.load_pem_x509_crl(block) for block in _BLOCK.findall(pem)]
        except OSError as error:
            raise InvalidCertificate(str(path), f"cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InvalidCertificate(str(path), f"contains an invalid revocation list: {error}") from error
        if not lists:
            raise InvalidCertificate(str(path), "contains no revocation list (PEM, X509 CRL)")
        serials = ((it.issuer.public_bytes(), entry.serial_number) for it in lists for entry in it)
        return cls(pem, frozenset(serials))

    def has(self, der: bytes) -> bool:
        """Whether a certificate that was accepted earlier is now revoked."""
        certificate = x509.load_der_x509_certificate(der)
        return (certificate.issuer.public_bytes(), certificate.serial_number) in self.serials


class RevocationFile:
    """Follows a file of revocation lists. If new lists are invalid, the previous ones stay in use."""

    def __init__(self, path: Path) -> None:
        """Why the file is unusable; empty if it is usable."""
        self.concern = ""
        """Why the file can't be used; empty while it can."""
        self._path = path
        self._version: Version | None = None
        self._current: Revocations | None = None

    @property
    def is_read(self) -> bool:
        return self._current is not None

    @property
    def current(self) -> Revocations:
        """The current lists. Raises InvalidCertificate until the first successful load."""
        if self._current is None:
            raise InvalidCertificate(str(self._path), "no revocation list has been loaded")
        return self._current

    def refresh(self) -> None:
        """Reload the file if it has changed. A failure is retried at the next call, and logged once."""
        version = version_of(self._path)  # taken first, so that the next call sees a change during the load
        if version == self._version:
            return
        try:
            self._current = Revocations.load(self._path)
        except InvalidCertificate as error:
            self._version = None
            if str(error) != self.concern:
                log.warning("%s", error)
            self.concern = str(error)
        else:
            self._version = version
            self.concern = ""
