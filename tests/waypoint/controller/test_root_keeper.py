"""Where the authority's pieces come from, and where its roots go."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Awaitable, Callable

import pytest

from l4.identity.authority import AuthorityError
from l4.kubernetes.client import ApiError
from tests.kit.aio import run
from tests.waypoint.controller.accounts import AccountsServer, accounts_server
from tests.waypoint.controller.pieces import Node, cacerts
from waypoint.controller import root_keeper
from waypoint.controller.root import RootAuthority, utc_now
from waypoint.controller.root_keeper import LABELS, RootKeeper

SECRETS = "/api/v1/namespaces/pywaypoint-system/secrets"
OWN, OPERATORS = f"{SECRETS}/pywaypoint-ca", f"{SECRETS}/cacerts"


def secret(pieces: dict[str, bytes]) -> dict[str, object]:
    return {"data": {name: b64encode(value).decode() for name, value in pieces.items()}}


def namespace(server: AccountsServer, name: str, **more: str) -> None:
    server.objects[f"/api/v1/namespaces/{name}"] = {"metadata": {"name": name} | more}


def config_map(name: str) -> str:
    return f"/api/v1/namespaces/{name}/configmaps/istio-ca-root-cert"


@pytest.fixture
def server() -> AccountsServer:
    return AccountsServer()


def scenario(server: AccountsServer, body: Callable[[RootKeeper], Awaitable[None]]) -> None:
    async def with_keeper() -> None:
        async with accounts_server(server) as client:
            await body(RootKeeper(client, "pywaypoint-system", "cluster.local"))

    run(with_keeper())


def test_a_new_root_is_made_once_and_read_afterwards(server: AccountsServer) -> None:
    async def body(keeper: RootKeeper) -> None:
        made = await keeper.load()

        assert server.objects[OWN]["metadata"] == {
            "name": "pywaypoint-ca",
            "namespace": "pywaypoint-system",
            "labels": LABELS,
        }
        assert await keeper.load() is made
        async with accounts_server(server) as client:
            other = await RootKeeper(client, "pywaypoint-system", "cluster.local").load()
        assert other.roots == made.roots

    scenario(server, body)


def test_of_two_that_make_a_root_together_one_wins(server: AccountsServer) -> None:
    winner = RootAuthority.make("the other replica's", utc_now())
    server.created_by_another[OWN] = secret(winner)

    async def body(keeper: RootKeeper) -> None:
        assert (await keeper.load()).roots == winner["root-cert.pem"]

    scenario(server, body)


def test_the_operators_secret_comes_first(server: AccountsServer) -> None:
    root = Node("root")
    signing = Node("signing", root)
    server.objects[OPERATORS] = secret(cacerts(signing, roots=(root,)))

    async def body(keeper: RootKeeper) -> None:
        authority = await keeper.load()

        assert authority.intermediates == (signing.pem,)
        assert OWN not in server.objects

    scenario(server, body)


@pytest.mark.parametrize("name", ["cacerts", "pywaypoint-ca"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"data": {}}, "ca-cert.pem is missing"),
        (secret(cacerts(Node("root"), roots=(Node("other"),))), "ca-cert.pem does not lead to a root"),
    ],
)
def test_a_bad_secret_is_named_and_not_replaced(
    server: AccountsServer, name: str, content: dict[str, object], sentence: str
) -> None:
    server.objects[f"{SECRETS}/{name}"] = content

    async def body(keeper: RootKeeper) -> None:
        with pytest.raises(AuthorityError) as raised:
            await keeper.load()
        assert str(raised.value).startswith(f"Secret pywaypoint-system/{name}: {sentence}")
        assert server.objects[f"{SECRETS}/{name}"] is content

    scenario(server, body)


def test_a_secret_that_is_not_base64_is_no_answer(server: AccountsServer) -> None:
    server.objects[OWN] = {"data": {"ca-cert.pem": "!"}}

    async def body(keeper: RootKeeper) -> None:
        with pytest.raises(ApiError, match="cannot be decoded"):
            await keeper.load()
        assert server.objects[OWN] == {"data": {"ca-cert.pem": "!"}}

    scenario(server, body)


@pytest.mark.parametrize("has_both", [True, False])
def test_a_rotation_without_the_old_root_is_told(
    server: AccountsServer, caplog: pytest.LogCaptureFixture, has_both: bool
) -> None:
    old, new = Node("old"), Node("new")
    server.objects[OPERATORS] = secret(cacerts(old, roots=(old,)))

    async def body(keeper: RootKeeper) -> None:
        await keeper.load()
        server.objects[OPERATORS] = secret(cacerts(new, roots=(old, new) if has_both else (new,)))
        assert (await keeper.load()).certificate == new.certificate

    scenario(server, body)
    assert ("lack the root that signed until now" in caplog.text) is not has_both


@pytest.mark.parametrize("refusal", [(403, "Forbidden"), (503, "ServiceUnavailable")])
def test_no_root_is_made_where_it_is_not_known_that_there_is_none(
    server: AccountsServer, refusal: tuple[int, str]
) -> None:
    server.refusal = refusal

    async def body(keeper: RootKeeper) -> None:
        with pytest.raises(ApiError, match=f"it says {refusal[1]}"):
            await keeper.load()
        assert all(it.startswith("GET") for it in server.asked)

    scenario(server, body)


def test_the_roots_go_to_every_namespace_and_are_written_only_on_change(server: AccountsServer) -> None:
    namespace(server, "bookinfo")
    namespace(server, "default")
    namespace(server, "going", deletionTimestamp="2026-11-30T00:00:00Z")

    async def body(keeper: RootKeeper) -> None:
        assert await keeper.publish(b"roots") == 2
        assert server.objects[config_map("bookinfo")]["data"] == {"root-cert.pem": "roots"}
        assert config_map("going") not in server.objects
        assert await keeper.publish(b"roots") == 0
        namespace(server, "new")
        assert await keeper.publish(b"roots") == 1
        assert await keeper.publish(b"roots and more") == 3
        assert server.objects[config_map("new")]["data"] == {"root-cert.pem": "roots and more"}
        assert server.objects[config_map("new")]["metadata"]["labels"] == LABELS

    scenario(server, body)


def test_the_roots_of_others_are_left_alone_and_told_once(
    server: AccountsServer, caplog: pytest.LogCaptureFixture
) -> None:
    namespace(server, "bookinfo")
    about = {"name": "istio-ca-root-cert", "namespace": "bookinfo", "labels": {"istio.io/config": "true"}}
    server.objects[config_map("bookinfo")] = {"metadata": about, "data": {"root-cert.pem": "istio's"}}

    async def body(keeper: RootKeeper) -> None:
        assert await keeper.publish(b"roots") == 0
        assert await keeper.publish(b"roots") == 0
        assert server.objects[config_map("bookinfo")]["data"] == {"root-cert.pem": "istio's"}

    with caplog.at_level(logging.WARNING, "waypoint.controller.root_keeper"):
        scenario(server, body)
    assert [it.getMessage() for it in caplog.records] == [
        "ConfigMap istio-ca-root-cert has other roots and is not ours in 1 namespaces: bookinfo"
    ]


def test_a_namespace_that_forbids_it_is_told_and_holds_up_no_other(server: AccountsServer) -> None:
    for name in ("a", "b", "c"):
        namespace(server, name)
    server.forbidden = {"/api/v1/namespaces/b/configmaps"}

    async def body(keeper: RootKeeper) -> None:
        with pytest.raises(ApiError, match="/api/v1/namespaces/b/configmaps: it says Forbidden"):
            await keeper.publish(b"roots")
        assert [name for name in ("a", "b", "c") if config_map(name) in server.objects] == ["a", "c"]

    scenario(server, body)


def test_a_config_map_that_comes_meanwhile_is_seen_the_next_time(server: AccountsServer) -> None:
    namespace(server, "a")
    namespace(server, "b")
    about = {"name": "istio-ca-root-cert", "namespace": "a", "labels": LABELS}
    server.created_by_another[config_map("a")] = {"metadata": about, "data": {"root-cert.pem": "old"}}

    async def body(keeper: RootKeeper) -> None:
        assert await keeper.publish(b"roots") == 1
        assert await keeper.publish(b"roots") == 1
        assert server.objects[config_map("a")]["data"] == {"root-cert.pem": "roots"}

    scenario(server, body)


def test_a_new_authority_is_taken_and_a_bad_one_is_not(server: AccountsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_keeper, "POLL_SECONDS", 0.01)
    namespace(server, "bookinfo")
    taken: list[RootAuthority] = []

    async def take(authority: RootAuthority) -> None:
        taken.append(authority)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the keeper has no event
                await asyncio.sleep(0.01)

    def published() -> bytes:
        return str(server.objects.get(config_map("bookinfo"), {}).get("data", {}).get("root-cert.pem", "")).encode()

    async def body(keeper: RootKeeper) -> None:
        following = asyncio.create_task(keeper.follow(take, is_leader=lambda: True))
        await until(lambda: len(taken) == 1 and published() == taken[0].roots)
        server.objects[OPERATORS] = {"data": {}}
        await until(lambda: "Secret pywaypoint-system/cacerts: ca-cert.pem is missing" in keeper.concern)
        server.refusal = (503, "ServiceUnavailable")
        await until(lambda: "it says ServiceUnavailable" in keeper.concern)
        server.refusal = None
        root = Node("root")
        server.objects[OPERATORS] = secret(cacerts(root, roots=(root,)))
        await until(lambda: published() == root.pem)
        assert [it.roots for it in taken[1:]] == [root.pem]
        await until(lambda: keeper.concern == "")
        following.cancel()

    scenario(server, body)


def test_only_the_leader_publishes(server: AccountsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_keeper, "POLL_SECONDS", 0.01)
    namespace(server, "bookinfo")
    is_leader = False

    async def ignore(authority: RootAuthority) -> None:
        pass

    async def body(keeper: RootKeeper) -> None:
        nonlocal is_leader
        following = asyncio.create_task(keeper.follow(ignore, is_leader=lambda: is_leader))
        async with asyncio.timeout(20):
            while sum(it.endswith("/secrets/cacerts") for it in server.asked) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert config_map("bookinfo") not in server.objects
            is_leader = True
            while config_map("bookinfo") not in server.objects:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        following.cancel()

    scenario(server, body)
