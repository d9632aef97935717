from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from l4.identity import certificate
from l4.identity.certificate import (
    Certificate,
    InvalidCertificate,
    Pem,
    PrivateKey,
    peer_identity,
    verify_client,
    verify_server,
)
from l4.identity.files import load
from policies.attributes import Identity
from tests.kit.certificates import HOUR, MeshPki

REVIEWS = Identity("cluster.local", "bookinfo", "reviews")
OWN_DOMAIN = frozenset({"cluster.local"})


@pytest.fixture
def pki(tmp_path: Path) -> MeshPki:
    return MeshPki(tmp_path)


def test_a_loaded_certificate_knows_its_identity_and_its_time(pki: MeshPki) -> None:
    chain = pki.write(REVIEWS)

    loaded = load(chain, chain.with_suffix(".key"), pki.bundle_path)

    assert loaded.identity == REVIEWS
    assert loaded.not_after - loaded.not_before == 2 * HOUR
    assert loaded.trust_bundle_pem == pki.root_pem


def test_a_certificate_does_not_show_its_key(pki: MeshPki) -> None:
    chain = pki.write(REVIEWS)

    text = repr(load(chain, chain.with_suffix(".key"), pki.bundle_path))

    assert "PRIVATE KEY" not in text
    assert "reviews" in text


@pytest.mark.parametrize("secret", [Pem("a.key", b"hush"), PrivateKey(b"hush")])
def test_a_key_does_not_show_itself(secret: object) -> None:
    assert "hush" not in f"{secret} {secret!r}"


def test_a_certificate_is_made_of_bytes_wherever_they_are_from(pki: MeshPki) -> None:
    pair = pki.leaf([str(REVIEWS)])

    made = Certificate.of(Pem("a", pair.chain_pem), Pem("b", pair.key_pem), Pem("c", pki.root_pem))

    assert (made.identity, made.origin) == (REVIEWS, "a")


def test_a_chain_lasts_no_longer_than_its_intermediates(pki: MeshPki) -> None:
    leaf, brief = pki.leaf([str(REVIEWS)]), pki.leaf(is_authority=True, ends=HOUR / 2)
    parts = Pem("chain", leaf.chain_pem + brief.chain_pem), Pem("key", leaf.key_pem), Pem("bundle", pki.root_pem)

    made = Certificate.of(*parts)

    assert made.not_after - made.not_before == 1.5 * HOUR
    with pytest.raises(InvalidCertificate, match="chain: expired at"):
        Certificate.of(*parts, now=made.not_after.timestamp())


def test_a_missing_file_is_named(pki: MeshPki) -> None:
    chain = pki.write(REVIEWS)

    with pytest.raises(InvalidCertificate, match=r"absent\.key: cannot be read: No such file"):
        load(chain, pki.folder / "absent.key", pki.bundle_path)


@pytest.mark.parametrize("at_fault", ["chain", "key", "bundle"])
def test_a_file_that_is_not_pem_is_named(pki: MeshPki, at_fault: str) -> None:
    chain = pki.write(REVIEWS)
    files = {"chain": chain, "key": chain.with_suffix(".key"), "bundle": pki.bundle_path}
    files[at_fault].write_text("nothing of use")

    with pytest.raises(InvalidCertificate, match="contains no valid PEM") as caught:
        load(files["chain"], files["key"], files["bundle"])

    assert caught.value.origin == str(files[at_fault])


def test_a_key_of_another_certificate_is_refused(pki: MeshPki) -> None:
    chain = pki.write(REVIEWS)
    chain.with_suffix(".key").write_bytes(pki.leaf().key_pem)

    with pytest.raises(InvalidCertificate, match="the key does not belong to the first certificate of"):
        load(chain, chain.with_suffix(".key"), pki.bundle_path)


def test_a_certificate_out_of_its_time_is_refused_with_the_date(pki: MeshPki) -> None:
    expired = pki.write(REVIEWS, pki.leaf([str(REVIEWS)], starts=-2 * HOUR, ends=-HOUR))
    with pytest.raises(InvalidCertificate, match="expired at 20"):
        load(expired, expired.with_suffix(".key"), pki.bundle_path)

    early = pki.write(REVIEWS, pki.leaf([str(REVIEWS)], starts=HOUR, ends=2 * HOUR))
    with pytest.raises(InvalidCertificate, match="is not valid before 20"):
        load(early, early.with_suffix(".key"), pki.bundle_path)


def test_our_own_certificate_obeys_the_rules_for_peers(pki: MeshPki) -> None:
    chain = pki.write(REVIEWS, pki.leaf(dns=["reviews"]))

    with pytest.raises(InvalidCertificate, match="peers would refuse it: the peer's certificate has no URI SAN"):
        load(chain, chain.with_suffix(".key"), pki.bundle_path)


def test_a_client_is_anyone_of_an_accepted_trust_domain(pki: MeshPki) -> None:
    stranger = Identity("evil.local", "bookinfo", "reviews")

    assert verify_client(pki.leaf([str(REVIEWS)]).der, OWN_DOMAIN) == REVIEWS
    with pytest.raises(certificate.UntrustedDomain, match=r"accepted: cluster\.local"):
        verify_client(pki.leaf([str(stranger)]).der, OWN_DOMAIN)


def test_a_server_is_one_of_the_expected_and_nobody_when_none_is(pki: MeshPki) -> None:
    der = pki.leaf([str(REVIEWS)]).der

    assert verify_server(der, frozenset({REVIEWS})) == REVIEWS
    with pytest.raises(certificate.UnexpectedIdentity, match="nobody: the destination's identity is unknown"):
        verify_server(der, frozenset())


def test_stated_usages_bind_and_absent_ones_do_not(pki: MeshPki) -> None:
    for_clients = pki.leaf([str(REVIEWS)], usages=[ExtendedKeyUsageOID.CLIENT_AUTH]).der
    for_servers = pki.leaf([str(REVIEWS)], usages=[ExtendedKeyUsageOID.SERVER_AUTH]).der
    for_anything = pki.leaf([str(REVIEWS)], usages=None).der

    with pytest.raises(certificate.WrongUsage, match="clientAuth"):
        verify_client(for_servers, OWN_DOMAIN)
    with pytest.raises(certificate.WrongUsage, match="serverAuth"):
        verify_server(for_clients, frozenset({REVIEWS}))
    assert verify_client(for_anything, OWN_DOMAIN) == verify_server(for_anything, frozenset({REVIEWS})) == REVIEWS


def test_a_key_that_may_not_sign_proves_nothing(pki: MeshPki) -> None:
    with pytest.raises(certificate.WrongUsage, match="digitalSignature"):
        peer_identity(pki.leaf([str(REVIEWS)], digital_signature=False).der)


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://Cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a/sa/b/",
        "spiffe://cluster.local/ns//sa/b",
        "spiffe://cluster.local/ns/../sa/b",
        "spiffe://cluster.local/ns/a%2Fb/sa/c",
        "spiffe://cluster.local/ns/a/sa/" + "b" * 2048,
        "spiffe://cluster.local",
    ],
)
def test_a_malformed_spiffe_id_is_no_identity(pki: MeshPki, uri: str) -> None:
    with pytest.raises(certificate.MalformedIdentity):
        peer_identity(pki.leaf([uri]).der)


def test_bytes_that_are_no_certificate_are_refused(pki: MeshPki) -> None:
    whole = pki.leaf([str(REVIEWS)]).der

    for der in (b"", b"\x30", whole[:-1], whole + b"\x00"):
        with pytest.raises(certificate.UnreadableCertificate):
            peer_identity(der)
