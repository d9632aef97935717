"""The Gateway API's conformance tests of GRPCRoutes on a Service, with the real grpcio on both ends."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml

from tests.kit.aio import run
from tests.kit.echo import manifests
from tests.kit.front import http2_front
from tests.kit.grpc_echo import SERVICE, Seen, echo_server
from tests.kit.mesh import address, mesh


@dataclass
class Setting:
    channel: grpc.Channel
    seen: dict[str, Seen]

    async def call(self, method: str = "Unary", *metadata: tuple[str, str]) -> grpc.StatusCode:
        def blocking() -> grpc.StatusCode:
            call = self.channel.unary_unary(f"/{SERVICE}/{method}")
            try:
                return call.with_call(b"hello", timeout=10, metadata=metadata)[1].code()  # type: ignore[no-any-return]
            except grpc.RpcError as error:
                return error.code()  # type: ignore[no-any-return, attr-defined]

        return await asyncio.to_thread(blocking)

    @property
    def calls(self) -> Counter[str]:
        """How many calls each version got."""
        return Counter({name: len(seen.metadata) for name, seen in self.seen.items()})


@asynccontextmanager
async def setting(folder: Path, *rules: dict[str, Any]) -> AsyncIterator[Setting]:
    waypoint = address()
    vips = {name: address() for name in ("echo", "echo-v1", "echo-v2")}
    pods = {name: address() for name in ("echo-v1", "echo-v2")}
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": {"name": "route"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "echo"}], "rules": list(rules)},
    }
    text = manifests(vips, pods, waypoint).replace("{name: http, port: 80", "{name: grpc, port: 80")
    with echo_server(pods["echo-v1"]) as one, echo_server(pods["echo-v2"]) as two:
        async with (
            mesh(folder, f"{text}\n---\n{yaml.safe_dump(route)}", waypoint) as it,
            http2_front(it, (vips["echo"], 80)) as front,
        ):
            options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel("{}:{}".format(*front.at), options=options) as channel:
                yield Setting(channel, {"v1": one, "v2": two})


def to(version: str, **more: object) -> list[dict[str, Any]]:
    return [{"name": f"echo-{version}", "port": 80, **more}]


def method(service: str | None = None, name: str | None = None, **more: str) -> dict[str, Any]:
    return {"method": {key: it for key, it in (("service", service), ("method", name)) if it} | more}


def test_calls_are_told_apart_by_service_method_and_metadata(tmp_path: Path) -> None:
    async def scenario() -> None:
        rules: list[dict[str, Any]] = [
            {"matches": [method(SERVICE, "Unary")], "backendRefs": to("v1")},
            {"matches": [method(SERVICE)], "backendRefs": to("v2")},
            {
                "matches": [{**method(SERVICE, "Unary"), "headers": [{"name": "version", "value": "two"}]}],
                "backendRefs": to("v2"),
            },
        ]
        async with setting(tmp_path, *rules) as it:
            assert await it.call("Unary") == grpc.StatusCode.OK
            assert it.calls == {"v1": 1, "v2": 0}

            await it.call("Unary", ("version", "two"))
            assert it.calls == {"v1": 1, "v2": 1}

            await it.call("Collect")
            assert it.calls["v1"] == 1

    run(scenario())


def test_a_call_that_no_rule_matches_is_unimplemented(tmp_path: Path) -> None:
    async def scenario() -> None:
        rules = [
            {"matches": [method(name="Nary")], "backendRefs": to("v1")},
            {"matches": [method(r"foo\..*", "U.*", type="RegularExpression")], "backendRefs": to("v1")},
        ]
        async with setting(tmp_path, *rules) as it:
            assert await it.call("Unary") == grpc.StatusCode.UNIMPLEMENTED
            assert it.calls.total() == 0

    run(scenario())


def test_a_method_or_an_expression_is_enough(tmp_path: Path) -> None:
    async def scenario() -> None:
        rules = [
            {"matches": [method(name="Unary")], "backendRefs": to("v1")},
            {"matches": [method(r"echo\..*", "Fa.*", type="RegularExpression")], "backendRefs": to("v2")},
        ]
        async with setting(tmp_path, *rules) as it:
            assert await it.call("Unary") == grpc.StatusCode.OK
            assert await it.call("Fail") == grpc.StatusCode.NOT_FOUND
            assert it.calls["v1"] == 1

    run(scenario())


def test_metadata_is_set_added_and_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        change = {
            "set": [{"name": "x-set", "value": "new"}],
            "add": [{"name": "x-add", "value": "added"}],
            "remove": ["X-Remove"],
        }
        rule = {
            "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": change}],
            "backendRefs": to("v1"),
        }
        async with setting(tmp_path, rule) as it:
            await it.call("Unary", ("x-set", "old"), ("x-remove", "gone"))

            [metadata] = it.seen["v1"].metadata
            assert (metadata["x-set"], metadata["x-add"]) == ("new", "added")
            assert "x-remove" not in metadata

    run(scenario())


def test_weights_split_calls(tmp_path: Path) -> None:
    async def scenario() -> None:
        rule = {"backendRefs": [*to("v1", weight=70), *to("v2", weight=30)]}
        async with setting(tmp_path, rule) as it:
            for _ in range(400):
                await it.call()

            assert abs(it.calls["v1"] - 280) < 42  # 4.5 standard deviations

    run(scenario())
