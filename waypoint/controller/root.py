"""The mesh's certificate authority: it signs workload certificates.

Its pieces are those of Istio's Secret `cacerts`: `ca-cert.pem` and `ca-key.pem` sign, `cert-chain.pem` has the
certificates between them and a root, and `root-cert.pem` has the roots that all workloads trust. A self-signed
authority is its own root.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from l4.identity.authority import AuthorityError
from policies.attributes import Identity

ROOT_LIFE = timedelta(days=3650)
MAX_LIFE = timedelta(hours=24)
MIN_LIFE = timedelta(minutes=1)
CLOCK_SKEW = timedelta(minutes=2)
MAX_CSR_BYTES = 64 << 10
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
CERTIFICATE, KEY, CHAIN, ROOTS = "ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_BOTH_SIDES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
LeafKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class InvalidRequest(Exception):
    """The CSR cannot be signed. The message gives the reason."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A leaf in PEM, without the chain."""

    leaf: bytes
    serial_number: int
    not_after: datetime


@dataclass(frozen=True, slots=True)
class RootAuthority:
    """`intermediates` follow a leaf in handshakes. `roots` is the bundle that every workload gets.

    No leaf outlives `not_after`, when the first certificate of the chain expires.
    """

    certificate: x509.Certificate
    key: SigningKey = field(repr=False)
    intermediates: tuple[bytes, ...]
    roots: bytes
    not_after: datetime
    root: bytes
    """The one of `roots` to which the chain leads."""

    @staticmethod
    def make(organization: str, now: datetime) -> dict[str, bytes]:
        """Return the pieces of a new self-signed authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + ROOT_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(is_authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
            .public_bytes(Encoding.PEM)
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {CERTIFICATE: certificate, KEY: pem, ROOTS: certificate}

    @classmethod
    def of(cls, pieces: Mapping[str, bytes], now: datetime) -> "RootAuthority":
        """Check the pieces together. Raises AuthorityError, which names the faulty one."""
        certificate = _certificates(pieces, CERTIFICATE)[0]
        key = _key(pieces)
        if key.public_key() != certificate.public_key():
            raise AuthorityError(f"{KEY} is not the key of {CERTIFICATE}")
        roots = _certificates(pieces, ROOTS)
        between = _certificates(pieces, CHAIN) if pieces.get(CHAIN) else []
        path = _path(certificate, between, roots)
        for it in path:
            name = CERTIFICATE if it is certificate else ROOTS if it in roots else CHAIN
            _check_authority(name, it, now)
        own = tuple(it.public_bytes(Encoding.PEM) for it in path if it not in roots)
        bundle = b"".join(it.public_bytes(Encoding.PEM) for it in dict.fromkeys(roots))
        return cls(
            certificate,
            key,
            own,
            bundle,
            min(it.not_valid_after_utc for it in path),
            path[-1].public_bytes(Encoding.PEM),
        )

    def trusts(self, other: "RootAuthority") -> bool:
        """Whether workloads with these roots accept what `other` signed."""
        return other.root in self.roots

    def sign(self, identity: Identity, csr_pem: bytes, life: timedelta, now: datetime) -> Signed:
        """Sign for both sides of a connection. Only the key of the CSR counts. Raises InvalidRequest and
        AuthorityError."""
        key = _requested_key(csr_pem)
        names = [x509.UniformResourceIdentifier(str(identity))]
        return self._issue(key, names, _BOTH_SIDES, min(max(life, MIN_LIFE), MAX_LIFE), now)

    def serve(self, hosts: Iterable[str], life: timedelta, now: datetime) -> tuple[bytes, bytes]:
        """Return a new key, and its chain for a TLS server with these names, in PEM. Raises AuthorityError."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(it) for it in hosts]
        signed = self._issue(key.public_key(), names, (ExtendedKeyUsageOID.SERVER_AUTH,), life, now)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem, b"".join((signed.leaf, *self.intermediates))

    def _issue(
        self,
        key: LeafKey,
        names: Iterable[x509.GeneralName],
        purposes: Iterable[x509.ObjectIdentifier],
        life: timedelta,
        now: datetime,
    ) -> Signed:
        if now >= self.not_after:
            raise AuthorityError(f"the authority expired at {self.not_after}")
        not_after = min(now + life, self.not_after)
        leaf = (
            x509.CertificateBuilder(self.certificate.subject, x509.Name([]), key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(not_after)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_issuer_key(self.certificate), critical=False)
            .sign(self.key, SHA256())
        )
        return Signed(leaf.public_bytes(Encoding.PEM), leaf.serial_number, not_after)


def utc_now() -> datetime:
    return datetime.now(UTC)


def _path(
    certificate: x509.Certificate, between: list[x509.Certificate], roots: list[x509.Certificate]
) -> list[x509.Certificate]:
    """Return the certificates from `certificate` to a root, both included. Raises AuthorityError."""
    path = [certificate]
    while path[-1] not in roots:
        issuer = next((it for it in (*roots, *between) if it not in path and _is_issued(path[-1], it)), None)
        if issuer is None:
            raise AuthorityError(f"{CERTIFICATE} does not lead to a root in {ROOTS} by the certificates in {CHAIN}")
        path.append(issuer)
    return path


def _check_authority(name: str, it: x509.Certificate, now: datetime) -> None:
    subject = it.subject.rfc4514_string()
    try:
        is_authority = it.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    try:
        may_sign = it.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        may_sign = True
    if not is_authority or not may_sign:
        raise AuthorityError(f"{name} has a certificate that may not sign others: {subject}")
    if now >= it.not_valid_after_utc:
        raise AuthorityError(f"{name} has a certificate that expired at {it.not_valid_after_utc}: {subject}")
    if now < it.not_valid_before_utc:
        raise AuthorityError(f"{name} has a certificate that is not valid before {it.not_valid_before_utc}: {subject}")


def _requested_key(csr_pem: bytes) -> LeafKey:
    """Return the key that a CSR proves to have."""
    if len(csr_pem) > MAX_CSR_BYTES:
        raise InvalidRequest(f"the CSR has more than {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        if isinstance(key, rsa.RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise InvalidRequest(
                f"the CSR has an RSA key of {key.key_size} bits; it must have {MIN_RSA_BITS} to {MAX_RSA_BITS}"
            )
        is_signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise InvalidRequest(f"the CSR cannot be read: {error}") from None
    if not is_signed:
        raise InvalidRequest("the CSR is not signed by its own key")
    if isinstance(key, rsa.RSAPublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    raise InvalidRequest("the CSR's key is neither RSA nor ECDSA on P-256, P-384 or P-521")


def _certificates(pieces: Mapping[str, bytes], name: str) -> list[x509.Certificate]:
    if not pieces.get(name):
        raise AuthorityError(f"{name} is missing")
    try:
        return x509.load_pem_x509_certificates(pieces[name])
    except ValueError:
        raise AuthorityError(f"{name} contains no valid PEM certificates") from None


def _key(pieces: Mapping[str, bytes]) -> SigningKey:
    if not pieces.get(KEY):
        raise AuthorityError(f"{KEY} is missing")
    try:
        key = load_pem_private_key(pieces[KEY], None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AuthorityError(f"{KEY} contains no valid PEM private key without a password") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    raise AuthorityError(f"{KEY} is neither an RSA key of {MIN_RSA_BITS} bits nor ECDSA on P-256, P-384 or P-521")


def _is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issuer_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """As the issuer's certificate has it: OpenSSL finds no chain if the two differ."""
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        if not isinstance(key, LeafKey):
            raise AuthorityError(f"{CERTIFICATE} has an unsupported key") from None
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_encipherment=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
