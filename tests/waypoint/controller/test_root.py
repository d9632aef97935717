"""The mesh's authority: its pieces, and what it signs."""

import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from l4.identity.authority import AuthorityError, certificate_request
from l4.identity.certificate import Certificate, Pem
from policies.attributes import Identity
from tests.waypoint.controller.pieces import DAY, NOW, Node, cacerts
from waypoint.controller.root import InvalidRequest, RootAuthority

REVIEWS = Identity("cluster.local", "bookinfo", "reviews")
HOUR = timedelta(hours=1)


def signed_by(authority: RootAuthority, life: timedelta = HOUR) -> Certificate:
    """A certificate of REVIEWS that our own programs accept."""
    key, csr = certificate_request(REVIEWS)
    signed = authority.sign(REVIEWS, csr, life, NOW)
    chain = b"".join((signed.leaf, *authority.intermediates))
    now = NOW.timestamp()
    return Certificate.of(Pem("chain", chain), Pem("key", key.pem), Pem("roots", authority.roots), now=now)


def assert_openssl_accepts(folder: Path, authority: RootAuthority, *more: str) -> None:
    leaf, *_ = x509.load_pem_x509_certificates(signed_by(authority).chain_pem)
    paths = [folder / name for name in ("roots.pem", "between.pem", "leaf.pem")]
    for path, pem in zip(
        paths, (authority.roots, b"".join(authority.intermediates), leaf.public_bytes(Encoding.PEM)), strict=True
    ):
        path.write_bytes(pem)
    roots, between, own = map(str, paths)
    untrusted = ["-untrusted", between] if authority.intermediates else []
    command = [
        "openssl",
        "verify",
        *more,
        "-attime",
        str(int(NOW.timestamp())),
        "-CAfile",
        roots,
        *untrusted,
        own,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=20)


def test_a_new_authority_signs_what_our_own_programs_and_openssl_accept(tmp_path: Path) -> None:
    authority = RootAuthority.of(RootAuthority.make("cluster.local", NOW), NOW)

    certificate = signed_by(authority)

    assert certificate.identity == REVIEWS
    assert authority.intermediates == ()
    assert certificate.not_after == NOW + HOUR
    assert certificate.not_before < NOW
    assert "PRIVATE" not in repr(authority)
    assert_openssl_accepts(tmp_path, authority, "-x509_strict")


def test_a_leaf_has_the_identity_alone_whatever_the_csr_asks_for() -> None:
    authority = RootAuthority.of(RootAuthority.make("cluster.local", NOW), NOW)
    key = ec.generate_private_key(ec.SECP384R1())
    greedy = (
        x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("istiod.istio-system.svc")]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )

    signed = authority.sign(REVIEWS, greedy.public_bytes(Encoding.PEM), HOUR, NOW)

    leaf = x509.load_pem_x509_certificate(signed.leaf)
    extensions = {type(it.value): it.value for it in leaf.extensions}
    names = extensions[x509.SubjectAlternativeName]
    assert list(names) == [x509.UniformResourceIdentifier(str(REVIEWS))]  # type: ignore[call-overload]
    assert extensions[x509.BasicConstraints] == x509.BasicConstraints(ca=False, path_length=None)
    assert list(leaf.subject) == []
    assert leaf.public_key() == key.public_key()
    assert leaf.serial_number == signed.serial_number


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (HOUR, HOUR),
        (timedelta(days=365), timedelta(hours=24)),
        (timedelta(0), timedelta(minutes=1)),
        (timedelta(days=-5), timedelta(minutes=1)),
    ],
)
def test_the_life_of_a_leaf_is_bounded(asked: timedelta, given: timedelta) -> None:
    authority = RootAuthority.of(RootAuthority.make("cluster.local", NOW), NOW)

    assert signed_by(authority, asked).not_after == NOW + given


