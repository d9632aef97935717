"""The client of Istio's certificate authority, over TLS against a real gRPC server."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from l4.identity.authority import AuthorityError, DevelopmentAuthority, SignedChain, certificate_request
from l4.identity.certificate import Certificate, Pem
from l4.identity.istio_ca import METHOD, IstioCa, signed_by
from l4.identity.options import AuthorityOptions
from l4.identity.signing_settings import SigningSettings
from policies.attributes import Identity
from tests.kit.aio import run
from tests.kit.certificate_service import Request, Response
from tests.kit.certificates import MeshPki
from tests.kit.mesh import address

REVIEWS = Identity("cluster.local", "bookinfo", "reviews")


@dataclass
class Asked:
    metadata: dict[str, str]
    csr: str
    validity_duration: int
    identity: str


@dataclass
class Istiod:
    """Answers with a leaf, the same leaf's intermediate if there is one, and roots; or as `outcome` says."""

    folder: Path
    ip: str = field(default_factory=address)
    outcome: grpc.StatusCode | list[str] | None = None
    pause: float = 0.0
    intermediates: tuple[str, ...] = ()
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pki = MeshPki(self.folder / "server")
        self.authority = DevelopmentAuthority(self.folder / "ca")
        self.token_path = self.folder / "token"
        self.token_path.write_text("secret-1\n")

    @property
    def address(self) -> str:
        return f"{self.ip}:15012"

    def client(self, **more: Any) -> IstioCa:
        paths = {"root_path": self.pki.bundle_path, "token_path": self.token_path}
        return IstioCa(self.address, cluster_id="Kubernetes", **paths, **more)

    async def answer(self, request: Any, context: Any) -> Any:
        metadata = {
            name: value for name, value in context.invocation_metadata() if name in ("authorization", "clusterid")
        }
        wanted = dict(request.metadata).get("ImpersonatedIdentity", "")
        self.asked.append(Asked(metadata, request.csr, request.validity_duration, wanted))
        await asyncio.sleep(self.pause)
        if isinstance(self.outcome, grpc.StatusCode):
            await context.abort(self.outcome, "request authenticate failure")
        if isinstance(self.outcome, list):
            return Response(cert_chain=self.outcome)
        signed = await self.authority.sign(REVIEWS, request.csr.encode())
        return Response(cert_chain=[signed.chain_pem.decode(), *self.intermediates, signed.trust_bundle_pem.decode()])

    @asynccontextmanager
    async def serving(self, pki: MeshPki | None = None, name: str = "") -> AsyncIterator[None]:
        pair = (pki or self.pki).leaf(ips=[name or self.ip])
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(self.answer, Request.FromString, Response.SerializeToString)
        service, _, name = METHOD.removeprefix("/").partition("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        server.add_secure_port(self.address, grpc.ssl_server_credentials([(pair.key_pem, pair.chain_pem)]))
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)


@pytest.fixture
def istiod(tmp_path: Path) -> Istiod:
    return Istiod(tmp_path)


async def ask(client: IstioCa) -> SignedChain:
    _, csr = certificate_request(REVIEWS)
    return await client.sign(REVIEWS, csr)


async def failure(client: IstioCa) -> str:
    with pytest.raises(AuthorityError) as raised:
        await ask(client)
    return str(raised.value)


async def signs_again(client: IstioCa) -> None:
    """The channel waits before it connects again."""
    async with asyncio.timeout(20):
        while True:
            try:
                await ask(client)
            except AuthorityError:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.mark.parametrize(("impersonates", "wanted"), [(False, ""), (True, str(REVIEWS))])
def test_the_call_is_istios_and_the_answer_makes_a_certificate(istiod: Istiod, impersonates: bool, wanted: str) -> None:
    async def scenario() -> None:
        async with istiod.serving():
            client = istiod.client(impersonates=impersonates)
            key, csr = certificate_request(REVIEWS)
            signed = await client.sign(REVIEWS, csr)
            await client.close()

            bundle = Pem("bundle", signed.trust_bundle_pem)
            certificate = Certificate.of(Pem("chain", signed.chain_pem), Pem("key", key.pem), bundle)
            assert certificate.identity == REVIEWS
            assert signed.trust_bundle_pem == istiod.authority.bundle_path.read_bytes()
            expected = {"authorization": "Bearer secret-1", "clusterid": "Kubernetes"}
            assert istiod.asked == [Asked(expected, csr.decode(), 86400, wanted)]

    run(scenario())


