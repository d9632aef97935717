"""What a source passes on equals what the API server holds, and what cannot be looked at is a doubt."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from l4.config.documents import ObjectKey
from l4.config.doubts import EVERYWHERE, Doubt
from l4.config.inventory import Inventory
from l4.config.source import Answer, Changes, Documents
from l4.discovery.kubernetes import KINDS
from l4.kubernetes import source
from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from l4.kubernetes.credentials import Credentials, Secrets, Trust
from l4.kubernetes.reflector import Reflector, Scope
from l4.kubernetes.source import KubernetesSource
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.l4.kubernetes.test_client import Given

PODS, SLICES = "/api/v1", "/apis/discovery.k8s.io/v1"
SECURITY = "/apis/security.istio.io"
GATEWAYS = "/apis/gateway.networking.k8s.io/v1"


@dataclass
class World:
    server: KubernetesServer
    source: KubernetesSource
    answers: list[Answer] = field(default_factory=list)
    inventory: Inventory = field(default_factory=Inventory)
    failures: int = 0

    async def take(self, answer: Answer) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no memory is left")
        self.answers.append(answer)
        self.inventory.take(answer)

    @property
    def names(self) -> list[str]:
        return [f"{it.key.kind} {it.key.name}" for it in self.inventory.documents]

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        return self.answers[-1].doubts

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        await self.take(await self.source.load())
        watching = asyncio.ensure_future(self.source.watch(self.take))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


@asynccontextmanager
async def world(
    scopes: dict[tuple[str, str], Scope] | None = None,
    whole: Collection[tuple[str, str]] = (),
    is_encoded: bool = False,
) -> AsyncIterator[World]:
    """A server with the kinds that every cluster has, and Istio's policies."""
    async with kubernetes_server() as server:
        for kind in ("Pod", "Service"):
            server.serve(PODS, kind)
        for kind in ("Namespace", "Node"):
            server.serve(PODS, kind, is_namespaced=False)
        server.serve(SLICES, "EndpointSlice")
        server.serve(f"{SECURITY}/v1", "AuthorizationPolicy")
        client = ApiClient(Credentials(server.address, Trust(), Given(Secrets())))
        its = World(server, KubernetesSource(client, KINDS, scopes, whole, is_encoded))
        try:
            yield its
        finally:
            await its.source.close()


def pod(name: str) -> str:
    return f"{PODS}/namespaces/default/pods/{name}"


def test_all_objects_come_first_and_then_each_change() -> None:
    async def scenario() -> None:
        async with world() as it:
            it.server.put(pod("a"), {"spec": {"nodeName": "one"}, "metadata": {"managedFields": [{}]}})
            it.server.put(f"{PODS}/namespaces/default")
            async with it.watched():
                (first,) = it.answers
                assert isinstance(first, Documents)
                assert it.names == ["Namespace default", "Pod a"]
                _, document = first.documents
                assert document.key == ObjectKey("", "Pod", "default", "a")
                assert document.content["apiVersion"] == "v1"
                assert document.content["spec"] == {"nodeName": "one"}
                assert "managedFields" not in document.content["metadata"]
                assert document.origin.resource_version == document.content["metadata"]["resourceVersion"]

                it.server.put(pod("b"))
                await it.until(lambda: "Pod b" in it.names)
                it.server.remove(pod("a"))
                await it.until(lambda: it.names == ["Namespace default", "Pod b"])

                assert all(isinstance(answer, Changes) for answer in it.answers[1:])
                assert it.doubts == ()

    run(scenario())


def test_an_empty_list_that_the_server_writes_as_null_is_empty() -> None:
    async def scenario() -> None:
        async with world() as it:
            path = f"{SLICES}/namespaces/default/endpointslices/a"
            endpoint = {"addresses": ["10.0.0.1"], "hostname": None}
            it.server.put(path, {"endpoints": [endpoint], "ports": None})
            async with it.watched():
                assert it.inventory.documents[0].content["endpoints"] == [{"addresses": ["10.0.0.1"]}]
                assert "ports" not in it.inventory.documents[0].content

                it.server.put(path, {"endpoints": None})
                await it.until(lambda: "endpoints" not in it.inventory.documents[0].content)

    run(scenario())


