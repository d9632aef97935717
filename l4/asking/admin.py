"""A client of one administration port: pages, tables and live streams."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import urlencode

import click

from l4.aiohttp import aiohttp
from l4.kubernetes.port_forward import Forward
from l4.partial import LACKS

ANSWER_SECONDS = 20.0
CONNECT_SECONDS = 10.0
SILENT_SECONDS = 30.0
"""A live stream says something every few seconds."""
MAX_ANSWER_BYTES = 256 << 20
MAX_LINE_BYTES = 1 << 20

Query = Mapping[str, str] | Sequence[tuple[str, str]]


class CannotAsk(Exception):
    """A program could not be asked. The message names it and says why."""


class Refused(CannotAsk):
    """The program answered with an error."""

    def __init__(self, name: str, status: int, said: str) -> None:
        super().__init__(f"{name}: {said} ({status})")
        self.status = status
        self.said = said


class Admin:
    """The administration port of one program. `name` is how messages and tables call it. `hint` says what to do if it
    does not answer."""

    def __init__(self, name: str, address: str, forward: Forward | None = None, hint: str = "") -> None:
        self.name = name
        self._hint = hint
        self._base = f"http://{address}"
        self._forward = forward
        connector = (
            aiohttp.TCPConnector(limit=8) if forward is None else aiohttp.UnixConnector(str(forward.socket), limit=8)
        )
        self._session = aiohttp.ClientSession(
            connector=connector, read_bufsize=MAX_LINE_BYTES, max_line_size=MAX_LINE_BYTES
        )

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str, query: Query = ()) -> bytes:
        """Raises CannotAsk."""
        return await self._ask("GET", path, query)

    async def post(self, path: str, query: Query = ()) -> str:
        """Raises CannotAsk."""
        return (await self._ask("POST", path, query)).decode(errors="replace").strip()

    async def json(self, path: str, query: Query = ()) -> Any:
        """Raises CannotAsk."""
        text = await self.get(path, query)
        try:
            return json.loads(text)
        except ValueError as error:
            raise CannotAsk(f"{self.name} sent an unexpected answer ({error}); it may be another version") from None

    @asynccontextmanager
    async def opened(self, path: str, query: Query, silent_seconds: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield an answer whose body has not been read, whatever its status. Raises CannotAsk, also if the program says
        nothing for so long."""
        timeout = aiohttp.ClientTimeout(connect=CONNECT_SECONDS, sock_read=silent_seconds)
        with self._answering():
            async with self._session.get(_url(self._base, path, query), timeout=timeout) as answer:
                yield answer

    async def lines(self, path: str, query: Query) -> AsyncIterator[dict[str, Any]]:
        """Yield the objects of a live stream until it ends. Raises CannotAsk."""
        timeout = aiohttp.ClientTimeout(connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS + 60)
        with self._answering():
            async with self._session.get(_url(self._base, path, query), timeout=timeout) as answer:
                await self._check(path, answer)
                with suppress(aiohttp.ClientPayloadError):  # the program ends
                    async for line in answer.content:
                        yield json.loads(line)

    async def _ask(self, method: str, path: str, query: Query) -> bytes:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=CONNECT_SECONDS)
        with self._answering():
            async with self._session.request(method, _url(self._base, path, query), timeout=timeout) as answer:
                await self._check(path, answer)
                if (lack := answer.headers.get(LACKS)) is not None:
                    click.echo(f"{self.name}: the answer of {path} is not whole: {lack}", err=True)
                parts, size = [], 0
                async for part in answer.content.iter_any():
                    parts.append(part)
                    size += len(part)
                    if size > MAX_ANSWER_BYTES:
                        raise CannotAsk(f"{self.name}: the answer of {path} has more than {MAX_ANSWER_BYTES} bytes")
                return b"".join(parts)

    async def _check(self, path: str, answer: aiohttp.ClientResponse) -> None:
        if answer.status >= 400:
            said = (await answer.content.read(4096)).decode(errors="replace").strip()
            if answer.status == 404:
                said = f"it has no page {path}; check that it is the administration port of the right program"
            raise Refused(self.name, answer.status, said or answer.reason or "")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if self._forward is not None and self._forward.failure is not None:
                raise CannotAsk(f"{self.name}: {self._forward.failure}") from None
            if isinstance(error, aiohttp.ClientConnectorError):
                raise CannotAsk(
                    f"the administration port of {self.name} cannot be reached: {error.os_error}{self._hint}"
                ) from None
            said = str(error) or "not in time"
            raise CannotAsk(f"the administration port of {self.name} gives no answer: {said}") from None
        except ValueError as error:
            raise CannotAsk(f"{self.name} sent an unexpected line ({error}); it may be another version") from None


def _url(base: str, path: str, query: Query) -> str:
    return f"{base}{path}?{urlencode(query)}" if query else f"{base}{path}"
