"""The authority as its callers meet it: our own client, over TLS, with an emulated API server behind it."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from l4._proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from l4.identity.authority import AuthorityError, certificate_request
from l4.identity.certificate import Certificate, Pem
from l4.identity.istio_ca import METHOD, IstioCa
from policies.attributes import Identity
from tests.kit.aio import run
from tests.waypoint.controller.accounts import AccountsServer, accounts_server
from tests.waypoint.controller.pieces import Node, cacerts
from waypoint.controller.callers import Callers
from waypoint.controller.root import MAX_LIFE, RootAuthority, utc_now
from waypoint.controller.signing_service import SigningService

REVIEWS = Identity("cluster.local", "bookinfo", "reviews")
RATINGS = Identity("cluster.local", "bookinfo", "ratings")
ZTUNNEL = ("pywaypoint-system", "ztunnel", "ztunnel-a", "uid-a")
NODE_ACCOUNTS = {"pywaypoint-system/ztunnel"}


@dataclass
class World:
    folder: Path
    accounts: AccountsServer
    service: SigningService
    ahead: list[timedelta] = field(default_factory=lambda: [timedelta()])
    clients: list[IstioCa] = field(default_factory=list)

    def client(self, token: str, *, impersonates: bool = False) -> IstioCa:
        roots, path = self.folder / "roots.pem", self.folder / f"token-{len(self.clients)}"
        roots.write_bytes(self.service.authority.roots)
        path.write_text(token)
        address = f"localhost:{self.service.port}"
        client = IstioCa(address, root_path=roots, token_path=path, cluster_id="Kubernetes", impersonates=impersonates)
        self.clients.append(client)
        return client


def authority(name: str = "cluster.local") -> RootAuthority:
    return RootAuthority.of(RootAuthority.make(name, utc_now()), utc_now())


@asynccontextmanager
async def world(folder: Path, root: RootAuthority | None = None, life: timedelta = MAX_LIFE) -> AsyncIterator[World]:
    accounts = AccountsServer()
    accounts.pod("bookinfo", "reviews-1", "reviews", "node-a")
    accounts.pod("bookinfo", "ratings-1", "ratings", "node-b")
    accounts.pod("pywaypoint-system", "ztunnel-a", "ztunnel", "node-a", uid="uid-a")
    ahead = [timedelta()]

    def clock() -> datetime:
        return utc_now() + ahead[0]

    async with accounts_server(accounts) as api:
        callers = Callers(api, "cluster.local", NODE_ACCOUNTS)
        service = SigningService(root or authority(), callers, ["localhost"], life, clock)
        await service.start("127.0.0.1:0")
        it = World(folder, accounts, service, ahead)
        try:
            yield it
        finally:
            for client in it.clients:
                await client.close()
            await service.stop(0)


async def certificate(client: IstioCa, identity: Identity) -> Certificate:
    key, csr = certificate_request(identity)
    signed = await client.sign(identity, csr)
    return Certificate.of(Pem("chain", signed.chain_pem), Pem("key", key.pem), Pem("roots", signed.trust_bundle_pem))


async def failure(client: IstioCa, identity: Identity) -> str:
    with pytest.raises(AuthorityError) as raised:
        await certificate(client, identity)
    return str(raised.value)


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "waypoint.controller.audit")
    return caplog


def lines(audit: pytest.LogCaptureFixture) -> list[str]:
    return [it.getMessage() for it in audit.records if it.name == "waypoint.controller.audit"]


def test_a_workload_gets_its_certificate_and_the_audit_log_a_line(
    tmp_path: Path, audit: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            signed = await certificate(it.client(it.accounts.account("bookinfo", "reviews")), REVIEWS)

            assert signed.identity == REVIEWS
            assert signed.trust_bundle_pem == it.service.authority.roots
            (line,) = lines(audit)
            assert re.fullmatch(
                rf"signed {REVIEWS} for bookinfo/reviews at ipv4:127\.0\.0\.1:\d+, serial number {signed.serial:x}, "
                r"until [-0-9]+ [0-9:.]+\+00:00",
                line.replace("%3A", ":"),
            )

    run(scenario())


def test_a_ztunnel_gets_those_of_its_node_and_learns_no_reason_for_a_refusal(
    tmp_path: Path, audit: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            client = it.client(it.accounts.account(*ZTUNNEL), impersonates=True)
            signed = await certificate(client, REVIEWS)
            refused = await failure(client, RATINGS)

            assert signed.identity == REVIEWS
            assert refused.endswith("the caller may not have this certificate (UNAUTHENTICATED)")
            assert "node-a" not in refused
            assert lines(audit)[1].startswith("refused pywaypoint-system/ztunnel at ipv4:127.0.0.1:")
            assert lines(audit)[1].endswith(
                f": it asks for {RATINGS}, but no pod of that account runs on its node node-a"
            )

    run(scenario())


def test_an_unknown_token_is_refused_and_is_in_no_log(tmp_path: Path, audit: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            refused = await failure(it.client("forged-secret"), REVIEWS)

        assert refused.endswith("the caller may not have this certificate (UNAUTHENTICATED)")
        (line,) = lines(audit)
        assert line.startswith("refused an unknown caller at ipv4:127.0.0.1:")
        assert "forged-secret" not in audit.text

    run(scenario())


async def code_of(it: World, request: IstioCertificateRequest, **metadata: str) -> tuple[grpc.StatusCode, str]:
    credentials = grpc.ssl_channel_credentials(it.service.authority.roots)
    async with grpc.aio.secure_channel(f"localhost:{it.service.port}", credentials) as channel:
        call = channel.unary_unary(
            METHOD, IstioCertificateRequest.SerializeToString, IstioCertificateResponse.FromString
        )
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(request, metadata=tuple(metadata.items()), timeout=10)
    return raised.value.code(), str(raised.value.details())


@pytest.mark.parametrize("given", [{}, {"authorization": "Basic abc"}, {"authorization": "Bearer "}])
def test_without_a_token_nobody_is_asked(tmp_path: Path, given: dict[str, str]) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            code, _ = await code_of(it, IstioCertificateRequest(csr="x"), **given)

            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert it.accounts.asked == []

    run(scenario())


def test_a_bad_csr_is_told_to_its_caller(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            token = it.accounts.account("bookinfo", "reviews")
            code, said = await code_of(it, IstioCertificateRequest(csr="garbage"), authorization=f"Bearer {token}")

            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert said.startswith("the CSR cannot be read")

    run(scenario())


def test_a_wanted_identity_that_is_no_text_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            request = IstioCertificateRequest(csr="x")
            request.metadata.update({"ImpersonatedIdentity": 7})
            code, _ = await code_of(it, request, authorization=f"Bearer {it.accounts.account(*ZTUNNEL)}")

            assert code is grpc.StatusCode.UNAUTHENTICATED

    run(scenario())


@pytest.mark.parametrize("life", [3600, 86400])
@pytest.mark.parametrize("asked", [600, 0, -5, 2**62])
def test_the_asked_life_is_bounded(tmp_path: Path, asked: int, life: int) -> None:
    async def scenario() -> None:
        async with world(tmp_path, life=timedelta(seconds=life)) as it:
            token = it.accounts.account("bookinfo", "reviews")
            request = IstioCertificateRequest(csr=certificate_request(REVIEWS)[1].decode(), validity_duration=asked)
            credentials = grpc.ssl_channel_credentials(it.service.authority.roots)
            async with grpc.aio.secure_channel(f"localhost:{it.service.port}", credentials) as channel:
                call = channel.unary_unary(
                    METHOD, IstioCertificateRequest.SerializeToString, IstioCertificateResponse.FromString
                )
                answer = await call(request, metadata=(("authorization", f"Bearer {token}"),), timeout=10)
            leaf = x509.load_pem_x509_certificate(answer.cert_chain[0].encode())

            seconds = min(asked, life) if asked > 0 else life
            assert abs((leaf.not_valid_after_utc - utc_now()).total_seconds() - seconds) < 30

    run(scenario())


def test_while_the_api_server_is_away_callers_are_told_to_try_again(
    tmp_path: Path, audit: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            client = it.client(it.accounts.account("bookinfo", "reviews"))
            it.accounts.refusal = (503, "ServiceUnavailable")
            said = await failure(client, REVIEWS)
            it.accounts.refusal = None
            await certificate(client, REVIEWS)

            assert said.endswith("the authority cannot sign now; try again (UNAVAILABLE)")
            assert "it says ServiceUnavailable" in lines(audit)[0]

    run(scenario())


def test_a_failure_of_our_own_says_nothing_to_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: Any) -> None:
        raise RuntimeError("secret detail")

    async def scenario() -> None:
        async with world(tmp_path) as it:
            monkeypatch.setattr(Callers, "granted", failing)
            said = await failure(it.client(it.accounts.account("bookinfo", "reviews")), REVIEWS)

            assert said.endswith("the authority failed (INTERNAL)")

    run(scenario())


def test_the_authority_is_replaced_while_calls_go_on(tmp_path: Path) -> None:
    """Both roots are in both bundles, as a rotation has to have it."""
    old, new = Node("old"), Node("new")
    first, second = (RootAuthority.of(cacerts(it, roots=(old, new)), utc_now()) for it in (old, new))

    async def scenario() -> None:
        async with world(tmp_path, first) as it:
            client = it.client(it.accounts.account("bookinfo", "reviews"))
            issuers = []

            async def ask() -> None:
                while len(issuers) < 60:
                    signed = await certificate(client, REVIEWS)
                    leaf = x509.load_pem_x509_certificates(signed.chain_pem)[0]
                    issuers.append(leaf.issuer)
                    if len(issuers) == 20:
                        it.service.authority = second

            await asyncio.gather(*(ask() for _ in range(4)))
            fresh = it.client(it.accounts.account("bookinfo", "reviews"))
            await certificate(fresh, REVIEWS)

            assert issuers[0] == old.certificate.subject
            assert issuers[-1] == new.certificate.subject

    run(scenario())


def test_new_connections_see_the_replaced_authoritys_certificate(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            await certificate(it.client(it.accounts.account("bookinfo", "reviews")), REVIEWS)
            it.service.authority = authority("another")
            await certificate(it.client(it.accounts.account("bookinfo", "reviews")), REVIEWS)

    run(scenario())


async def served_serial(it: World) -> int:
    """The serial number of the certificate that a new connection sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the test's clock is not OpenSSL's
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", it.service.port, ssl=context, server_hostname="localhost")
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der).serial_number


