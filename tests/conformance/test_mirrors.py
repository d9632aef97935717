"""HTTPRoute's RequestMirror through real tunnels: copies arrive, and can neither delay nor fail what they copy."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_http_route import TO_V1, http_route
from tests.kit.aio import run
from tests.kit.echo import EchoMesh, echo_mesh
from tests.kit.mesh import settled, with_settings
from tests.kit.origin import Origin
from waypoint.filters.mirror import Mirroring


def mirror(to: str, **share: Any) -> dict[str, Any]:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": to, "port": 80}, **share}}


def seen(it: EchoMesh, pod: str) -> Origin:
    return it.origins[pod]


def test_a_copy_reaches_the_mirror_with_its_body_and_a_host_that_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        route = http_route({"filters": [mirror("echo-v2")], "backendRefs": TO_V1})
        async with echo_mesh(tmp_path, route) as it:
            answer = await it.ask("/copied?a=b", method="POST", body=b"hello", host="echo:80")

            assert (answer.pod, answer.seen["body"]) == ("echo-v1", "hello")
            await settled(lambda: bool(seen(it, "echo-v2").heads))
            head = seen(it, "echo-v2").heads[0]
            assert head.startswith(b"POST /copied?a=b HTTP/1.1\r\nhost: echo-shadow:80\r\n")
            assert b"content-length: 5" in head
            await settled(lambda: it.mesh.path.filters.get(Mirroring).count == 0)

    run(scenario())


def test_several_mirrors_get_a_copy_each(tmp_path: Path) -> None:
    async def scenario() -> None:
        route = http_route({"filters": [mirror("echo-v2"), mirror("echo-v1")], "backendRefs": TO_V1})
        async with echo_mesh(tmp_path, route) as it:
            await it.ask()

            await settled(lambda: len(seen(it, "echo-v2").heads) == 1 and len(seen(it, "echo-v1").heads) == 2)

    run(scenario())


@pytest.mark.parametrize("share", [{"percent": 30}, {"fraction": {"numerator": 3, "denominator": 10}}])
def test_a_share_of_the_requests_is_copied(tmp_path: Path, share: dict[str, Any]) -> None:
    async def scenario() -> int:
        route = http_route({"filters": [mirror("echo-v2", **share)], "backendRefs": TO_V1})
        async with echo_mesh(tmp_path, route) as it:
            for _ in range(300):
                await it.ask()
            await settled(lambda: it.mesh.path.filters.get(Mirroring).count == 0)
            return len(seen(it, "echo-v2").heads)

    assert abs(run(scenario()) - 90) < 36  # 4.5 standard deviations


def test_a_mirror_that_does_not_exist_is_left_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        route = http_route({"filters": [mirror("missing")], "backendRefs": TO_V1})
        async with echo_mesh(tmp_path, route) as it:
            assert (await it.ask()).pod == "echo-v1"
            [status] = [it for it in it.mesh.holder.current.statuses if it.key.kind == "HTTPRoute"]
            reasons = {condition.type: condition.reason for condition in status.parents[0].conditions}
            assert reasons == {"Accepted": "Accepted", "ResolvedRefs": "BackendNotFound"}

    run(scenario())


def test_a_mirror_that_takes_nothing_is_given_up_and_the_request_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = with_settings(mirror_seconds=0.2)
        route = http_route({"filters": [mirror("echo-v2")], "backendRefs": TO_V1})
        async with echo_mesh(tmp_path, route, settings=settings) as it:
            it.stuck.add("echo-v2")
            answer = await it.ask(method="POST", body=bytes(200_000).replace(b"\0", b"x"))

            assert (answer.pod, len(answer.seen["body"])) == ("echo-v1", 200_000)
            await settled(lambda: it.mesh.path.filters.get(Mirroring).count == 0)

    run(scenario())


def test_no_more_copies_than_the_bound_are_under_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        route = http_route({"filters": [mirror("echo-v2")], "backendRefs": TO_V1})
        async with echo_mesh(tmp_path, route, settings=with_settings(max_mirrors=2)) as it:
            it.stuck.add("echo-v2")
            answers = await asyncio.gather(*(it.ask() for _ in range(5)))

            assert {answer.pod for answer in answers} == {"echo-v1"}
            assert it.mesh.path.filters.get(Mirroring).count == 2
            it.stuck.clear()
            await settled(lambda: it.mesh.path.filters.get(Mirroring).count == 0)

    run(scenario())
