import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from l4.identity import certificate as rules
from l4.identity.certificate import InvalidCertificate, InvalidPeer, PrivateKey
from l4.identity.files import load
from l4.identity.source import WorkloadCertificate
from l4.identity.tls import NoCommonProtocol, accept, authenticate_client, authenticate_server
from policies.attributes import Identity
from tests.kit.aio import run
from tests.kit.certificates import HOUR, MeshPki, Pair

OWN_DOMAIN = frozenset({"cluster.local"})
REVIEWS = "spiffe://cluster.local/ns/bookinfo/sa/reviews"


@dataclass
class Server(asyncio.Protocol):
    """Greets whoever proves an identity of our trust domain, and closes on everybody else."""

    outcomes: asyncio.Queue[Identity | Exception]

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, base)  # uvloop's are not subclasses
        try:
            self.outcomes.put_nowait(authenticate_client(transport.get_extra_info("ssl_object"), OWN_DOMAIN))
            transport.write(b"hello")
        except InvalidPeer as error:
            self.outcomes.put_nowait(error)
        transport.close()


@dataclass
class Client(asyncio.Protocol):
    done: asyncio.Future[Exception | None]
    received: bytearray = field(default_factory=bytearray)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(error)


@dataclass
class Meeting:
    """What each side of one handshake learned."""

    client_seen_as: Identity | Exception | None = None
    server_seen_as: Identity | None = None
    received: bytes = b""
    client_error: Exception | None = None


async def meet(server: WorkloadCertificate, client: ssl.SSLContext, expected: frozenset[Identity]) -> Meeting:
    """One handshake over real sockets: accept, then TLS on the accepted socket, and a client that reads to the end."""
    loop = asyncio.get_running_loop()
    outcomes: asyncio.Queue[Identity | Exception] = asyncio.Queue()
    meeting = Meeting()

    async def serve(listener: socket.socket) -> None:
        accepted, _ = await loop.sock_accept(listener)
        try:
            await accept(lambda: Server(outcomes), accepted, server.server_context)
        except OSError as error:
            outcomes.put_nowait(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(listener))
            protocol = Client(loop.create_future())
            try:
                transport, _ = await loop.create_connection(
                    lambda: protocol, *listener.getsockname(), ssl=client, server_hostname=""
                )
                meeting.server_seen_as = authenticate_server(transport.get_extra_info("ssl_object"), expected)
                meeting.client_error = await protocol.done
                meeting.received = bytes(protocol.received)
                transport.close()
            except (OSError, InvalidPeer) as error:
                meeting.client_error = error
            meeting.client_seen_as = await outcomes.get()
    return meeting


@pytest.fixture
def pki(tmp_path: Path) -> MeshPki:
    return MeshPki(tmp_path / "mesh")


@pytest.fixture
def server(pki: MeshPki) -> WorkloadCertificate:
    return pki.certificate(pki.identity("bookinfo", "reviews"))


@pytest.fixture
def client(pki: MeshPki) -> WorkloadCertificate:
    return pki.certificate(pki.identity("bookinfo", "productpage"))