def test_intermediates_belong_to_the_chain_and_the_last_element_is_the_roots(istiod: Istiod) -> None:
    istiod.outcome = ["leaf", "middle\n", " upper", "root-1\nroot-2"]

    async def scenario() -> None:
        async with istiod.serving():
            client = istiod.client()
            assert await ask(client) == SignedChain(b"leaf\nmiddle\nupper\n", b"root-1\nroot-2\n")
            await client.close()

    run(scenario())


@pytest.mark.parametrize("chain", [[], ["leaf"]])
def test_an_answer_without_roots_is_none(istiod: Istiod, chain: list[str]) -> None:
    istiod.outcome = chain

    async def scenario() -> None:
        async with istiod.serving():
            client = istiod.client()
            assert await failure(client) == (
                f"the certificate authority {istiod.address} sent no roots: an answer has the chain and then the "
                f"roots, and this one has {len(chain)} elements"
            )
            await client.close()

    run(scenario())


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            grpc.StatusCode.UNAUTHENTICATED,
            "does not sign for the caller; the token {token} needs the audience istio-ca",
        ),
        (grpc.StatusCode.PERMISSION_DENIED, "does not sign for the caller; the token {token} needs the audience"),
        (grpc.StatusCode.INVALID_ARGUMENT, "refused the request: request authenticate failure (INVALID_ARGUMENT)"),
        (grpc.StatusCode.UNAVAILABLE, "is not available; its certificate must lead to a root in {root}: request"),
    ],
)
def test_a_refusal_names_the_authority_its_reason_and_what_to_look_at(
    istiod: Istiod, code: grpc.StatusCode, sentence: str
) -> None:
    istiod.outcome = code

    async def scenario() -> None:
        async with istiod.serving():
            client = istiod.client()
            said = await failure(client)
            await client.close()

        expected = sentence.format(token=istiod.token_path, root=istiod.pki.bundle_path)
        assert said.startswith(f"the certificate authority {istiod.address} {expected}")
        assert said.endswith(f"request authenticate failure ({code.name})")
        assert "secret" not in said

    run(scenario())


def test_an_authority_that_does_not_answer_ends_with_the_deadline(istiod: Istiod) -> None:
    istiod.pause = 60.0

    async def scenario() -> None:
        async with istiod.serving():
            client = istiod.client(request_seconds=0.5)
            expected = f"the certificate authority {istiod.address} did not answer within 0.5 s"
            assert await failure(client) == expected
            await client.close()

    run(scenario())


def test_an_authority_that_is_down_is_told_at_once_and_asked_again_when_it_is_back(istiod: Istiod) -> None:
    async def scenario() -> None:
        client = istiod.client()
        said = await failure(client)
        assert f"the certificate authority {istiod.address} is not available" in said
        async with istiod.serving():
            await signs_again(client)
        assert "is not available" in await failure(client)
        async with istiod.serving():
            await signs_again(client)
        await client.close()

    run(scenario())


def test_an_authority_of_other_roots_gets_no_token(istiod: Istiod, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with istiod.serving(MeshPki(tmp_path / "stranger")):
            client = istiod.client()
            assert str(istiod.pki.bundle_path) in await failure(client)
            assert istiod.asked == []
            await client.close()

    run(scenario())


def test_an_authority_of_another_name_gets_no_token(istiod: Istiod) -> None:
    async def scenario() -> None:
        async with istiod.serving(name=address()):
            client = istiod.client()
            assert "is not available" in await failure(client)
            assert istiod.asked == []
            await client.close()

    run(scenario())


def test_the_token_is_read_for_each_request(istiod: Istiod) -> None:
    async def scenario() -> None:
        async with istiod.serving():
            client = istiod.client()
            await ask(client)
            istiod.token_path.write_text("secret-2")
            await ask(client)
            await client.close()

            assert [it.metadata["authorization"] for it in istiod.asked] == ["Bearer secret-1", "Bearer secret-2"]

    run(scenario())


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, "the token {path} cannot be read: No such file or directory"),
        (b"", "the token {path} is empty"),
        (b" \n", "the token {path} is empty"),
        (b"a\nb", "{path} does not contain a service account token, but other bytes"),
        (b"a b", "{path} does not contain a service account token, but other bytes"),
        (b"\xff\x00", "{path} does not contain a service account token, but other bytes"),
        ("é".encode(), "{path} does not contain a service account token, but other bytes"),
    ],
)
def test_a_bad_token_is_told_and_not_sent(istiod: Istiod, token: bytes | None, sentence: str) -> None:
    async def scenario() -> None:
        async with istiod.serving():
            istiod.token_path.unlink()
            if token is not None:
                istiod.token_path.write_bytes(token)
            client = istiod.client()
            assert await failure(client) == sentence.format(path=istiod.token_path)
            assert istiod.asked == []
            await client.close()

    run(scenario())


