"""Requests to an API server: read, list, watch, apply, patch, delete (kubernetes.io/docs/reference/using-api).

Objects stay JSON until the caller names their type, so a list of ten thousand pods is decoded only as far as it is
read. One pool of at most `MAX_CONNECTIONS` connections serves all requests, watches included.
"""

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from yarl import URL

from l4.aiohttp import aiohttp
from l4.kubernetes.credentials import ClientCertificate, Credentials, CredentialsError, Secrets

MAX_CONNECTIONS = 64
MAX_OBJECT_BYTES = 8 << 20
"""An object is at most 1.5 MiB in etcd, about twice that as JSON."""
MAX_ANSWER_BYTES = 256 << 20
"""A page has 500 objects, of a few KiB each."""
REQUEST_SECONDS = 30.0
SILENT_SECONDS = 90.0
"""A watch without a word for so long is taken for dead: bookmarks come each minute."""
MAX_RETRY_SECONDS = 60.0
FIELD_MANAGER = "pywaypoint.dev"
_MANAGED = {"fieldManager": FIELD_MANAGER}


class ApiError(Exception):
    """The API server could not be asked, or refused. `code` is the HTTP status, 0 when there was no answer; `reason`
    is the server's, such as `NotFound`, `Conflict`, `Expired` and `Forbidden`. `retry_seconds` is how long the server
    wants the client to wait."""

    def __init__(self, code: int, reason: str, message: str, retry_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_seconds = retry_seconds

    @property
    def is_gone(self) -> bool:
        """The resource version is too old to go on from: list again."""
        return self.code == 410 or self.reason in ("Expired", "Gone")


class Status(msgspec.Struct):
    """The server's account of a failure (meta/v1 Status)."""

    message: str = ""
    reason: str = ""
    code: int = 0


class ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class ObjectList(msgspec.Struct):
    """One page of a list; objects are not decoded."""

    metadata: ListMeta
    items: list[msgspec.Raw] = []


class WatchEvent(msgspec.Struct):
    """`object` is a Status when the type is ERROR, and has nothing but a resource version when it is BOOKMARK."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: msgspec.Raw


@dataclass(frozen=True, slots=True)
class ResourceType:
    """How the API server names a kind in paths. `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of one object, or of all objects of one namespace or of the cluster."""
        begin = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if namespace and self.is_namespaced else ""
        rest = "".join(f"/{it}" for it in (name, subresource) if it)
        return f"{begin}{inside}/{self.plural}{rest}"

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


_status = msgspec.json.Decoder(Status)
_page = msgspec.json.Decoder(ObjectList)
_event = msgspec.json.Decoder(WatchEvent)


class ApiClient:
    """Asks one API server. `close` ends its connections."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        silent_seconds: float = SILENT_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._credentials = credentials
        self._request_timeout = aiohttp.ClientTimeout(total=request_seconds)
        self._watch_timeout = aiohttp.ClientTimeout(connect=request_seconds, sock_read=silent_seconds)
        self._session: aiohttp.ClientSession | None = None
        self._tls: tuple[ClientCertificate | None, ssl.SSLContext] | None = None

    @property
    def server(self) -> str:
        return self._credentials.server

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        return await self._ask("GET", path, query)

    async def create(self, path: str, content: Any) -> bytes:
        return await self._ask("POST", path, _MANAGED, msgspec.json.encode(content), "application/json")

    async def replace(self, path: str, content: Any) -> bytes:
        return await self._ask("PUT", path, _MANAGED, msgspec.json.encode(content), "application/json")

    async def apply(self, path: str, content: Any, *, manager: str = FIELD_MANAGER, force: bool = False) -> bytes:
        """Server-side apply: `content` has the fields that `manager` wants to own."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._ask("PATCH", path, query, msgspec.json.encode(content), "application/apply-patch+yaml")

    async def merge(self, path: str, content: Any) -> bytes:
        """JSON merge patch (RFC 7386)."""
        return await self._ask("PATCH", path, _MANAGED, msgspec.json.encode(content), "application/merge-patch+json")

    async def delete(self, path: str) -> bytes:
        return await self._ask("DELETE", path, {"propagationPolicy": "Background"})

    async def pages(self, path: str, query: Mapping[str, str], page_size: int = 500) -> AsyncIterator[ObjectList]:
        """A list in pages, all of one resource version."""
        more = dict(query) | {"limit": str(page_size)}
        while True:
            text = await self._ask("GET", path, more)
            try:
                page = _page.decode(text)
            except (msgspec.DecodeError, RecursionError) as error:
                raise ApiError(0, "Undecodable", f"{path}: the list cannot be decoded: {error}") from None
            yield page
            if not page.metadata.continue_:
                return
            more["continue"] = page.metadata.continue_

    @asynccontextmanager
    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """Events until the server ends the watch, which it does every few minutes. Raises ApiError, for an ERROR event
        as well, whose HTTP status was 200."""
        async with self._send("GET", path, dict(query) | {"watch": "true"}, timeout=self._watch_timeout) as answer:
            yield self._events(path, answer.content)

    @asynccontextmanager
    async def websocket(
        self, path: str, query: Mapping[str, str], protocol: str
    ) -> AsyncIterator["aiohttp.ClientWebSocketResponse[bool]"]:
        """A WebSocket with this subprotocol. Raises ApiError, if the server refuses it as well."""
        with self._answering():
            secrets = await self._credentials.current()
            headers = {"User-Agent": "pywaypoint"}
            if secrets.token:
                headers["Authorization"] = f"Bearer {secrets.token}"
            try:
                async with self._opened().ws_connect(
                    URL(self.server + path).update_query(query), protocols=(protocol,), headers=headers,
                    ssl=self._context(secrets), server_hostname=self._credentials.trust.server_name or None,
                ) as socket:  # fmt: skip
                    yield socket
            except aiohttp.WSServerHandshakeError as error:
                raise ApiError(error.status, error.message, f"{path}: refused ({error.status})") from None

    async def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None, body: bytes = b"", content_type: str = ""
    ) -> bytes:
        async with self._send(method, path, query, body, content_type, timeout=self._request_timeout) as answer:
            parts, size = [], 0
            with self._answering():
                async for part in answer.content.iter_any():
                    parts.append(part)
                    size += len(part)
                    if size > MAX_ANSWER_BYTES:
                        raise ApiError(0, "TooLarge", f"{path}: the answer has more than {MAX_ANSWER_BYTES} bytes")
            return b"".join(parts)

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes = b"",
        content_type: str = "",
        *,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends one request, and once more with other credentials if the server refuses those of before. Raises
        ApiError."""
        headers = {"Accept": "application/json", "User-Agent": "pywaypoint"}
        if content_type:
            headers["Content-Type"] = content_type
        url = URL(self.server + path).update_query(query or {})
        async with AsyncExitStack() as stack:
            with self._answering():
                for is_last in (False, True):
                    secrets = await self._credentials.current()
                    if secrets.token:
                        headers["Authorization"] = f"Bearer {secrets.token}"
                    asked = self._opened().request(
                        method, url, data=body or None, headers=headers, timeout=timeout, allow_redirects=False,
                        ssl=self._context(secrets), server_hostname=self._credentials.trust.server_name or None,
                    )  # fmt: skip
                    answer = await stack.enter_async_context(asked)
                    if answer.status != 401:
                        break
                    self._credentials.refused(secrets)
                    if is_last or await self._credentials.current() == secrets:
                        break
                    answer.release()
                if answer.status >= 300:
                    raise await _refusal(path, answer)
            yield answer

    async def _events(self, path: str, content: aiohttp.StreamReader) -> AsyncIterator[WatchEvent]:
        rest = b""
        with self._answering():
            async for chunk in content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_OBJECT_BYTES:
                    raise ApiError(0, "TooLarge", f"{path}: an event has more than {MAX_OBJECT_BYTES} bytes")
                for line in filter(None, lines):
                    yield _event_of(path, line)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Whatever goes wrong while the server is asked is an ApiError."""
        try:
            yield
        except CredentialsError as error:
            raise ApiError(0, "Credentials", str(error)) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                self._tls = None  # the file of the authorities may have been replaced
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            said = str(cause) or type(cause).__name__
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                said = "no connection in time"  # its own text has the query, which differs from one watch to the next
            sentence = f"the API server {self.server} gave no usable answer: {said}"
            raise ApiError(0, "Unreachable", sentence) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(
                connector=connector, read_bufsize=1 << 18, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    def _context(self, secrets: Secrets) -> ssl.SSLContext:
        if self._tls is None or self._tls[0] != secrets.certificate:
            self._tls = secrets.certificate, self._credentials.trust.context(secrets.certificate)
        return self._tls[1]


def _event_of(path: str, line: bytes) -> WatchEvent:
    """Raises ApiError, for an ERROR event as well."""
    try:
        event = _event.decode(line)
        status = _status.decode(event.object) if event.type == "ERROR" else None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiError(0, "Undecodable", f"{path}: an event cannot be decoded: {error}") from None
    if status is not None:
        raise _refused(path, status, 500)
    return event


async def _refusal(path: str, answer: aiohttp.ClientResponse) -> ApiError:
    text = await answer.content.read(65536)
    try:
        status = _status.decode(text)
    except (msgspec.DecodeError, RecursionError):
        status = Status(text[:200].decode(errors="replace").strip())
    wanted = answer.headers.get("Retry-After", "")
    retry_seconds = min(float(wanted), MAX_RETRY_SECONDS) if wanted.isdecimal() else 0.0
    return _refused(path, status, answer.status, retry_seconds)


def _refused(path: str, status: Status, code: int, retry_seconds: float = 0.0) -> ApiError:
    code = status.code or code
    said = " ".join(filter(None, (str(code), status.reason)))
    sentence = f"{path}: {status.message or 'refused'} ({said})"
    return ApiError(code, status.reason, sentence, retry_seconds)