def test_no_leaf_outlives_its_chain() -> None:
    root = Node("root", ends=NOW + 10 * HOUR)
    middle = Node("middle", root, ends=NOW + 5 * HOUR)
    signing = Node("signing", middle)
    authority = RootAuthority.of(cacerts(signing, middle, roots=(root,)), NOW)

    assert signed_by(authority, 24 * HOUR).not_after == NOW + 5 * HOUR
    with pytest.raises(AuthorityError, match="the authority expired at"):
        authority.sign(REVIEWS, certificate_request(REVIEWS)[1], HOUR, NOW + 6 * HOUR)


def test_istios_pieces_make_a_chain_from_the_leaf_to_the_root(tmp_path: Path) -> None:
    root, other = Node("root", identifier=b"r"), Node("other")
    upper = Node("upper", root, identifier=b"u")
    middle = Node("middle", upper, identifier=b"m")
    signing = Node("signing", middle, identifier=b"an identifier of its own")
    pieces = cacerts(signing, middle, upper, root, roots=(other, root, root))

    authority = RootAuthority.of(pieces, NOW)

    assert authority.intermediates == (signing.pem, middle.pem, upper.pem)
    assert authority.roots == other.pem + root.pem
    assert signed_by(authority).identity == REVIEWS
    assert_openssl_accepts(tmp_path, authority)


def test_the_order_of_the_chain_and_strangers_in_it_do_not_matter() -> None:
    root = Node("root")
    upper = Node("upper", root)
    middle = Node("middle", upper)
    signing = Node("signing", middle)
    pieces = cacerts(signing, roots=(root,)) | {"cert-chain.pem": upper.pem + Node("stranger").pem + middle.pem}

    assert RootAuthority.of(pieces, NOW).intermediates == (signing.pem, middle.pem, upper.pem)


def test_an_authority_below_its_root_needs_no_chain() -> None:
    root = Node("root")
    signing = Node("signing", root)
    pieces = cacerts(signing, roots=(root,))
    del pieces["cert-chain.pem"]

    assert RootAuthority.of(pieces, NOW).intermediates == (signing.pem,)


def test_one_of_several_roots_may_have_expired() -> None:
    root, old = Node("root"), Node("old", ends=NOW - HOUR)
    authority = RootAuthority.of(cacerts(root, roots=(old, root)), NOW)

    assert authority.roots == old.pem + root.pem
    assert authority.intermediates == ()


ROOT = Node("root")
EXPIRED, EARLY = Node("expired", starts=NOW - DAY, ends=NOW), Node("early", starts=NOW + DAY)
SIGNING = Node("signing", ROOT)
GOOD = cacerts(SIGNING, roots=(ROOT,))
LEADS_NOWHERE = "ca-cert.pem does not lead to a root in root-cert.pem by the certificates in cert-chain.pem"


