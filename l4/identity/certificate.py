"""Workload certificates: our own, validated as a whole, and the peer's, reduced to the identity that it proves.

OpenSSL checks that a chain leads to the trust bundle and is currently valid. That alone would accept any leaf the mesh
CA ever signed. This module checks the rest after the handshake, before a byte of HTTP/2 is answered, by the rules of
SPIFFE X.509-SVID: exactly one URI SAN of the mesh's form, no CA certificate as leaf, and suitable key usages. DNS names
and the subject are ignored. ztunnel takes the first of several SPIFFE URIs; we refuse them, which is stricter.
"""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from policies.attributes import Identity


@dataclass(eq=False)
class InvalidCertificate(Exception):
    """Our own certificate, key or trust bundle is unusable. `origin` is a file or the sender."""

    origin: str
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


class InvalidPeer(Exception):
    """The peer's certificate has a trusted root but does not prove an accepted identity."""


@dataclass(eq=False)
class UnreadableCertificate(InvalidPeer):
    reason: str

    def __str__(self) -> str:
        return f"the peer's certificate cannot be read: {self.reason}"


@dataclass(eq=False)
class NoIdentity(InvalidPeer):
    def __str__(self) -> str:
        return "the peer's certificate has no URI SAN; a workload certificate has exactly one, its SPIFFE ID"


@dataclass(eq=False)
class SeveralIdentities(InvalidPeer):
    uris: tuple[str, ...]

    def __str__(self) -> str:
        return f"the peer's certificate has {len(self.uris)} URI SANs but exactly one is allowed: {self.uris}"


@dataclass(eq=False)
class MalformedIdentity(InvalidPeer):
    reason: str

    def __str__(self) -> str:
        return f"the peer's URI SAN is not a workload SPIFFE ID: {self.reason}"


@dataclass(eq=False)
class CertificateOfAnAuthority(InvalidPeer):
    identity: Identity

    def __str__(self) -> str:
        return f"{self.identity} presented a CA certificate (CA:TRUE) as its own; issue it a leaf certificate"


@dataclass(eq=False)
class WrongUsage(InvalidPeer):
    identity: Identity
    missing: str

    def __str__(self) -> str:
        return f"the certificate of {self.identity} restricts its usages and does not include {self.missing}"


@dataclass(eq=False)
class UntrustedDomain(InvalidPeer):
    identity: Identity
    trust_domains: frozenset[str]

    def __str__(self) -> str:
        known = ", ".join(sorted(self.trust_domains)) or "none"
        return f"{self.identity} is in a trust domain that is not accepted (accepted: {known})"


@dataclass(eq=False)
class UnexpectedIdentity(InvalidPeer):
    identity: Identity
    expected: frozenset[Identity]

    def __str__(self) -> str:
        wanted = ", ".join(sorted(map(str, self.expected))) or "nobody: the destination's identity is unknown"
        return f"the server is {self.identity}; expected was {wanted}; the registry may be out of date"


@dataclass(frozen=True, slots=True)
class Pem:
    """PEM text with its origin, a file or the sender. It may be secret, so `repr` hides the text."""

    origin: str
    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A secret. Neither `repr` nor `str` shows it."""

    pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A workload's certificate with its key and trusted roots. `of` checks that they belong together.

    `not_before` and `not_after` apply to the whole chain, because peers accept a leaf no longer than its intermediates.
    """

    identity: Identity
    origin: str
    chain_pem: bytes = field(repr=False)
    private_key: PrivateKey
    trust_bundle_pem: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime
    serial: int

    @classmethod
    def of(cls, chain: Pem, key: Pem, bundle: Pem, *, now: float | None = None) -> "Certificate":
        """Check the three parts. Raises InvalidCertificate, which names the faulty part."""
        certificates = _parse_certificates(chain)
        leaf = certificates[0]
        _parse_certificates(bundle)
        _check_key(key, leaf, chain)
        not_before = max(it.not_valid_before_utc for it in certificates)
        not_after = min(it.not_valid_after_utc for it in certificates)
        _check_time(chain, not_before, not_after, time.time() if now is None else now)
        try:
            identity = _inspect(leaf).identity
        except InvalidPeer as error:
            # We apply the same rules to ourselves: peers refuse what we would refuse from them.
            raise InvalidCertificate(chain.origin, f"peers would refuse it: {error}") from error
        return cls(
            identity=identity,
            origin=chain.origin,
            chain_pem=chain.text,
            private_key=PrivateKey(key.text),
            trust_bundle_pem=bundle.text,
            not_before=not_before,
            not_after=not_after,
            serial=leaf.serial_number,
        )


