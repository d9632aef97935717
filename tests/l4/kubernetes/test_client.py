"""Requests over real sockets, to an emulated API server that fails as real ones do."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from l4.kubernetes import client as client_module
from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from l4.kubernetes.credentials import ClientCertificate, Credentials, Provider, Secrets, TokenFile, Trust
from tests.kit.aio import run
from tests.kit.black_hole import black_hole
from tests.kit.certificates import MeshPki
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.kit.mesh import address

CONFIGMAPS = ResourceType("", "v1", "configmaps", "ConfigMap")
ROUTES = ResourceType("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
CLASSES = ResourceType("gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass", is_namespaced=False)
PATH = CONFIGMAPS.path("ns")
TOO_DEEP = b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"\n"


class Given:
    """Credentials that a test replaces."""

    keep_seconds = float("inf")

    def __init__(self, *secrets: Secrets) -> None:
        self.left = list(secrets or [Secrets()])

    async def secrets(self) -> Secrets:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


@asynccontextmanager
async def asking(
    server: KubernetesServer, provider: Provider | None = None, trust: Trust | None = None
) -> AsyncIterator[ApiClient]:
    client = ApiClient(Credentials(server.address, trust or Trust(), provider or Given()), silent_seconds=20.0)
    try:
        yield client
    finally:
        await client.close()


def scenario(test: Callable[[KubernetesServer, ApiClient], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        async with kubernetes_server() as server, asking(server) as client:
            await test(server, client)

    run(all_of_it())


async def refusal(asked: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as error:
        await asked
    return error.value


def test_paths_are_those_of_the_api() -> None:
    assert CONFIGMAPS.path() == "/api/v1/configmaps"
    assert CONFIGMAPS.path("ns", "a", "status") == "/api/v1/namespaces/ns/configmaps/a/status"
    assert ROUTES.path("ns") == "/apis/gateway.networking.k8s.io/v1/namespaces/ns/httproutes"
    assert CLASSES.path("ns", "a") == "/apis/gateway.networking.k8s.io/v1/gatewayclasses/a"
    assert (str(ROUTES), ROUTES.api_version) == ("httproutes.gateway.networking.k8s.io", "gateway.networking.k8s.io/v1")


def test_objects_are_created_read_changed_and_deleted() -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        made: Any = msgspec.json.decode(await client.create(PATH, {"metadata": {"name": "a"}, "data": {"x": "1"}}))
        await client.merge(f"{PATH}/a", {"data": {"x": None, "y": "2"}})

        now: Any = msgspec.json.decode(await client.get(f"{PATH}/a"))
        assert now["data"] == {"y": "2"}
        conflict = await refusal(client.replace(f"{PATH}/a", made))
        assert (conflict.code, conflict.reason) == (409, "Conflict")
        await client.replace(f"{PATH}/a", now)
        await client.delete(f"{PATH}/a")
        missing = await refusal(client.get(f"{PATH}/a"))
        assert (missing.code, missing.reason) == (404, "NotFound")
        assert str(missing) == f"{PATH}/a: the emulator says NotFound (404 NotFound)"

    scenario(test)


def test_a_list_comes_in_pages_and_misses_nothing() -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        for number in range(7):
            server.put(f"{PATH}/it-{number}")

        pages = [page async for page in client.pages(PATH, {}, page_size=3)]

        assert [len(page.items) for page in pages] == [3, 3, 1]

    scenario(test)


def test_a_server_that_wants_a_pause_is_heard() -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        server.refusals = [(429, "TooManyRequests", {"Retry-After": "7"}), (503, "", {"Retry-After": "9999"})]

        assert (await refusal(client.get(PATH))).retry_seconds == 7
        assert (await refusal(client.get(PATH))).retry_seconds == client_module.MAX_RETRY_SECONDS

    scenario(test)


def test_a_server_that_is_not_there_is_an_api_error_with_its_address() -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        away = ApiClient(Credentials("http://127.0.0.1:1", Trust(), Given()))
        error = await refusal(away.get("/"))
        await away.close()

        assert (error.code, error.reason) == (0, "Unreachable")
        assert str(error).startswith("the API server http://127.0.0.1:1 gave no usable answer: [Errno 111] ")

    scenario(test)


def test_a_request_without_an_answer_has_a_deadline() -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        server.hangs = asyncio.Event()
        hasty = ApiClient(Credentials(server.address, Trust(), Given()), request_seconds=0.2)

        assert (await refusal(hasty.get(PATH))).reason == "Unreachable"
        await hasty.close()

    scenario(test)


def test_watches_that_get_no_connection_all_fail_with_the_same_sentence() -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        ip = address()
        with black_hole(ip, 6443):
            away = ApiClient(Credentials(f"http://{ip}:6443", Trust(), Given()), request_seconds=0.2)
            found = set()
            for seconds in ("300", "301"):
                with pytest.raises(ApiError) as caught:
                    async with away.watch(PATH, {"timeoutSeconds": seconds}):
                        pass
                found.add(str(caught.value))
            await away.close()

        assert found == {f"the API server http://{ip}:6443 gave no usable answer: no connection in time"}

    scenario(test)


@pytest.mark.parametrize("body", [b"<html>\n", b"{}\n", b'{"metadata": 5}\n', b"\xff\n", TOO_DEEP])
def test_an_answer_that_is_no_list_is_an_api_error(body: bytes) -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        server.body = body

        assert (await refusal(anext(client.pages(PATH, {})))).reason == "Undecodable"
        async with client.watch(PATH, {}) as events:
            assert (await refusal(anext(events))).reason == "Undecodable"

    scenario(test)


def test_neither_an_answer_nor_an_event_grows_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 10_000)
        monkeypatch.setattr(client_module, "MAX_OBJECT_BYTES", 10_000)
        server.put(f"{PATH}/a", {"data": {"x": "y" * 1_000_000}})

        assert (await refusal(client.get(f"{PATH}/a"))).reason == "TooLarge"
        async with client.watch(PATH, {"resourceVersion": "0"}) as events:
            assert (await refusal(anext(events))).reason == "TooLarge"

    scenario(test)


def test_an_error_event_is_an_api_error_though_the_status_was_200() -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        server.forget()

        async with client.watch(PATH, {"resourceVersion": "1"}) as events:
            error = await refusal(anext(events))

        assert (error.code, error.is_gone) == (410, True)

    scenario(test)


def test_a_watch_that_is_silent_is_given_up() -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        hasty = ApiClient(Credentials(server.address, Trust(), Given()), silent_seconds=0.3)

        async with hasty.watch(PATH, {"resourceVersion": "100"}) as events:
            assert (await refusal(anext(events))).reason == "Unreachable"
        await hasty.close()

    scenario(test)


def test_an_error_of_the_caller_stays_what_it_is() -> None:
    async def test(server: KubernetesServer, client: ApiClient) -> None:
        with pytest.raises(OSError, match="mine"):
            async with client.watch(PATH, {"resourceVersion": "100"}):
                raise OSError("mine")

    scenario(test)


def test_a_refused_token_is_read_again_and_the_request_succeeds(tmp_path: Path) -> None:
    async def all_of_it() -> None:
        path = tmp_path / "token"
        path.write_text("old")
        async with kubernetes_server() as server, asking(server, TokenFile(path)) as client:
            server.tokens = {"old"}
            await client.get(PATH)
            path.write_text("new")
            server.tokens = {"new"}

            await client.get(PATH)

            assert server.seen_tokens == ["old", "old", "new"]
            server.tokens = {"other"}
            assert (await refusal(client.get(PATH))).code == 401
            assert server.seen_tokens[3:] == ["new"]

    run(all_of_it())


def tls(pki: MeshPki, *, name: str = "api") -> ssl.SSLContext:
    pair = pki.leaf(dns=[name])
    chain, key = pki.folder / "server.pem", pki.folder / "server.key"
    chain.write_bytes(pair.chain_pem)
    key.write_bytes(pair.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.bundle_path)
    context.load_cert_chain(chain, key)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def certificate(pki: MeshPki, name: str) -> ClientCertificate:
    pair = pki.leaf(dns=[name])
    return ClientCertificate(pair.chain_pem, pair.key_pem)


def test_a_client_certificate_is_shown_and_a_renewed_one_after_a_refusal(tmp_path: Path) -> None:
    async def all_of_it() -> None:
        pki = MeshPki(tmp_path)
        provider = Given(Secrets("one", certificate(pki, "first")), Secrets("two", certificate(pki, "second")))
        trust = Trust(pki.bundle_path, "api")
        async with kubernetes_server(tls(pki)) as server, asking(server, provider, trust) as client:
            server.tokens = {"two"}
            await client.get(PATH)

            shown = [dict(it or {}).get("subjectAltName") for it in server.peers]

        assert shown == [(("DNS", "first"),), (("DNS", "second"),)]

    run(all_of_it())


@pytest.mark.parametrize("name", ["other", ""])
def test_a_server_with_another_name_is_not_told_the_token(tmp_path: Path, name: str) -> None:
    async def all_of_it() -> None:
        pki = MeshPki(tmp_path)
        trust = Trust(pki.root_pem, name)
        async with kubernetes_server(tls(pki)) as server, asking(server, Given(Secrets("t")), trust) as client:
            error = await refusal(client.get(PATH))

            assert error.code == 0
            assert "certificate" in str(error).lower()
            assert not server.requests

    run(all_of_it())


def test_replaced_authorities_are_read_again(tmp_path: Path) -> None:
    async def all_of_it() -> None:
        old, new = MeshPki(tmp_path / "old"), MeshPki(tmp_path / "new")
        path = tmp_path / "ca.crt"
        path.write_bytes(old.root_pem)
        async with kubernetes_server(tls(new)) as server, asking(server, None, Trust(path, "api")) as client:
            assert (await refusal(client.get(PATH))).code == 0
            path.write_bytes(new.root_pem)

            await client.get(PATH)

    run(all_of_it())