def encrypted() -> bytes:
    return SIGNING.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def key_pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("pieces", "sentence"),
    [
        (GOOD | {"ca-cert.pem": b""}, "ca-cert.pem is missing"),
        (GOOD | {"ca-cert.pem": b"garbage"}, "ca-cert.pem contains no valid PEM certificates"),
        (GOOD | {"ca-key.pem": b""}, "ca-key.pem is missing"),
        (GOOD | {"ca-key.pem": b"garbage"}, "ca-key.pem contains no valid PEM private key without a password"),
        (GOOD | {"ca-key.pem": encrypted()}, "ca-key.pem contains no valid PEM private key without a password"),
        (GOOD | {"ca-key.pem": ROOT.key_pem}, "ca-key.pem is not the key of ca-cert.pem"),
        (GOOD | {"ca-key.pem": key_pem(ed25519.Ed25519PrivateKey.generate())}, "ca-key.pem is neither an RSA key"),
        (GOOD | {"ca-key.pem": key_pem(rsa.generate_private_key(65537, 1024))}, "ca-key.pem is neither an RSA key"),
        (GOOD | {"root-cert.pem": b""}, "root-cert.pem is missing"),
        (GOOD | {"root-cert.pem": b"garbage"}, "root-cert.pem contains no valid PEM certificates"),
        (GOOD | {"root-cert.pem": Node("root").pem}, LEADS_NOWHERE),
        (GOOD | {"cert-chain.pem": b"garbage"}, "cert-chain.pem contains no valid PEM certificates"),
        (cacerts(Node("x", Node("y", ROOT)), roots=(ROOT,)), LEADS_NOWHERE),
        (cacerts(EXPIRED, roots=(EXPIRED,)), "ca-cert.pem has a certificate that expired at 2026-11-30"),
        (cacerts(EARLY, roots=(EARLY,)), "ca-cert.pem has a certificate that is not valid before 2026-12-01"),
        (cacerts(Node("x", EXPIRED), roots=(EXPIRED,)), "root-cert.pem has a certificate that expired at"),
        (
            cacerts(Node("x", late := Node("l", ROOT, ends=NOW)), late, roots=(ROOT,)),
            "cert-chain.pem has a certificate",
        ),
        (
            cacerts(Node("x", ROOT, is_authority=False), roots=(ROOT,)),
            "ca-cert.pem has a certificate that may not sign",
        ),
        (cacerts(Node("x", ROOT, signs=False), roots=(ROOT,)), "ca-cert.pem has a certificate that may not sign"),
    ],
)
def test_each_bad_piece_names_itself(pieces: dict[str, bytes], sentence: str) -> None:
    with pytest.raises(AuthorityError) as raised:
        RootAuthority.of(pieces, NOW)

    assert str(raised.value).startswith(sentence)
    assert "PRIVATE" not in str(raised.value)


def csr_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def forged() -> bytes:
    """Of another key than that which signed it."""
    own, other = (x509.load_pem_x509_csr(csr_of(Node("x").key)) for _ in range(2))
    form = Encoding.DER
    der = own.public_bytes(form)
    return (
        ssl.DER_cert_to_PEM_cert(der.replace(own.signature, other.signature))
        .replace("CERTIFICATE", "CERTIFICATE REQUEST")
        .encode()
    )


@pytest.mark.parametrize(
    ("csr", "sentence"),
    [
        (b"", "the CSR cannot be read"),
        (b"garbage", "the CSR cannot be read"),
        (b"x" * 70_000, "the CSR has more than 65536 bytes"),
        (
            csr_of(rsa.generate_private_key(65537, 1024)),
            "the CSR has an RSA key of 1024 bits; it must have 2048 to 8192",
        ),
        (csr_of(ed25519.Ed25519PrivateKey.generate()), "the CSR's key is neither RSA nor ECDSA"),
        (csr_of(ec.generate_private_key(ec.SECP256K1())), "the CSR's key is neither RSA nor ECDSA"),
    ],
)
def test_a_bad_csr_is_refused_with_a_reason(csr: bytes, sentence: str) -> None:
    authority = RootAuthority.of(GOOD, NOW)

    with pytest.raises(InvalidRequest) as raised:
        authority.sign(REVIEWS, csr, HOUR, NOW)

    assert str(raised.value).startswith(sentence)


def test_a_csr_that_another_key_signed_is_refused() -> None:
    authority = RootAuthority.of(GOOD, NOW)
    for _ in range(20):  # signatures have different lengths, which spoils the form of some
        try:
            authority.sign(REVIEWS, forged(), HOUR, NOW)
        except InvalidRequest as error:
            if str(error) == "the CSR is not signed by its own key":
                return
    pytest.fail("the forged request was signed, or never read")


def test_an_rsa_authority_signs_for_rsa_keys() -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rsa")])
    root = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, NOW - DAY, NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    authority = RootAuthority.of({"ca-cert.pem": root, "ca-key.pem": key_pem(key), "root-cert.pem": root}, NOW)

    signed = authority.sign(REVIEWS, csr_of(rsa.generate_private_key(65537, 2048)), HOUR, NOW)

    x509.load_pem_x509_certificate(signed.leaf).verify_directly_issued_by(authority.certificate)
