"""The certificate authority interface, and a development CA for one machine.

For each request a workload generates a new P-256 key and sends a CSR with an empty subject and one critical URI SAN, as
ztunnel does with Istio's CA. The development CA keeps its root in a folder, and signs for everyone who can read that
folder. It is for laptops and tests; it has no revocation and no intermediates.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from l4.identity.certificate import PrivateKey
from policies.attributes import Identity

ROOT_LIFE = timedelta(days=3650)
CLOCK_SKEW = timedelta(minutes=2)  # certificates start this much in the past, as Istio's do


class AuthorityError(Exception):
    """The authority cannot sign. The message gives the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class SignedChain:
    """An authority's answer: the leaf and intermediates to present in handshakes, and the roots to trust."""

    chain_pem: bytes
    trust_bundle_pem: bytes


class Authority(Protocol):
    async def sign(self, identity: Identity, csr_pem: bytes) -> SignedChain:
        """Return a certificate of `identity` for the CSR's key. Raises AuthorityError."""


def certificate_request(identity: Identity) -> tuple[PrivateKey, bytes]:
    """Generate a private key, and return it with its CSR in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = request.add_extension(_names(identity), critical=True)
    return PrivateKey(_key_pem(key)), request.sign(key, SHA256()).public_bytes(Encoding.PEM)


class DevelopmentAuthority:
    """A root certificate in `root.pem` and `root.key` of a folder, created on first use.

    `root.pem` is the mesh's trust bundle. An existing root is never replaced automatically, because peers trust it.
    """

    def __init__(self, folder: Path, leaf_seconds: float = 24 * 3600, clock: Callable[[], float] = time.time) -> None:
        """Raises AuthorityError."""
        self.bundle_path, key_path = self.paths(folder)
        self._leaf_life = timedelta(seconds=leaf_seconds)
        self._clock = clock
        if not self.bundle_path.exists():
            self.make_root(folder)
        self._key, self._root = _load_root(key_path, self.bundle_path)

    @staticmethod
    def paths(folder: Path) -> tuple[Path, Path]:
        """Return the paths of the root certificate and its key."""
        return folder / "root.pem", folder / "root.key"

    @staticmethod
    def pair(identity: Identity, folder: Path) -> tuple[Path, Path]:
        """Return the paths to which `write` writes a chain and its key."""
        name = f"{identity.namespace}.{identity.service_account}"
        return folder / f"{name}.pem", folder / f"{name}.key"

    @classmethod
    def make_root(cls, folder: Path, life: timedelta = ROOT_LIFE) -> None:
        """Create a new root. It replaces an existing one."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, key_path = cls.paths(folder)
        _create_root(key_path, path, life)

    async def sign(self, identity: Identity, csr_pem: bytes) -> SignedChain:
        try:
            request = x509.load_pem_x509_csr(csr_pem)
            key = request.public_key()
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm) as error:
            raise AuthorityError(f"the CSR for {identity} cannot be read: {error}") from error
        if (
            not request.is_signature_valid
            or names != _names(identity)
            or not isinstance(key, ec.EllipticCurvePublicKey)
        ):
            raise AuthorityError(
                f"the CSR for {identity} must be signed by its own EC key and name exactly that identity"
            )
        return SignedChain(self._leaf(identity, key, self._leaf_life), self._root.public_bytes(Encoding.PEM))

    def issue(self, identity: Identity, valid_seconds: float | None = None) -> tuple[bytes, PrivateKey]:
        """Return a new chain in PEM and its private key."""
        key = ec.generate_private_key(ec.SECP256R1())
        life = self._leaf_life if valid_seconds is None else timedelta(seconds=valid_seconds)
        return self._leaf(identity, key.public_key(), life), PrivateKey(_key_pem(key))

    def write(self, identity: Identity, folder: Path, valid_seconds: float | None = None) -> Path:
        """Issue a certificate into `<namespace>.<service account>.pem` and `.key` of `folder`. Returns the chain's
        path.

        Each file is replaced atomically. A reader between the two replacements sees a key that does not match, and
        keeps its previous certificate.
        """
        chain_pem, private_key = self.issue(identity, valid_seconds)
        path, key_path = self.pair(identity, folder)
        _replace(key_path, private_key.pem, mode=0o600)
        _replace(path, chain_pem)
        return path

    def _leaf(self, identity: Identity, key: ec.EllipticCurvePublicKey, life: timedelta) -> bytes:
        now = datetime.fromtimestamp(self._clock(), UTC)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = (
            x509.CertificateBuilder(issuer_name=self._root.subject, subject_name=x509.Name([]), public_key=key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + life)
            .add_extension(_names(identity), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)


def _create_root(key_path: Path, root_path: Path, life: timedelta) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pywaypoint development root")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _replace(key_path, _key_pem(key), mode=0o600)
    _replace(root_path, builder.sign(key, SHA256()).public_bytes(Encoding.PEM))


def _load_root(key_path: Path, root_path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = load_pem_private_key(key_path.read_bytes(), password=None)
        root = x509.load_pem_x509_certificate(root_path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise AuthorityError(f"the root in {root_path.parent} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != root.public_key():
        raise AuthorityError(f"{key_path} is not the key of {root_path}; delete both to create a new root")
    return key, root


def _names(identity: Identity) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a draft next to `path` and rename it, so that a reader sees either the old or the new file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    draft.replace(path)