def test_the_servers_own_certificate_is_renewed_at_half_of_its_life(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            first = await served_serial(it)
            assert await served_serial(it) == first
            it.ahead[0] = timedelta(hours=11)
            assert await served_serial(it) == first
            it.ahead[0] = timedelta(hours=12, minutes=1)
            assert await served_serial(it) != first

    run(scenario())


def test_an_intermediate_is_served_and_handed_out(tmp_path: Path) -> None:
    root = Node("root")
    signing = Node("signing", root)

    async def scenario() -> None:
        async with world(tmp_path, RootAuthority.of(cacerts(signing, roots=(root,)), utc_now())) as it:
            signed = await certificate(it.client(it.accounts.account("bookinfo", "reviews")), REVIEWS)

            assert signed.chain_pem.endswith(signing.pem)
            assert signed.trust_bundle_pem == root.pem

    run(scenario())


def test_an_authority_that_expired_signs_nothing(tmp_path: Path, audit: pytest.LogCaptureFixture) -> None:
    short = Node("short", ends=utc_now() + timedelta(hours=1))

    async def scenario() -> None:
        async with world(tmp_path, RootAuthority.of(cacerts(short, roots=(short,)), utc_now())) as it:
            client = it.client(it.accounts.account("bookinfo", "reviews"))
            await certificate(client, REVIEWS)
            it.ahead[0] = timedelta(hours=2)

            assert (await failure(client, REVIEWS)).endswith("the authority cannot sign now; try again (UNAVAILABLE)")
            assert "the authority expired at" in lines(audit)[-1]

    run(scenario())


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            second = SigningService(authority(), it.service._callers, ["localhost"])
            with pytest.raises(RuntimeError):
                await second.start(f"127.0.0.1:{it.service.port}")

    run(scenario())
