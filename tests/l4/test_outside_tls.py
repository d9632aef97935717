"""Each Python has its own idea of what a client checks by default; ours is the same on all of them."""

import ssl
from pathlib import Path

import pytest

import l4
from l4.kubernetes.credentials import Trust
from l4.outside_tls import client_context
from tests.kit.certificates import MeshPki

CHECKS = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Both sides in memory, until the client is done."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = server.wrap_bio(to_server, to_client, server_side=True)
    connecting = client.wrap_bio(to_client, to_server, server_hostname="example.com")
    for side in (connecting, accepting, connecting):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_authority_that_leaves_key_identifiers_out_is_believed_on_every_python(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    pki = MeshPki(tmp_path)
    chain = pki.write(pki.identity("default", "server"), pki.leaf(dns=["example.com"]))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.minimum_version = server.maximum_version = version
    server.load_cert_chain(chain, chain.with_suffix(".key"))

    handshake(client_context(file=str(pki.bundle_path)), server)


def test_an_unknown_authority_is_not_believed(tmp_path: Path) -> None:
    pki, other = MeshPki(tmp_path / "pki"), MeshPki(tmp_path / "other")
    chain = pki.write(pki.identity("default", "server"), pki.leaf(dns=["example.com"]))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(chain, chain.with_suffix(".key"))

    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client_context(file=str(other.bundle_path)), server)


def test_the_client_of_an_api_server_checks_the_same() -> None:
    assert client_context().verify_flags == CHECKS
    assert Trust().context(None).verify_flags == CHECKS


def test_no_other_module_makes_a_context_of_pythons_defaults() -> None:
    root = Path(l4.__file__).parents[1]
    modules = (it for package in ("policies", "l4", "waypoint") for it in (root / package).rglob("*.py"))

    assert [str(it.relative_to(root)) for it in modules if "create_default_context" in it.read_text()] == [
        "l4/outside_tls.py"
    ]
