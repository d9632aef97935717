"""A replica that signs: it makes the root, publishes it while it leads, and follows a new one."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from l4.identity.authority import certificate_request
from l4.identity.istio_ca import IstioCa
from policies.attributes import Identity
from tests.kit.aio import run
from tests.waypoint.controller.accounts import AccountsServer, accounts_server
from tests.waypoint.controller.pieces import Node, cacerts
from tests.waypoint.controller.test_root_keeper import OPERATORS, config_map, namespace, secret
from waypoint.controller import root_keeper
from waypoint.controller.signing import Signing, SigningOptions

REVIEWS = Identity("cluster.local", "bookinfo", "reviews")


def test_what_is_published_is_what_signs_also_after_a_new_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_keeper, "POLL_SECONDS", 0.01)
    accounts, roots, token = AccountsServer(), tmp_path / "roots.pem", tmp_path / "token"
    namespace(accounts, "bookinfo")
    token.write_text(accounts.account("bookinfo", "reviews"))
    ready: list[bool] = []

    def published() -> str:
        return str(accounts.objects.get(config_map("bookinfo"), {}).get("data", {}).get("root-cert.pem", ""))

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the root's keeper has no event
                await asyncio.sleep(0.01)

    async def signed_roots(port: int) -> str:
        roots.write_text(published())
        client = IstioCa(f"localhost:{port}", root_path=roots, token_path=token, cluster_id="Kubernetes")
        try:
            return (await client.sign(REVIEWS, certificate_request(REVIEWS)[1])).trust_bundle_pem.decode()
        finally:
            await client.close()

    async def scenario() -> None:
        async with accounts_server(accounts) as client:
            options = SigningOptions("127.0.0.1:0", ("localhost",), ())
            signing = Signing(options, client, "pywaypoint-system", "cluster.local", lambda: ready.append(True))
            following = asyncio.create_task(signing.follow(lambda: True))
            await until(lambda: published() != "")
            first = published()
            assert await signed_roots(signing.port) == first
            accounts.refusal = (503, "ServiceUnavailable")
            await until(lambda: "it says ServiceUnavailable" in signing.concern)
            accounts.refusal = None
            root = Node("root")
            accounts.objects[OPERATORS] = secret(cacerts(root, roots=(root,)))
            await until(lambda: published() == root.pem.decode())
            assert await signed_roots(signing.port) == root.pem.decode()
            assert ready == [True]
            following.cancel()
            await signing.close()

    run(scenario())