def test_a_kind_that_is_not_served_has_no_objects_and_is_found_when_it_comes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(source, "ABSENT_SECONDS", 0.1)
    caplog.set_level("INFO", source.__name__)

    async def scenario() -> None:
        async with world() as it, it.watched():
            assert it.doubts == ()

            path = it.server.serve(GATEWAYS, "Gateway")
            it.server.put(f"{path.replace('/gateways', '/namespaces/default/gateways')}/waypoint")

            await it.until(lambda: it.names == ["Gateway waypoint"])

    run(scenario())

    told = [it.getMessage() for it in caplog.records if it.name == source.__name__]
    assert len([it for it in told if "does not serve" in it and "Gateway.gateway.networking.k8s.io" in it]) == 1


def test_a_kind_that_is_no_longer_served_has_no_objects_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "ABSENT_SECONDS", 0.1)

    async def scenario() -> None:
        async with world() as it:
            path = it.server.serve(GATEWAYS, "Gateway")
            it.server.serve(GATEWAYS, "GatewayClass", is_namespaced=False)
            it.server.put(f"{path.replace('/gateways', '/namespaces/default/gateways')}/waypoint")
            async with it.watched():
                await it.until(lambda: it.names == ["Gateway waypoint"])

                it.server.withdraw(path)
                await it.until(lambda: it.names == [] and it.doubts == ())

                it.server.serve(GATEWAYS, "Gateway")
                it.server.put(f"{path.replace('/gateways', '/namespaces/default/gateways')}/other")
                await it.until(lambda: it.names == ["Gateway other"] and it.doubts == ())

    run(scenario())


def test_an_answer_404_for_a_kind_that_is_served_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "RETRY_SECONDS", 0.1)

    async def scenario() -> None:
        async with world() as it:
            path = it.server.serve(GATEWAYS, "Gateway")
            it.server.put(f"{path.replace('/gateways', '/namespaces/default/gateways')}/waypoint")
            async with it.watched():
                await it.until(lambda: it.names == ["Gateway waypoint"])

                it.server.served.discard("gateways")
                it.server.cut()
                await it.until(lambda: bool(it.doubts))
                asked = sum("/gateways?" in line for line in it.server.requests)
                await it.until(lambda: sum("/gateways?" in line for line in it.server.requests) > asked)
                assert it.names == ["Gateway waypoint"]

                it.server.served.add("gateways")
                await it.until(lambda: it.doubts == ())
                assert it.names == ["Gateway waypoint"]

    run(scenario())


def test_of_several_versions_the_recommended_one_that_is_served_is_read() -> None:
    async def scenario() -> None:
        async with world() as it:
            it.server.serve(f"{SECURITY}/v1beta1", "PeerAuthentication")
            it.server.put(f"{SECURITY}/v1beta1/namespaces/default/peerauthentications/strict")
            async with it.watched():
                (document,) = it.inventory.documents
                assert document.content["apiVersion"] == "security.istio.io/v1beta1"

    run(scenario())


def test_a_group_that_is_served_in_unknown_versions_only_is_a_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LOAD_SECONDS", 0.5)

    async def scenario() -> None:
        async with world() as it:
            del it.server.kinds[f"{SECURITY}/v1"]
            it.server.serve(f"{SECURITY}/v9", "AuthorizationPolicy")
            async with it.watched():
                doubts = {doubt.problem.subject: doubt for doubt in it.doubts}
                assert doubts.keys() == {"AuthorizationPolicy *", "PeerAuthentication *"}
                assert doubts["AuthorizationPolicy *"].namespace == EVERYWHERE
                assert "served as v9; known is v1, v1beta1" in str(doubts["AuthorizationPolicy *"].problem)

    run(scenario())


