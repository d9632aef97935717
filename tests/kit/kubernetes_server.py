"""An API server over HTTP that emulates what clients depend on, and fails when a test wants it to.

It serves the resources in `served`, and 404 for others. Emulated are: lists in pages with `limit` and `continue`,
watches with `sendInitialEvents` and bookmarks, 410 as an ERROR event and as a status, 401 for other tokens, create,
replace and merge with 409 for an old resource version (of `status` too), delete, selectors of fields and labels with
`=`, and port-forwarding over WebSockets. Not emulated: authorization, admission, schemas, server-side apply.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Object = dict[str, Any]
Event = tuple[str, str, Object]
"""Type, path of the object, object."""
END = "k8s.io/initial-events-end"


@dataclass
class KubernetesServer:
    """`objects` are by path of the object. The other fields are switches for a test."""

    address: str = ""
    served: set[str] = field(default_factory=lambda: {"configmaps", "leases"})
    kinds: dict[str, dict[str, tuple[str, bool]]] = field(default_factory=dict)
    """By path of an API group's version: the plural of a kind, its name, and whether its objects have a namespace."""
    forbidden: set[str] = field(default_factory=set)
    """Plurals that may not be listed, watched or written from now on."""
    tokens: set[str] = field(default_factory=set)
    has_streaming_lists: bool = True
    """Without them the answer is 422, as where the feature is off."""
    refusals: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    """What is answered first: status, reason, headers; one for each request."""
    events_before_cut: int | None = None
    """After so many events of a watch its connection is cut, once."""
    is_silent: bool = False
    body: bytes | None = None
    """The answer to everything, with status 200."""
    hangs: asyncio.Event | None = None
    """Requests wait for it."""
    oldest: int = 0
    """Watches from an older version get 410."""
    has_http_gone: bool = False
    version: int = 100
    objects: dict[str, Object] = field(default_factory=dict)
    history: list[tuple[int, Event]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    seen_tokens: list[str] = field(default_factory=list)
    peers: list[dict[str, Any] | None] = field(default_factory=list)
    forwards: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Where connections to the ports of a pod go, by path of the pod; with port 0 the pod refuses them."""
    logs: dict[str, str] = field(default_factory=dict)
    """Of pods, by path of the pod."""
    watches: list[tuple[web.Request, "asyncio.Queue[Event]"]] = field(default_factory=list)

    def serve(self, path: str, kind: str, *, is_namespaced: bool = True) -> str:
        """Serves a kind at `/apis/GROUP/VERSION` or `/api/v1`, in discovery too. Returns the path of its objects."""
        plural = f"{kind.lower().removesuffix('y')}{'ies' if kind.endswith('cy') else 'y' * kind.endswith('y') + 's'}"
        self.kinds.setdefault(path, {})[plural] = kind, is_namespaced
        self.served.add(plural)
        return f"{path}/{plural}"

    def withdraw(self, collection: str) -> None:
        """Serves a kind no longer, as when its CRD is deleted, and cuts all watches. `serve` returned `collection`."""
        path, _, plural = collection.rpartition("/")
        del self.kinds[path][plural]
        self.served.discard(plural)
        self.objects = {it: content for it, content in self.objects.items() if it.split("/")[-2] != plural}
        self.cut()

    def put(self, path: str, content: Object | None = None, *, is_told: bool = True) -> Object:
        """Stores an object, and tells the watches unless `is_told` is False, which no watch makes up for."""
        self.version += 1
        collection, _, name = path.rpartition("/")
        parts = collection.split("/")
        place = {"namespace": parts[parts.index("namespaces") + 1]} if "namespaces" in parts[:-1] else {}
        before = self.objects.get(path)
        meta = (content or {}).get("metadata", {}) | {"name": name, "resourceVersion": str(self.version)} | place
        self.objects[path] = (content or {}) | {"metadata": meta}
        if is_told:
            self._tell("MODIFIED" if before else "ADDED", path, self.objects[path])
        return self.objects[path]

    def remove(self, path: str, *, is_told: bool = True) -> None:
        self.version += 1
        gone = self.objects.pop(path)
        if is_told:
            self._tell("DELETED", path, gone | {"metadata": gone["metadata"] | {"resourceVersion": str(self.version)}})

    def bookmark(self) -> None:
        self.version += 1
        self._send_all(("BOOKMARK", "", {"metadata": {"resourceVersion": str(self.version)}}))

    def error(self, code: int, reason: str) -> None:
        """An ERROR event in all watches."""
        self._send_all(("ERROR", "", _status(code, reason)))

    def forget(self) -> None:
        """Compacts the history, as etcd does every five minutes."""
        self.oldest = self.version + 1
        self.version += 1
        self.history.clear()

    def cut(self) -> None:
        """Cuts the connections of all watches."""
        for request, _ in self.watches:
            if request.transport is not None:
                request.transport.abort()

    def _tell(self, kind: str, path: str, content: Object) -> None:
        self.history.append((self.version, (kind, path, content)))
        self._send_all((kind, path, content))

    def _send_all(self, event: Event) -> None:
        for request, queue in self.watches:
            if not event[1] or _is_asked(request, event[1], event[2]):
                queue.put_nowait(event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        self.peers.append(request.transport.get_extra_info("peercert") if request.transport else None)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.seen_tokens.append(token)
        if self.tokens and token not in self.tokens:
            return _refuse(401, "Unauthorized")
        if self.refusals:
            code, reason, headers = self.refusals.pop(0)
            return _refuse(code, reason, headers)
        if self.hangs is not None:
            await self.hangs.wait()
        if self.body is not None:
            return web.Response(body=self.body)
        if request.method != "GET":
            return await self._write(request)
        if request.path.rpartition("/")[2] in self.forbidden:
            return _refuse(403, "Forbidden")
        if (found := self._discovered(request.path)) is not None:
            return web.json_response(found)
        if request.query.get("watch") == "true" and request.path.rpartition("/")[2] in self.served:
            return await self._watch(request)
        pod, _, subresource = request.path.rpartition("/")
        if subresource == "portforward" and pod in self.forwards:
            return await _forward(request, self.forwards[pod])
        if subresource == "log" and pod in self.logs:
            return web.Response(text=self.logs[pod])
        if request.path in self.objects:
            return web.json_response(self.objects[request.path])
        if request.path.rpartition("/")[2] not in self.served:
            return _refuse(404, "NotFound")
        return self._list(request)

    def _discovered(self, path: str) -> Object | None:
        """What kinds there are: of one version, or the versions of a group."""
        if (kinds := self.kinds.get(path)) is not None:
            its = [{"name": plural, "kind": kind, "namespaced": has} for plural, (kind, has) in kinds.items()]
            return {"resources": [*its, {"name": "pods/status", "kind": "Pod", "namespaced": True}]}
        versions = [it.rpartition("/")[2] for it in self.kinds if it.rpartition("/")[0] == path]
        if path == "/api":
            return {"versions": versions} if versions else None
        return {"versions": [{"version": it} for it in versions]} if versions else None

    async def _write(self, request: web.Request) -> web.Response:
        path = request.path.removesuffix("/status")
        if self.forbidden & {*path.split("/")[-2:]}:
            return _refuse(403, "Forbidden")
        if request.method == "DELETE":
            if path not in self.objects:
                return _refuse(404, "NotFound")
            self.remove(path)
            return web.json_response(_status(200, ""))
        content = await request.json()
        if request.method == "POST":
            path = f"{path}/{content['metadata']['name']}"
            if path in self.objects:
                return _refuse(409, "AlreadyExists")
        elif path not in self.objects:
            return _refuse(404, "NotFound")
        elif content.get("metadata", {}).get("resourceVersion", version := self._version(path)) != version:
            return _refuse(409, "Conflict")
        if request.method == "PATCH":
            uid = self.objects[path]["metadata"].get("uid")
            if content.get("metadata", {}).get("uid", uid) != uid:
                return _refuse(409, "Conflict")
            assert request.content_type == "application/merge-patch+json"
            content = _merged(self.objects[path], content)
        return web.json_response(self.put(path, content))

    def _version(self, path: str) -> str:
        return str(self.objects[path]["metadata"]["resourceVersion"])

    def _asked(self, request: web.Request) -> list[str]:
        return sorted(path for path, content in self.objects.items() if _is_asked(request, path, content))

    def _list(self, request: web.Request) -> web.Response:
        paths = self._asked(request)
        begin = int(request.query.get("continue", "0"))
        end = begin + int(request.query.get("limit", "500"))
        meta = {"resourceVersion": str(self.version)} | ({"continue": str(end)} if end < len(paths) else {})
        return web.json_response({"metadata": meta, "items": [self.objects[it] for it in paths[begin:end]]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        is_list = request.query.get("sendInitialEvents") == "true"
        if is_list and not self.has_streaming_lists:
            return _refuse(422, "Invalid")
        since = self.version if is_list else int(request.query["resourceVersion"])
        is_gone = not is_list and since < self.oldest
        if is_gone and self.has_http_gone:
            return _refuse(410, "Expired")
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self.watches.append((request, queue))
        if is_gone:
            queue.put_nowait(("ERROR", "", _status(410, "Expired")))
        elif is_list:
            self._begin(request, queue)
        else:
            for version, event in self.history:
                if version > since and _is_asked(request, event[1], event[2]):
                    queue.put_nowait(event)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
            while True:
                kind, _, content = await queue.get()
                if self.is_silent:
                    continue
                if self.events_before_cut == 0:
                    self.events_before_cut = None
                    assert request.transport is not None
                    request.transport.abort()
                await response.write(json.dumps({"type": kind, "object": content}).encode() + b"\n")
                if kind == "ERROR":
                    return response
                if self.events_before_cut is not None:
                    self.events_before_cut -= 1
        finally:
            self.watches.remove((request, queue))

    def _begin(self, request: web.Request, queue: "asyncio.Queue[Event]") -> None:
        for path in self._asked(request):
            queue.put_nowait(("ADDED", path, self.objects[path]))
        meta = {"resourceVersion": str(self.version), "annotations": {END: "true"}}
        queue.put_nowait(("BOOKMARK", "", {"metadata": meta}))


@asynccontextmanager
async def kubernetes_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[KubernetesServer]:
    server = KubernetesServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        server.address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield server
    finally:
        server.cut()
        await runner.cleanup()


def _is_asked(request: web.Request, path: str, content: Object) -> bool:
    """Whether a list or a watch is of the object."""
    if not _is_in(path, request.path):
        return False
    labels = content["metadata"].get("labels", {})
    for wanted in filter(None, request.query.get("labelSelector", "").split(",")):
        name, equals, value = wanted.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    for wanted in filter(None, request.query.get("fieldSelector", "").split(",")):
        names, _, value = wanted.partition("=")
        found: Any = content
        for name in names.split("."):
            found = found.get(name, {})
        if found != value:
            return False
    return True


async def _forward(request: web.Request, to: tuple[str, int]) -> web.WebSocketResponse:
    """As the kubelet does: the first message of both channels is the port, then data, or one error."""
    near = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
    await near.prepare(request)
    port = int(request.query["ports"]).to_bytes(2, "little")
    await near.send_bytes(b"\0" + port)
    await near.send_bytes(b"\1" + port)
    if not to[1]:
        await near.send_bytes(b"\1connection refused")
        await near.close()
        return near
    reader, writer = await asyncio.open_connection(*to)

    async def answers() -> None:
        while data := await reader.read(65536):
            await near.send_bytes(b"\0" + data)
        await near.close()

    answering = asyncio.ensure_future(answers())
    async for message in near:
        assert message.data[:1] == b"\0"
        writer.write(message.data[1:])
    answering.cancel()
    writer.close()
    return near


def _is_in(path: str, collection: str) -> bool:
    """Whether the object is in a collection, of one namespace or of all."""
    begin, _, plural = collection.rpartition("/")
    return path.startswith(begin) and path.split("/")[-2] == plural


def _status(code: int, reason: str) -> Object:
    message = f"the emulator says {reason}"
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def _refuse(code: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(_status(code, reason), status=code, headers=headers)


def _merged(before: Object, patch: Object) -> Object:
    """RFC 7386."""
    merged = dict(before)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merged(merged.get(name) or {}, value)
        else:
            merged[name] = value
    return merged