def test_new_roots_count_for_the_next_request_and_cut_no_request_under_way(istiod: Istiod, tmp_path: Path) -> None:
    renewed = MeshPki(tmp_path / "renewed")

    async def scenario() -> None:
        client = istiod.client()
        async with istiod.serving():
            istiod.pause = 1.0
            under_way = asyncio.create_task(ask(client))
            while not istiod.asked:  # noqa: ASYNC110 - the server has no event
                await asyncio.sleep(0.01)
            istiod.pki.bundle_path.write_bytes(renewed.root_pem)
            assert "is not available" in await failure(client)
            assert (await under_way).chain_pem
        istiod.pause = 0.0
        async with istiod.serving(renewed):
            await signs_again(client)
        await client.close()

    run(scenario())


def test_roots_that_go_bad_do_not_replace_good_ones(istiod: Istiod, caplog: pytest.LogCaptureFixture) -> None:
    path = istiod.pki.bundle_path

    async def scenario() -> None:
        async with istiod.serving():
            client = istiod.client()
            await ask(client)
            path.write_bytes(b"-----BEGIN CERTIFICATE-----\nhalf of i")
            for _ in range(3):
                await ask(client)
            path.unlink()
            await ask(client)
            await client.close()

    with caplog.at_level(logging.WARNING):
        run(scenario())
    begin = f"the roots {path} of the certificate authority cannot be used"
    assert [it.getMessage() for it in caplog.records if it.name == "l4.identity.istio_ca"] == [
        f"{begin}: it contains no valid PEM certificates; the previous roots stay in use",
        f"{begin}: No such file or directory; the previous roots stay in use",
    ]


@pytest.mark.parametrize(
    ("roots", "reason"), [(None, "No such file or directory"), (b"garbage", "it contains no valid PEM certificates")]
)
def test_without_good_roots_nobody_is_asked(istiod: Istiod, roots: bytes | None, reason: str) -> None:
    path = istiod.pki.bundle_path

    async def scenario() -> None:
        async with istiod.serving():
            path.unlink()
            if roots is not None:
                path.write_bytes(roots)
            client = istiod.client()
            assert await failure(client) == f"the roots {path} of the certificate authority cannot be used: {reason}"
            assert istiod.asked == []
            path.write_bytes(istiod.pki.root_pem)
            await ask(client)
            await client.close()

    run(scenario())


def test_requests_that_begin_together_share_one_channel(istiod: Istiod) -> None:
    async def scenario() -> None:
        async with istiod.serving():
            client = istiod.client()
            await asyncio.gather(*(ask(client) for _ in range(8)))
            await client.close()

            assert len(istiod.asked) == 8

    run(scenario())


@pytest.mark.parametrize(("option", "cluster_id"), [("", "of-the-setting"), ("of-the-flag", "of-the-flag")])
def test_a_source_of_its_certificates_is_named_by_options(istiod: Istiod, option: str, cluster_id: str) -> None:
    async def scenario() -> None:
        async with istiod.serving():
            options = AuthorityOptions(istiod.address, istiod.pki.bundle_path, istiod.token_path, option)
            source = signed_by(options, "of-the-setting", None, SigningSettings(3600))
            source.want(REVIEWS)
            got = asyncio.Event()
            source.on_change(lambda renewed: got.set())
            watching = asyncio.create_task(source.watch())
            await asyncio.wait_for(got.wait(), 10)
            watching.cancel()

            assert source.get(REVIEWS).identity == REVIEWS
            assert [(it.metadata["clusterid"], it.validity_duration) for it in istiod.asked] == [(cluster_id, 3600)]

    run(scenario())