def test_a_server_that_answers_404_to_everything_is_a_doubt_about_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LOAD_SECONDS", 0.5)

    async def scenario() -> None:
        async with world() as it:
            it.server.kinds.clear()
            it.server.served.clear()
            async with it.watched():
                kinds = {doubt.problem.subject for doubt in it.doubts}
                assert {"Pod *", "Service *", "Namespace *"} <= kinds
                assert not any(doubt.has_last_good for doubt in it.doubts)
                assert "is its address right?" in str(it.doubts[0].problem)

    run(scenario())


def test_a_server_that_cannot_be_reached_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(source, "LOAD_SECONDS", 0.5)
    monkeypatch.setattr(source, "RETRY_SECONDS", 0.01)

    async def scenario() -> None:
        its = KubernetesSource(ApiClient(Credentials("http://127.0.0.1:1", Trust(), Given(Secrets()))), KINDS)
        try:
            await its.load()
        finally:
            await its.close()

    run(scenario())

    (line,) = [it.getMessage() for it in caplog.records if it.name == source.__name__]
    assert "the API server http://127.0.0.1:1 gave no usable answer" in line


def test_policies_that_may_not_be_listed_are_a_doubt_about_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LOAD_SECONDS", 0.5)

    async def scenario() -> None:
        async with world() as it:
            it.server.forbidden.add("authorizationpolicies")
            async with it.watched():
                (doubt,) = it.doubts
                assert (doubt.has_last_good, doubt.namespace) == (False, EVERYWHERE)
                assert "AuthorizationPolicy *" in str(doubt.problem)
                assert "403 Forbidden" in str(doubt.problem)

                it.server.forbidden.clear()
                await it.until(lambda: it.doubts == ())

    run(scenario())


def test_while_the_server_is_away_nothing_is_gone_and_the_doubt_says_so() -> None:
    async def scenario() -> None:
        async with world() as it:
            it.server.put(pod("a"))
            async with it.watched():
                it.server.forbidden.update(it.server.served)
                it.server.cut()
                await it.until(lambda: len(it.doubts) == 6)
                assert it.names == ["Pod a"]
                assert all(doubt.has_last_good for doubt in it.doubts)
                assert "stay in force" in str(it.doubts[0].problem)
                assert it.source.silent_seconds > 0

                it.server.remove(pod("a"), is_told=False)
                it.server.put(pod("b"), is_told=False)
                it.server.forget()
                it.server.forbidden.clear()
                await it.until(lambda: it.names == ["Pod b"] and it.doubts == ())

    run(scenario())


def test_what_could_not_be_taken_comes_again_whole() -> None:
    async def scenario() -> None:
        async with world() as it:
            await it.take(await it.source.load())
            it.failures = 1
            it.server.put(pod("a"))
            with pytest.raises(OSError, match="memory"):
                await it.source.watch(it.take)
            it.server.put(pod("b"))

            watching = asyncio.ensure_future(it.source.watch(it.take))
            await it.until(lambda: it.names == ["Pod a", "Pod b"])
            assert isinstance(it.answers[1], Documents)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    run(scenario())


def test_a_scope_narrows_what_is_asked_for() -> None:
    async def scenario() -> None:
        async with world({("", "Pod"): Scope("default", field_selector="spec.nodeName=one")}) as it, it.watched():
            asked = [line for line in it.server.requests if "pods" in line and "?" in line]
            assert asked
            assert all("/namespaces/default/pods?" in line for line in asked)
            assert all("fieldSelector=spec.nodeName" in line for line in asked)

    run(scenario())


def test_endpoints_are_not_asked_for() -> None:
    async def scenario() -> None:
        async with world() as it:
            it.server.serve(PODS, "Endpoints")
            async with it.watched():
                assert not [line for line in it.server.requests if "endpointss?" in line or "/endpoints?" in line]

    run(scenario())


def test_each_group_and_version_is_asked_for_its_kinds_once() -> None:
    async def scenario() -> None:
        async with world() as it:
            it.server.serve(f"{SECURITY}/v1beta1", "PeerAuthentication")
            async with it.watched():
                await it.until(lambda: it.doubts == ())
                asked = [line.removeprefix("GET ") for line in it.server.requests if "?" not in line]
                assert {PODS, SLICES, f"{SECURITY}/v1", f"{SECURITY}/v1beta1"} <= set(asked)
                assert len(asked) == len(set(asked))

    run(scenario())


