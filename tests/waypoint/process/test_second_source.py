"""A waypoint that follows an API server in place of a folder: the same pipeline, another `Source`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from l4.config.source import Answer, Changes, Documents
from l4.net.tasks import Tasks
from l4.readiness import Readiness
from tests.kit.aio import run
from tests.kit.api_server import ApiServer, ApiServerSource
from tests.kit.mesh import GATEWAY, Mesh, address, manifests, mesh, settled
from tests.kit.origin import answering, origin
from waypoint.config.pipeline import Compiled, Pipeline
from waypoint.process.following import Following

POLICY = ("security.istio.io", "AuthorizationPolicy")
DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny}
spec:
  targetRefs: [{kind: Service, group: "", name: app}]
  action: DENY
  rules: [{to: [{operation: {paths: [/secret]}}]}]
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules: [{backendRefs: [{name: NAME, port: 9080}]}]
"""


def plain(waypoint: str, vip: str, pods: dict[str, str]) -> str:
    """Pods without a ztunnel before them."""
    text = manifests(waypoint=waypoint, vip=vip, pods=pods)
    return text.replace("ambient.istio.io/redirection: enabled", "")


class SpiedPipeline(Pipeline):
    """Notes what each answer was, and what it cost."""

    def __init__(self, gateway: tuple[str, str], its: Mesh) -> None:
        super().__init__(gateway, its.settings, its.waypoint)
        self.answers: list[Answer] = []
        self.compiled: list[Compiled] = []
        self.failures = 0

    def compile(self, answer: Answer) -> Compiled:
        self.answers.append(answer)
        if self.failures:
            self.failures -= 1
            raise OSError("no memory is left")
        self.compiled.append(super().compile(answer))
        return self.compiled[-1]


@dataclass
class World:
    mesh: Mesh
    server: ApiServer
    pipeline: SpiedPipeline
    readiness: Readiness
    vip: str
    pods: list[str] = field(default_factory=list)

    async def status(self, path: str = "/") -> bytes:
        return (await self.mesh.get(f"{self.vip}:9080", path))[9:12]

    async def until_status(self, status: bytes, path: str = "/") -> None:
        async with asyncio.timeout(20):
            while await self.status(path) != status:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def until(self, condition: Callable[[], bool]) -> None:
        await settled(condition, 20)


@asynccontextmanager
async def world(folder: Path, *more: str, refused: tuple[str, str] | None = None) -> AsyncIterator[World]:
    """A waypoint before a Service of two pods, of which the first has an application, and whatever `more` says."""
    waypoint, vip, *pods = (address() for _ in range(4))
    async with mesh(folder, "", waypoint) as it, origin(pods[0], answering()):
        server, pipeline, readiness = ApiServer(), SpiedPipeline(GATEWAY, it), Readiness({"configuration"})
        server.apply("\n---\n".join((plain(waypoint, vip, {"app-1": pods[0]}), *more)))
        if refused is not None:
            server.refuse(*refused)
        following = Following(
            ApiServerSource(server),
            pipeline,
            put_in_force=it.worker.put_in_force,
            readiness=readiness,
            metrics=it.metrics,
        )
        await following.begin()
        tasks = Tasks()
        tasks.keep("following the configuration", following.watch)
        try:
            yield World(it, server, pipeline, readiness, vip, pods)
        finally:
            await tasks.close()


def test_what_an_api_server_tells_is_live_with_the_next_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            assert await it.status("/secret") == b"200"
            assert it.readiness.is_ready

            it.server.apply(DENY)
            await it.until_status(b"403", "/secret")
            assert await it.status("/open") == b"200"

            it.server.delete("AuthorizationPolicy", "deny")
            await it.until_status(b"200", "/secret")

        assert isinstance(it.pipeline.answers[0], Documents)
        assert [len(answer.changed) for answer in it.pipeline.answers[1:] if isinstance(answer, Changes)] == [1, 0]

    run(scenario(), 60)


def test_a_pod_of_an_api_server_changes_endpoints_and_compiles_no_rules(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it, origin(it.pods[1], answering()) as other:
            it.server.apply(plain("127.0.0.1", "127.0.0.2", {"app-2": it.pods[1]}).split("---")[-1])
            await it.until(lambda: len(it.pipeline.compiled) == 2)
            it.server.delete("Pod", "app-1")
            await it.until(lambda: len(it.pipeline.compiled) == 3)
            await it.until_status(b"200")

            assert other.connections == 1
            assert [compiled.has_new_rules for compiled in it.pipeline.compiled] == [True, False, False]

    run(scenario(), 60)


def test_a_kind_that_can_no_longer_be_listed_loses_nothing_and_readiness_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, DENY) as it:
            it.server.refuse(*POLICY)
            await it.until(lambda: bool(it.readiness.concerns))

            assert await it.status("/secret") == b"403"
            (sentence,) = it.readiness.concerns.values()
            assert "AuthorizationPolicy * (resourceVersion " in sentence
            assert "cannot be listed: forbidden; what was known stays in force" in sentence

            it.server.delete("AuthorizationPolicy", "deny")
            it.server.allow(*POLICY)
            await it.until_status(b"200", "/secret")
            assert not it.readiness.concerns

    run(scenario(), 60)


def test_where_policies_were_never_listed_nobody_is_let_in_and_the_waypoint_is_not_ready(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, DENY, refused=POLICY) as it:
            assert await it.status("/open") == b"403"
            assert not it.readiness.is_ready

            it.server.allow(*POLICY)
            await it.until_status(b"200", "/open")
            assert await it.status("/secret") == b"403"
            assert it.readiness.is_ready

    run(scenario(), 60)


def test_a_problem_names_the_object_and_its_version_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            for word, version, label in (("new", 6, "one"), ("changed", 7, "two")):
                labelled = f"{{name: app, labels: {{x: {label}}}}}"
                it.server.apply(ROUTE.replace("NAME", "nobody").replace("{name: app}", labelled, 1))
                said = f"; {word}: HTTPRoute default/app (resourceVersion {version})"
                await it.until(lambda: said in caplog.text)  # noqa: B023

    caplog.set_level(logging.INFO)
    run(scenario(), 60)

    told = [it.getMessage() for it in caplog.records if "backendRefs" in it.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("HTTPRoute default/app (resourceVersion 6) spec.rules[0].backendRefs[0].name: ")


def test_an_answer_that_could_not_be_taken_is_given_again_with_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.pipeline.failures = 1
            it.server.apply(DENY)

            await it.until_status(b"403", "/secret")

        assert [type(answer) for answer in it.pipeline.answers] == [Documents, Changes, Documents]

    run(scenario(), 60)
