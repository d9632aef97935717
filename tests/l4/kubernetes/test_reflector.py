"""What a listener is told equals what the server holds, whatever happens in between."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from l4.kubernetes import reflector as reflector_module
from l4.kubernetes.client import ApiClient, ResourceType
from l4.kubernetes.credentials import Credentials, Trust
from l4.kubernetes.reflector import Key, Reflector, Scope
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.l4.kubernetes.test_client import CONFIGMAPS, PATH, Given

WANTED = {"metadata": {"labels": {"app": "a"}}}


@dataclass
class Told:
    """A listener that keeps the objects, and counts what it is told."""

    objects: dict[Key, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def changed(self, resource: ResourceType, key: Key, resource_version: str, object: msgspec.Raw) -> None:
        self.objects[key] = json.loads(bytes(object))
        self.calls.append(f"changed {key.name}")

    def gone(self, resource: ResourceType, key: Key) -> None:
        del self.objects[key]
        self.calls.append(f"gone {key.name}")

    def listed(self, resource: ResourceType) -> None:
        self.calls.append("listed")

    @property
    def names(self) -> list[str]:
        return sorted(it.name for it in self.objects)


@dataclass
class World:
    server: KubernetesServer
    client: ApiClient
    told: Told
    reflector: Reflector

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def until_names(self, *names: str) -> None:
        await self.until(lambda: self.told.names == list(names) and self.reflector.is_listed)

    async def until_watched(self) -> None:
        await self.until(lambda: self.reflector.is_listed and len(self.server.watches) == 1)

    def lists(self) -> int:
        return sum("sendInitialEvents" in it or "limit" in it for it in self.server.requests)


def scenario(
    test: Callable[[World], Awaitable[None]],
    before: Callable[[KubernetesServer], object] = lambda _: None,
    silent_seconds: float = 20.0,
) -> None:
    async def all_of_it() -> None:
        async with kubernetes_server() as server:
            server.put(f"{PATH}/a", WANTED)
            server.put(f"{PATH}/b", WANTED)
            before(server)
            async with following(server, silent_seconds) as world:
                await test(world)

    run(all_of_it(), 60)


@asynccontextmanager
async def following(server: KubernetesServer, silent_seconds: float) -> AsyncIterator[World]:
    client = ApiClient(Credentials(server.address, Trust(), Given()), silent_seconds=silent_seconds)
    told = Told()
    reflector = Reflector(client, CONFIGMAPS, told, Scope("ns", "app=a"), first_pause_seconds=0.02)
    running = asyncio.ensure_future(reflector.run())
    try:
        yield World(server, client, told, reflector)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()


def paged(server: KubernetesServer) -> None:
    server.has_streaming_lists = False


def old_etcd(server: KubernetesServer) -> None:
    server.has_streaming_lists = False
    server.refusals = [(500, "InternalError", {})]


@pytest.mark.parametrize("before", [lambda _: None, paged, old_etcd])
def test_the_list_and_then_each_change_is_told_once(before: Callable[[KubernetesServer], object]) -> None:
    async def test(it: World) -> None:
        await it.until_names("a", "b")
        await it.until_watched()
        it.server.put(f"{PATH}/c", WANTED | {"data": {"x": "1"}})
        it.server.put(f"{PATH}/c", WANTED | {"data": {"x": "2"}})
        it.server.remove(f"{PATH}/a")
        await it.until_names("b", "c")

        assert it.told.calls == ["changed a", "changed b", "listed", "changed c", "changed c", "gone a"]
        assert it.told.objects[Key("ns", "c")]["data"] == {"x": "2"}
        assert all(
            "labelSelector=app%3Da" in request or "labelSelector=app=a" in request for request in it.server.requests
        )
        assert it.reflector.failure is None

    scenario(test, before)


def test_a_streaming_list_goes_on_as_the_watch() -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server.put(f"{PATH}/c", WANTED)
        await it.until_names("a", "b", "c")

        assert len(it.server.requests) == 1

    scenario(test)


def test_a_cut_watch_goes_on_where_it_was_and_nothing_is_listed_again() -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server.cut()
        it.server.put(f"{PATH}/c", WANTED)
        it.server.remove(f"{PATH}/a")
        await it.until_names("b", "c")

        assert it.lists() == 1
        assert it.reflector.failure is None

    scenario(test)


@pytest.mark.parametrize("is_http", [False, True])
def test_after_410_a_new_list_finds_what_was_missed_deletes_too(is_http: bool) -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server.has_http_gone = is_http
        it.server.remove(f"{PATH}/a", is_told=False)
        it.server.put(f"{PATH}/c", WANTED, is_told=False)
        it.server.forget()
        it.server.cut()
        await it.until_names("b", "c")

        assert it.told.calls == ["changed a", "changed b", "listed", "changed c", "gone a", "listed"]
        assert it.lists() == 2

    scenario(test)


def test_a_410_in_the_middle_of_a_watch_lists_again() -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server.remove(f"{PATH}/a", is_told=False)
        it.server.error(410, "Expired")
        await it.until_names("b")

    scenario(test)


def test_a_server_that_always_says_410_is_not_asked_in_a_tight_loop() -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server.oldest = 1 << 40
        it.server.has_streaming_lists = False
        it.server.cut()
        await it.until(lambda: len(it.server.requests) > 12)
        pause = it.reflector._pause

        assert pause > 0.1

    scenario(test)


def test_a_streaming_list_that_is_cut_takes_nothing_for_gone_and_comes_in_pages_next() -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server.events_before_cut = 1
        it.server.forget()
        it.server.error(410, "Expired")
        await it.until(lambda: it.told.calls.count("listed") == 2)

        assert not [call for call in it.told.calls if "gone" in call]
        assert "limit" in it.server.requests[2]
        await it.until(lambda: it.reflector.failure is None)

    scenario(test)


def test_a_silent_watch_is_given_up_and_begun_anew() -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server.is_silent = True
        it.server.put(f"{PATH}/c", WANTED)
        await asyncio.sleep(0)
        it.server.is_silent = False
        await it.until_names("a", "b", "c")

    scenario(test, silent_seconds=0.3)


def test_a_kind_of_which_nothing_is_ever_heard_is_watched_anew_each_time_without_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reflector_module, "SHORT_WATCH_SECONDS", 0.1)
    failures = []

    async def test(it: World) -> None:
        def has_begun_anew() -> bool:
            failures.append(it.reflector.failure)
            return sum("resourceVersion=" in line for line in it.server.requests) >= 5

        await it.until(has_begun_anew)
        assert set(failures) == {None}
        assert it.reflector.silent_seconds < 1

    scenario(test, silent_seconds=0.3)


def test_while_the_server_refuses_nothing_is_gone_and_the_age_grows() -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server.tokens = {"another"}
        it.server.cut()
        await it.until(lambda: it.reflector.failure is not None)
        before = it.reflector.silent_seconds
        await it.until(lambda: it.reflector.silent_seconds > before + 0.05)

        assert it.told.names == ["a", "b"]
        assert it.reflector.failure is not None
        assert it.reflector.failure.code == 401

        it.server.tokens = set()
        it.server.remove(f"{PATH}/a")
        await it.until_names("b")
        await it.until(lambda: it.reflector.failure is None)
        assert it.reflector.silent_seconds < 20

    scenario(test)


def test_a_forbidden_kind_is_told_by_name_and_tried_again() -> None:
    async def test(it: World) -> None:
        await it.until(lambda: it.reflector.failure is not None)
        assert not it.told.calls
        assert str(it.reflector.failure).startswith("/api/v1/namespaces/ns/configmaps: ")

        await it.until_names("a", "b")
        await it.until(lambda: it.reflector.failure is None)

    scenario(test, lambda server: server.refusals.extend([(403, "Forbidden", {})] * 4))


def test_a_kind_that_is_not_served_yet_is_found_when_it_is() -> None:
    async def test(it: World) -> None:
        await it.until(lambda: it.reflector.failure is not None)
        assert it.reflector.failure is not None
        assert it.reflector.failure.code == 404
        assert "is the CRD of configmaps installed?" in str(it.reflector.failure)

        it.server.served.add("configmaps")
        await it.until_names("a", "b")

    scenario(test, lambda server: server.served.discard("configmaps"))


def test_bookmarks_move_the_watch_on() -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server.bookmark()
        version = str(it.server.version)
        await it.until(lambda: it.reflector._resource_version == version)
        it.server.cut()
        await it.until(lambda: f"resourceVersion={version}&" in it.server.requests[-1])

        assert it.told.calls == ["changed a", "changed b", "listed"]

    scenario(test)


def test_an_object_that_cannot_be_decoded_ends_nothing() -> None:
    async def test(it: World) -> None:
        await it.until_watched()
        it.server._send_all(("ADDED", "", {"metadata": 5}))
        it.server.put(f"{PATH}/c", WANTED)
        await it.until_names("a", "b", "c")

    scenario(test)