NODE = f"{PODS}/nodes/one"


def heartbeat(at: int) -> dict[str, object]:
    return {"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": at}]}}


def ready(is_ready: bool, at: int) -> dict[str, object]:
    condition = {"type": "Ready", "status": str(is_ready), "lastProbeTime": at}
    return {"status": {"podIP": "10.0.0.1", "phase": "Running", "conditions": [condition], "qosClass": str(at)}}


@pytest.mark.parametrize(
    ("path", "before", "same", "other"),
    [
        (NODE, heartbeat(1), heartbeat(2), {"metadata": {"labels": {"zone": "a"}}, **heartbeat(2)}),
        (pod("a"), ready(True, 1), ready(True, 2), ready(False, 2)),
        (pod("a"), ready(True, 1), ready(True, 2), {"status": {"podIP": "nonsense"}}),
        (pod("a"), ready(True, 1), ready(True, 2), {"metadata": {"annotations": {"a": "b"}}, **ready(True, 2)}),
        (
            f"{SECURITY}/v1/namespaces/default/authorizationpolicies/a",
            {"spec": {}},
            {"spec": {}, "status": {"conditions": []}},
            {"spec": {"unknown": 1}},
        ),
    ],
)
def test_a_change_of_what_is_not_read_wakes_nobody(
    path: str, before: dict[str, object], same: dict[str, object], other: dict[str, object]
) -> None:
    async def scenario() -> None:
        async with world() as it:
            it.server.put(path, before)
            async with it.watched():
                it.server.put(path, same)
                it.server.put(f"{path.rpartition('/')[0]}/last")
                await it.until(lambda: any(name.endswith(" last") for name in it.names))
                told = [document.key.name for answer in it.answers[1:] for document in answer.changed]  # type: ignore[union-attr]
                assert told == ["last"]

                it.server.put(path, other)
                await it.until(
                    lambda: isinstance(it.answers[-1], Changes) and it.answers[-1].changed[0].key.name != "last"
                )
                (document,) = it.answers[-1].changed  # type: ignore[union-attr]
                assert document.origin.resource_version == str(it.server.version)

    run(scenario())


def test_a_gateway_that_gets_its_first_status_has_changed() -> None:
    async def scenario() -> None:
        async with world() as it:
            gateways = it.server.serve(GATEWAYS, "Gateway").replace("/gateways", "/namespaces/default/gateways")
            it.server.put(f"{gateways}/a", {"spec": {}})
            async with it.watched():
                it.server.put(f"{gateways}/a", {"spec": {}, "status": {"conditions": []}})
                await it.until(lambda: len(it.answers) == 2)

    run(scenario())


def test_every_change_of_a_kind_that_is_wanted_whole_is_passed_on() -> None:
    async def scenario() -> None:
        async with world(whole=[("", "Node")]) as it:
            it.server.put(NODE, heartbeat(1))
            async with it.watched():
                it.server.put(NODE, heartbeat(2))
                await it.until(lambda: len(it.answers) == 2)

    run(scenario())


@pytest.mark.parametrize("is_encoded", [False, True])
def test_an_object_that_is_nested_too_deep_is_a_failure_of_its_kind_alone(is_encoded: bool) -> None:
    pods, outcomes = ResourceType("", "v1", "pods", "Pod", True), set()

    async def scenario() -> None:
        async with world(is_encoded=is_encoded) as it:
            for depth in range(900, 1010):
                reflector = Reflector(it.source._client, pods, it.source)
                its = b'{"metadata": {"name": "deep", "resourceVersion": "%d"}, "spec": ' % depth
                deep = its + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
                it.server.body = b'{"metadata": {"resourceVersion": "1"}, "items": [%s]}' % deep
                try:
                    await reflector.list_pages()
                    outcomes.add("taken")
                except ApiError as error:
                    outcomes.add(error.reason)

    run(scenario())

    assert outcomes == {"taken", "Undecodable"}
