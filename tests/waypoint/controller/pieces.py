"""Pieces of authorities as Istio's Secret `cacerts` has them, with intermediates."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 11, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Node:
    """A certificate, its key, and the one that issued it."""

    name: str
    issuer: "Node | None" = None
    starts: datetime = NOW - DAY
    ends: datetime = NOW + 3650 * DAY
    is_authority: bool = True
    signs: bool = True
    identifier: bytes = b""
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        by = self.issuer or self
        subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, it.name)]) for it in (self, by))
        usage = x509.KeyUsage(not self.signs, False, False, False, False, self.signs, False, False, False)
        builder = (
            x509.CertificateBuilder(issuer, subject, self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.starts)
            .not_valid_after(self.ends)
            .add_extension(x509.BasicConstraints(ca=self.is_authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        if self.identifier:
            builder = builder.add_extension(x509.SubjectKeyIdentifier(self.identifier), critical=False)
        self.certificate = builder.sign(by.key, SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def cacerts(signing: Node, *between: Node, roots: tuple[Node, ...] = ()) -> dict[str, bytes]:
    """As the make rules of Istio write them: the chain begins with the signing certificate."""
    return {
        "ca-cert.pem": signing.pem,
        "ca-key.pem": signing.key_pem,
        "cert-chain.pem": b"".join(it.pem for it in (signing, *between)),
        "root-cert.pem": b"".join(it.pem for it in roots),
    }