def verify_client(der: bytes, trust_domains: frozenset[str]) -> Identity:
    """Return the identity of a client whose chain OpenSSL has accepted. Raises InvalidPeer."""
    leaf = _inspect_der(der)
    if not leaf.may_be_client:
        raise WrongUsage(leaf.identity, "clientAuth")
    if leaf.identity.trust_domain not in trust_domains:
        raise UntrustedDomain(leaf.identity, trust_domains)
    return leaf.identity


def verify_server(der: bytes, expected: frozenset[Identity]) -> Identity:
    """Return the identity of a server whose chain OpenSSL has accepted. An empty `expected` matches nobody. Raises
    InvalidPeer."""
    leaf = _inspect_der(der)
    if not leaf.may_be_server:
        raise WrongUsage(leaf.identity, "serverAuth")
    if leaf.identity not in expected:
        raise UnexpectedIdentity(leaf.identity, expected)
    return leaf.identity


def peer_identity(der: bytes) -> Identity:
    """Return the identity in a leaf certificate, by the rules for both sides. Raises InvalidPeer."""
    return _inspect_der(der).identity


def expiry(der: bytes) -> float:
    """Return the expiry of a leaf certificate, in seconds of the wall clock. Raises InvalidPeer."""
    return _inspect_der(der).not_after


@dataclass(frozen=True, slots=True)
class _Leaf:
    identity: Identity
    may_be_client: bool
    may_be_server: bool
    not_after: float


# A peer presents the same certificate in every handshake until rotation; parsing one takes about 10 µs.
@lru_cache(maxsize=1024)
def _inspect_der(der: bytes) -> _Leaf:
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise UnreadableCertificate(str(error)) from error
    return _inspect(certificate)


def _inspect(certificate: x509.Certificate) -> _Leaf:
    try:
        extensions = {type(extension.value): extension.value for extension in certificate.extensions}
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UnreadableCertificate(str(error)) from error
    identity = _identity(extensions.get(x509.SubjectAlternativeName))
    constraints = extensions.get(x509.BasicConstraints)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        raise CertificateOfAnAuthority(identity)
    usage = extensions.get(x509.KeyUsage)
    if isinstance(usage, x509.KeyUsage) and not usage.digital_signature:
        raise WrongUsage(identity, "digitalSignature")
    purposes = extensions.get(x509.ExtendedKeyUsage)
    not_after = certificate.not_valid_after_utc.timestamp()
    if not isinstance(purposes, x509.ExtendedKeyUsage):
        return _Leaf(identity, may_be_client=True, may_be_server=True, not_after=not_after)
    is_client, is_server = ExtendedKeyUsageOID.CLIENT_AUTH in purposes, ExtendedKeyUsageOID.SERVER_AUTH in purposes
    return _Leaf(identity, is_client, is_server, not_after)


def _identity(names: x509.ExtensionType | None) -> Identity:
    uris: list[str] = []
    if isinstance(names, x509.SubjectAlternativeName):
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if not uris:
        raise NoIdentity
    if len(uris) > 1:
        raise SeveralIdentities(tuple(uris))
    try:
        return Identity.parse(uris[0])
    except ValueError as error:
        raise MalformedIdentity(str(error)) from error


def _parse_certificates(pem: Pem) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.text)
    except ValueError as error:
        raise InvalidCertificate(pem.origin, "contains no valid PEM certificate") from error


def _check_key(key: Pem, leaf: x509.Certificate, chain: Pem) -> None:
    try:
        public_key = load_pem_private_key(key.text, password=None).public_key()
    except (ValueError, TypeError) as error:
        raise InvalidCertificate(key.origin, "contains no valid PEM private key without a password") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public_key.public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise InvalidCertificate(key.origin, f"the key does not belong to the first certificate of {chain.origin}")


def _check_time(chain: Pem, not_before: datetime, not_after: datetime, now: float) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    if moment < not_before:
        raise InvalidCertificate(chain.origin, f"is not valid before {not_before}; check the clock")
    if moment >= not_after:
        raise InvalidCertificate(chain.origin, f"expired at {not_after}; issue a new one")