def plain_context(pki: MeshPki, pair: Pair | None, alpn: bool = True) -> ssl.SSLContext:
    """A client's context with none of our checks on its own certificate, the way a stranger would come."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=pki.root_pem.decode())
    if pair:
        file = pki.folder / "stranger.pem"
        file.write_bytes(pair.chain_pem + pair.key_pem)
        context.load_cert_chain(file)
    if alpn:
        context.set_alpn_protocols(["h2"])
    return context


def test_both_sides_learn_who_the_other_is(server: WorkloadCertificate, client: WorkloadCertificate) -> None:
    meeting = run(meet(server, client.client_context, frozenset({server.identity})))

    assert meeting == Meeting(client.identity, server.identity, received=b"hello")


def test_the_handshake_is_tls_1_3_with_aes_gcm_on_offer_and_no_tickets(server: WorkloadCertificate) -> None:
    for context in (server.server_context, server.client_context):
        assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
        assert {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"} <= {
            suite["name"] for suite in context.get_ciphers()
        }
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert server.server_context.num_tickets == 0


def test_a_certificate_that_states_no_usages_is_accepted(pki: MeshPki, server: WorkloadCertificate) -> None:
    context = plain_context(pki, pki.leaf([REVIEWS], usages=None))

    meeting = run(meet(server, context, frozenset({server.identity})))

    assert meeting.client_seen_as == Identity.parse(REVIEWS)
    assert meeting.received == b"hello"


REFUSED_BY_OPENSSL: list[tuple[str, Callable[[MeshPki], Pair | None], str]] = [
    ("expired", lambda pki: pki.leaf([REVIEWS], starts=-2 * HOUR, ends=-HOUR), "CERTIFICATE_EXPIRED"),
    ("not yet valid", lambda pki: pki.leaf([REVIEWS], starts=HOUR, ends=2 * HOUR), "BAD_CERTIFICATE"),
    ("another CA", lambda pki: MeshPki(pki.folder / "other").leaf([REVIEWS]), "UNKNOWN_CA"),
    ("none", lambda pki: None, "CERTIFICATE_REQUIRED"),
    ("for servers only", lambda pki: pki.leaf([REVIEWS], usages=[ExtendedKeyUsageOID.SERVER_AUTH]), "UNSUPPORTED"),
]


@pytest.mark.parametrize(
    ("make", "alert"), [case[1:] for case in REFUSED_BY_OPENSSL], ids=[c[0] for c in REFUSED_BY_OPENSSL]
)
def test_a_certificate_without_a_valid_chain_is_refused_with_its_alert(
    pki: MeshPki, server: WorkloadCertificate, make: Callable[[MeshPki], Pair | None], alert: str
) -> None:
    context = plain_context(pki, make(pki))

    meeting = run(meet(server, context, frozenset({server.identity})))

    assert isinstance(meeting.client_seen_as, ssl.SSLError)
    assert isinstance(meeting.client_error, ssl.SSLError), "the client learns it from its first read"
    assert alert in str(meeting.client_error)
    assert meeting.received == b""


REFUSED_BY_US: list[tuple[str, Callable[[MeshPki], Pair], type[InvalidPeer]]] = [
    ("no SAN", lambda pki: pki.leaf(), rules.NoIdentity),
    ("DNS SAN only", lambda pki: pki.leaf(dns=["reviews.bookinfo"]), rules.NoIdentity),
    ("two URI SANs", lambda pki: pki.leaf([REVIEWS, REVIEWS + "-2"]), rules.SeveralIdentities),
    ("wrong trust domain", lambda pki: pki.leaf(["spiffe://evil.local/ns/a/sa/b"]), rules.UntrustedDomain),
    ("CA as a leaf", lambda pki: pki.leaf([REVIEWS], is_authority=True), rules.CertificateOfAnAuthority),
    ("four parts", lambda pki: pki.leaf(["spiffe://cluster.local/ns/bookinfo/sa"]), rules.MalformedIdentity),
    ("https URI", lambda pki: pki.leaf(["https://cluster.local/ns/a/sa/b"]), rules.MalformedIdentity),
]


@pytest.mark.parametrize(("make", "error"), [case[1:] for case in REFUSED_BY_US], ids=[c[0] for c in REFUSED_BY_US])
def test_a_certificate_that_proves_no_identity_of_ours_gets_no_byte(
    pki: MeshPki, server: WorkloadCertificate, make: Callable[[MeshPki], Pair], error: type[InvalidPeer]
) -> None:
    context = plain_context(pki, make(pki))

    meeting = run(meet(server, context, frozenset({server.identity})))

    assert type(meeting.client_seen_as) is error
    assert meeting.received == b""


def test_a_client_without_alpn_gets_no_byte(pki: MeshPki, server: WorkloadCertificate) -> None:
    context = plain_context(pki, pki.leaf([REVIEWS]), alpn=False)

    meeting = run(meet(server, context, frozenset({server.identity})))

    assert isinstance(meeting.client_seen_as, NoCommonProtocol)
    assert meeting.received == b""


def test_a_tls_1_2_client_is_refused(pki: MeshPki, server: WorkloadCertificate) -> None:
    context = plain_context(pki, pki.leaf([REVIEWS]))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    meeting = run(meet(server, context, frozenset({server.identity})))

    assert "PROTOCOL_VERSION" in str(meeting.client_error)
    assert isinstance(meeting.client_seen_as, ssl.SSLError)


def test_a_server_with_another_identity_is_not_talked_to(
    server: WorkloadCertificate, client: WorkloadCertificate
) -> None:
    for expected in (frozenset({client.identity}), frozenset[Identity]()):
        meeting = run(meet(server, client.client_context, expected))

        assert isinstance(meeting.client_error, rules.UnexpectedIdentity)
        assert meeting.server_seen_as is None


def test_a_server_of_another_ca_is_refused_in_the_handshake(tmp_path: Path, client: WorkloadCertificate) -> None:
    other = MeshPki(tmp_path / "other")
    impostor = other.certificate(other.identity("bookinfo", "reviews"))

    meeting = run(meet(impostor, client.client_context, frozenset({impostor.identity})))

    assert isinstance(meeting.client_error, ssl.SSLCertVerificationError)


def test_while_roots_rotate_pairs_of_both_roots_meet(tmp_path: Path) -> None:
    old, new = MeshPki(tmp_path / "old"), MeshPki(tmp_path / "new")
    for pki in (old, new):
        pki.bundle_path.write_bytes(old.root_pem + new.root_pem)
    before, after = (pki.certificate(pki.identity("bookinfo", "reviews")) for pki in (old, new))

    for server, client in ((before, after), (after, before)):
        meeting = run(meet(server, client.client_context, frozenset({server.identity})))

        assert meeting.received == b"hello"


def test_a_bundle_that_openssl_refuses_is_named(pki: MeshPki) -> None:
    chain = pki.write(pki.identity("bookinfo", "reviews"))
    loaded = load(chain, chain.with_suffix(".key"), pki.bundle_path)

    with pytest.raises(InvalidCertificate, match="OpenSSL rejects the certificate"):
        WorkloadCertificate(replace(loaded, private_key=PrivateKey(pki.leaf([REVIEWS]).key_pem)))
