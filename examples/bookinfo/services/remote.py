"""Calling another service: find it by the environment, pass on what belongs to the request, and never wait for ever.

A service is where `<NAME>_HOSTNAME` and `<NAME>_SERVICE_PORT` say (default: its name and 9080). A call that fails is a
value, `Unavailable`, because a page with one empty box is better than no page. Nothing is retried here.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, DummyCookieJar

from services.serving import DEFAULT_PORT

FORWARDED = (
    "traceparent",
    "tracestate",
    "x-request-id",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "user-agent",
)
END_USER = "end-user"
"""Who is signed in. Only the product page may decide that; the others pass it on."""

MAX_BODY_BYTES = 64 * 1024
MAX_REASON_CHARACTERS = 160

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    document: T
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Unavailable:
    """`status` is what the other side said, or the status of a gateway that got no answer."""

    service: str
    status: int
    reason: str


class Remote:
    """One other service. Shares the session, and so its kept-alive connections."""

    def __init__(self, session: ClientSession, service: str, timeout_seconds: float) -> None:
        variable = service.upper()
        host = os.environ.get(f"{variable}_HOSTNAME", service)
        port = os.environ.get(f"{variable}_SERVICE_PORT", str(DEFAULT_PORT))
        self._session = session
        self._service = service
        self._origin = f"http://{host}:{port}"
        self._timeout_seconds = timeout_seconds

    async def get(self, path: str, headers: Mapping[str, str], kind: type[T]) -> Answer[T] | Unavailable:
        started = time.monotonic()
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._session.get(self._origin + path, headers=headers, allow_redirects=False) as response,
            ):
                status, body = response.status, await _body(response)
        except TimeoutError:
            return Unavailable(self._service, 504, f"no answer within {self._timeout_seconds:g} s")
        except ClientConnectorError:
            return Unavailable(self._service, 503, f"{self._origin} does not accept connections")
        except ClientError as error:
            return Unavailable(self._service, 502, str(error) or type(error).__name__)
        if status != 200:
            return Unavailable(self._service, status, body.decode(errors="replace").strip()[:MAX_REASON_CHARACTERS])
        try:
            document = msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            return Unavailable(self._service, 502, f"the answer is not understood: {error}")
        return Answer(document, (time.monotonic() - started) * 1000)


def open_session() -> ClientSession:
    """Cookies are between the browser and the product page: none is kept, none is passed on."""
    return ClientSession(cookie_jar=DummyCookieJar())


def forwarded(headers: Mapping[str, str], names: tuple[str, ...] = FORWARDED) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


async def _body(response: ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ClientError(f"the answer is longer than {MAX_BODY_BYTES} bytes")
    return bytes(body)
