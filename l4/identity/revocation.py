"""Certificate revocation lists (RFC 5280 section 5): whose certificate counts no more, whatever its time says.

In a handshake OpenSSL looks the peer's own certificate up. It then wants a list of each authority that signs peers,
in its time and with a good signature: where one is missing or too old, those peers are refused. A connection that was
made before its peer was revoked is looked up here, by issuer and serial number.
"""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from l4.identity.certificate import InvalidCertificate
from l4.identity.file_version import Version, version_of

log = logging.getLogger(__name__)

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
            raise InvalidCertificate(str(path), f"cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InvalidCertificate(str(path), f"holds a revocation list that can't be read: {error}") from error
        if not lists:
            raise InvalidCertificate(str(path), "holds no revocation list (PEM, X509 CRL)")
        serials = ((it.issuer.public_bytes(), entry.serial_number) for it in lists for entry in it)
        return cls(pem, frozenset(serials))

    def has(self, der: bytes) -> bool:
        """Whether a certificate that was accepted once is revoked now."""
        certificate = x509.load_der_x509_certificate(der)
        return (certificate.issuer.public_bytes(), certificate.serial_number) in self.serials


class RevocationFile:
    """The lists of a file that is followed: lists that can't be read leave those of before in use."""

    def __init__(self, path: Path) -> None:
        self.concern = ""
        """Why the file can't be used; empty while it can."""
        self._path = path
        self._version: Version = None
        self._current: Revocations | None = None

    @property
    def is_read(self) -> bool:
        return self._current is not None

    @property
    def current(self) -> Revocations:
        """Raises InvalidCertificate while none has been read: then nobody can say who is revoked."""
        if self._current is None:
            raise InvalidCertificate(str(self._path), "no revocation list has been read")
        return self._current

    def refresh(self) -> None:
        """Read the file again if it has changed. A failure is tried again at the next call, and logged once."""
        version = version_of(self._path)  # taken first: a change during the load is seen by the next call
        if version is not None and version == self._version:
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
