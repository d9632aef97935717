"""The tests' own mesh PKI. It is independent of the development CA, and can sign invalid certificates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from l4.identity.files import load
from l4.identity.source import WorkloadCertificate
from policies.attributes import Identity

HOUR = timedelta(hours=1)
BOTH_SIDES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM."""

    chain_pem: bytes
    key_pem: bytes

    @property
    def der(self) -> bytes:
        return x509.load_pem_x509_certificate(self.chain_pem).public_bytes(Encoding.DER)


class MeshPki:
    """A root in `folder/root.pem`, and whatever it is asked to sign.

    `certificate(identity)` is what most tests want; `write(identity)` leaves files for a store or a program;
    `leaf(...)` signs odd ones.
    """

    def __init__(self, folder: Path, trust_domain: str = "cluster.local") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.trust_domain = trust_domain
        self.bundle_path = folder / "root.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"root of {folder.name}")])
        self._certificates: dict[Identity, WorkloadCertificate] = {}
        now = datetime.now(UTC)
        root = (
            x509.CertificateBuilder(self._name, self._name, self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 24 * HOUR)
            .not_valid_after(now + 24 * HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, SHA256())
        )
        self.root_pem = root.public_bytes(Encoding.PEM)
        self.bundle_path.write_bytes(self.root_pem)

    def identity(self, namespace: str, service_account: str) -> Identity:
        return Identity(self.trust_domain, namespace, service_account)

    def certificate(self, identity: Identity, *, ends: timedelta = HOUR) -> WorkloadCertificate:
        """Return the valid certificate of `identity` with its TLS contexts; the same one each time."""
        if identity not in self._certificates:
            chain = self.write(identity, self.leaf([str(identity)], ends=ends))
            loaded = load(chain, chain.with_suffix(".key"), self.bundle_path)
            self._certificates[identity] = WorkloadCertificate(loaded)
        return self._certificates[identity]

    def write(self, identity: Identity, pair: Pair | None = None) -> Path:
        """Write a pair (by default a new valid one) to `<namespace>.<service account>.pem` and `.key`."""
        pair = pair or self.leaf([str(identity)])
        chain = self.folder / f"{identity.namespace}.{identity.service_account}.pem"
        chain.write_bytes(pair.chain_pem)
        chain.with_suffix(".key").write_bytes(pair.key_pem)
        return chain

    def revoke(self, *pairs: Pair) -> Path:
        """Write a list of revoked certificates to `revoked.pem`."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(self._name, now - HOUR, now + HOUR)
        for pair in pairs:
            serial = x509.load_pem_x509_certificate(pair.chain_pem).serial_number
            entry = x509.RevokedCertificateBuilder(serial, now - HOUR).build()
            builder = builder.add_revoked_certificate(entry)
        path = self.folder / "revoked.pem"
        path.write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        return path

    def leaf(
        self,
        uris: Sequence[str] = (),
        *,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        starts: timedelta = -HOUR,
        ends: timedelta = HOUR,
        usages: Sequence[x509.ObjectIdentifier] | None = BOTH_SIDES,
        is_authority: bool = False,
        digital_signature: bool = True,
        public_key: CertificatePublicKeyTypes | None = None,
    ) -> Pair:
        """Sign a certificate. With a foreign `public_key`, the pair's own key does not belong to it."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(self._name, x509.Name([]), public_key or key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=digital_signature), critical=True)
        )
        names = [
            *map(x509.UniformResourceIdentifier, uris),
            *map(x509.DNSName, dns),
            *(x509.IPAddress(ip_address(it)) for it in ips),
        ]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        if usages is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        chain = builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
        return Pair(chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def sign_authority(self, name: x509.Name, key: ec.EllipticCurvePublicKey) -> bytes:
        """Sign an intermediate that signs leaves, as PEM."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(self._name, name, key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - HOUR)
            .not_valid_after(now + 24 * HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(digital_signature=False, is_authority=True), critical=True)
        )
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)


def _key_usage(*, digital_signature: bool, is_authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
