"""An API server, as far as the certificate authority needs one: TokenReview, pods by field selector, and plain objects
in Secrets, ConfigMaps and Namespaces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from l4.kubernetes.client import ApiClient
from l4.kubernetes.credentials import Credentials, Secrets, Trust

Object = dict[str, Any]
POD_NAME, POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"


class _Controller:
    """Who the client is to the API server."""

    keep_seconds = 3600.0

    async def secrets(self) -> Secrets:
        return Secrets("controller")


@dataclass
class AccountsServer:
    """`tokens` maps a token to its review's status; `objects` maps a path to an object."""

    address: str = ""
    tokens: dict[str, Object] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)
    objects: dict[str, Object] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    """The status and reason of every answer."""
    forbidden: set[str] = field(default_factory=set)
    """Paths at which nothing may be written."""
    created_by_another: dict[str, Object] = field(default_factory=dict)
    """Objects that somebody creates just before us."""
    asked: list[str] = field(default_factory=list)

    def account(
        self, namespace: str, name: str, pod: str = "", uid: str = "", audiences: tuple[str, ...] = ("istio-ca",)
    ) -> str:
        """Return a good token of a service account."""
        extra = {POD_NAME: [pod], POD_UID: [uid]} if pod else {}
        user = {"username": f"system:serviceaccount:{namespace}:{name}", "extra": extra}
        token = f"token-{len(self.tokens)}"
        self.tokens[token] = {"authenticated": True, "user": user, "audiences": list(audiences)}
        return token

    def pod(self, namespace: str, name: str, account: str, node: str, uid: str = "uid", phase: str = "Running") -> None:
        spec = {"serviceAccountName": account} | ({"nodeName": node} if node else {})
        about = {"namespace": namespace, "name": name, "uid": uid}
        self.pods.append({"metadata": about, "spec": spec, "status": {"phase": phase}})

    def client(self) -> ApiClient:
        return ApiClient(Credentials(self.address, Trust(), _Controller()))

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        if self.refusal is not None:
            return _status(*self.refusal)
        if request.path == "/apis/authentication.k8s.io/v1/tokenreviews":
            return self._review(await request.json())
        if request.path.startswith("/api/v1/namespaces/") and request.path.endswith("/pods"):
            return web.json_response({"items": self._pods(request)})
        if request.method == "GET":
            return self._read(request)
        content = await request.json()
        path = request.path
        if path in self.forbidden:
            return _status(403, "Forbidden")
        if request.method == "POST":
            path = f"{path}/{content['metadata']['name']}"
            if path in self.created_by_another:
                self.objects[path] = self.created_by_another.pop(path)
            if path in self.objects:
                return _status(409, "AlreadyExists")
            self.objects[path] = content
        else:
            if path not in self.objects:
                return _status(404, "NotFound")
            self.objects[path] = self.objects[path] | content
        return web.json_response(self.objects[path])

    def _review(self, review: Object) -> web.Response:
        spec = review["spec"]
        assert spec["audiences"] == ["istio-ca"]
        status = self.tokens.get(spec["token"], {"authenticated": False, "error": "invalid bearer token"})
        return web.json_response(review | {"status": status}, status=201)

    def _pods(self, request: web.Request) -> list[Object]:
        name, _, value = request.query["fieldSelector"].partition("=")
        section, _, leaf = name.partition(".")
        namespace = request.path.split("/")[4]
        own = [it for it in self.pods if it["metadata"]["namespace"] == namespace]
        return [it for it in own if it[section].get(leaf) == value]

    def _read(self, request: web.Request) -> web.Response:
        if request.path in self.objects:
            return web.json_response(self.objects[request.path])
        collection, kind = request.path.rpartition("/")[::2]
        if kind not in ("configmaps", "namespaces"):
            return _status(404, "NotFound")
        found = [it for path, it in self.objects.items() if path.startswith(collection) and path.split("/")[-2] == kind]
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": found})


def _status(code: int, reason: str) -> web.Response:
    content = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": f"it says {reason}"}
    return web.json_response(content, status=code)


@asynccontextmanager
async def accounts_server(server: AccountsServer) -> AsyncIterator[ApiClient]:
    """Yields a client of it. The server is gone when the block ends."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = server.client()
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()
