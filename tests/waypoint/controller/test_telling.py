"""Entries in lists; conditions, which are applied, are tested in tests/cluster/test_status.py."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from l4.config.documents import Document, ObjectKey, ObjectOrigin
from l4.kubernetes.client import ApiClient
from l4.kubernetes.credentials import Credentials, Trust
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.l4.kubernetes.test_client import Given
from waypoint.config.status import Condition, ParentStatus, RouteStatus
from waypoint.controller.concluding import EVERYTHING, Concluded
from waypoint.controller.telling import Telling

KEY = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "shop", "front")
PATH = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/front"
OURS, OTHERS = "example.com/ours", "example.com/others"
THEIRS = {"parentRef": {"name": "x"}, "controllerName": OTHERS, "conditions": []}
NOW = "2026-01-01T00:00:00Z"


def accepted(message: str = "the route is live") -> RouteStatus:
    ref = (("group", ""), ("kind", "Service"), ("name", "cart"))
    return RouteStatus(KEY, 1, (ParentStatus(ref, (Condition("Accepted", True, "Accepted", message),)),))


class Scene:
    """One route on a server, and who writes its status."""

    def __init__(self, server: KubernetesServer) -> None:
        self.server = server
        self.concerns: dict[str, str] = {}
        self.client = ApiClient(Credentials(server.address, Trust(), Given()))
        self.telling = Telling(self.client, OURS, self.concerns.__setitem__, lambda: NOW)
        self.put()

    def put(self, *parents: Any) -> None:
        self.server.put(PATH, {"apiVersion": f"{KEY.group}/v1", "status": {"parents": list(parents)}})

    def learn(self, wanted: RouteStatus | None, unknown: frozenset[tuple[str, str]] = frozenset()) -> None:
        content = self.server.objects[PATH]
        document = Document(KEY, content, ObjectOrigin(KEY, content["metadata"]["resourceVersion"]))
        self.telling.learn(
            Concluded(
                wanted={KEY: wanted} if wanted is not None else {},
                changed=(document,),
                gone=(),
                looked_at=frozenset({KEY}),
                unknown=unknown,
                undecoded=frozenset(),
                doubts=(),
            )
        )

    @property
    def writes(self) -> int:
        return sum(it.startswith("PATCH") for it in self.server.requests)

    @property
    def controllers(self) -> list[str]:
        return [it["controllerName"] for it in self.server.objects[PATH]["status"]["parents"]]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def scenario(test: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with kubernetes_server() as server:
            scene = Scene(server)
            work = asyncio.create_task(scene.telling.work())
            try:
                await test(scene)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                await scene.client.close()

    run(whole())


def test_entries_are_written_once_beside_those_of_others() -> None:
    async def test(scene: Scene) -> None:
        scene.put(THEIRS)

        scene.learn(accepted())
        await scene.until(lambda: OURS in scene.controllers)
        scene.learn(accepted())
        scene.learn(None)
        await scene.until(lambda: OURS not in scene.controllers)

        assert scene.controllers == [OTHERS]
        assert scene.writes == 2

    scenario(test)


def test_an_object_that_changed_meanwhile_is_read_again() -> None:
    async def test(scene: Scene) -> None:
        scene.learn(accepted())
        scene.put(THEIRS)

        await scene.until(lambda: OURS in scene.controllers)

        assert scene.controllers == [OTHERS, OURS]
        assert [it.partition("?")[0] for it in scene.server.requests] == [
            f"PATCH {PATH}/status",
            f"GET {PATH}",
            f"PATCH {PATH}/status",
        ]

    scenario(test)


def test_what_somebody_overwrites_again_and_again_is_written_ever_more_rarely() -> None:
    async def test(scene: Scene) -> None:
        times = []
        for _ in range(3):
            scene.put(THEIRS)
            scene.learn(accepted())
            await scene.until(lambda: OURS in scene.controllers)
            times.append(asyncio.get_running_loop().time())
        scene.put(THEIRS)
        scene.learn(accepted("something else"))
        await scene.until(lambda: OURS in scene.controllers)

        assert times[1] - times[0] > 0.9
        assert times[2] - times[1] > 1.9
        assert asyncio.get_running_loop().time() - times[2] < 1.0, "another status waits for nothing"

    scenario(test)


def test_a_verb_that_is_forbidden_is_told_and_tried_again() -> None:
    async def test(scene: Scene) -> None:
        scene.server.refusals.append((403, "Forbidden", {}))
        subject = f"status of httproutes.{KEY.group}"

        scene.learn(accepted())
        await scene.until(lambda: subject in scene.concerns)
        told = scene.concerns[subject]

        assert f"needs the verb patch for httproutes/status of the API group {KEY.group}" in told
        assert "the emulator says Forbidden" in told

    scenario(test)


def test_a_failure_is_told_until_it_is_over() -> None:
    async def test(scene: Scene) -> None:
        scene.server.refusals.append((500, "InternalError", {}))
        subject = f"status of httproutes.{KEY.group}"

        scene.learn(accepted())
        await scene.until(lambda: bool(scene.concerns.get(subject)))
        await scene.until(lambda: OURS in scene.controllers)
        await scene.until(lambda: not scene.concerns[subject])

    scenario(test)


def test_nothing_is_written_while_it_is_not_known() -> None:
    async def test(scene: Scene) -> None:
        scene.learn(accepted(), unknown=frozenset({EVERYTHING}))
        scene.learn(accepted(), unknown=frozenset({(KEY.group, KEY.kind)}))
        for _ in range(20):
            await asyncio.sleep(0)
        assert scene.writes == 0

        scene.learn(accepted())
        await scene.until(lambda: OURS in scene.controllers)

    scenario(test)
