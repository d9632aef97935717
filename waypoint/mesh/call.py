"""Send requests and run programs as one of the mesh's pods: with its identity, to the Services that it sees.

A pod's connections are recognized by their destination, a block of 127.0.0.0/8 per pod. Whoever connects to that block
is that pod for the mesh.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from yarl import URL

from l4.aiohttp import aiohttp
from waypoint.mesh.environment import resolve_hosts
from waypoint.mesh.running import RunningPod

TIMEOUT_SECONDS = 30.0


class CannotCall(Exception):
    """The pod does not see the Service, or the program cannot be started."""


@dataclass(frozen=True, slots=True)
class Request:
    """`target` is `HOST[:PORT][/PATH]`, as the pod would write it after `http://`."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0 means no response; `reason` then says why."""

    status: int
    seconds: float
    reason: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


def execute(pod: RunningPod, command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by the command, with the pod's environment.

    Names of Services in its arguments are replaced by addresses. Raises CannotCall.
    """
    program, *arguments = command
    resolved = [resolve_hosts(argument, pod.addresses, is_host=True) for argument in arguments]
    try:
        os.execvpe(program, [program, *resolved], {**environment, **pod.environment})  # noqa: S606  intentionally without a shell
    except OSError as error:
        raise CannotCall(f"{program} cannot be started: {error.strerror}") from None


class Caller:
    """Sends one request again and again as a pod, over at most `connections`. Raises CannotCall when created."""

    def __init__(self, pod: RunningPod, request: Request, connections: int) -> None:
        host, self._url = _place(pod, request.target)
        names_host = any(name.lower() == "host" for name, _ in request.headers)
        self._headers = [*([] if names_host else [("host", host)]), *request.headers]
        self._request = request
        self._turns = asyncio.Semaphore(connections)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Caller":
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            connector=aiohttp.TCPConnector(limit=self._connections),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self) -> Answer:
        """Send the request once, as soon as a connection is free."""
        assert self._session is not None
        async with self._turns:
            return await _ask(self._session, self._request, self._url, self._headers)


async def call(pod: RunningPod, request: Request, count: int = 1, at_once: int = 1) -> list[Answer]:
    """Send `count` requests, at most `at_once` concurrently, and return the answers. Raises CannotCall."""
    async with Caller(pod, request, at_once) as caller:
        return await asyncio.gather(*(caller.ask() for _ in range(count)))


async def _ask(
    session: aiohttp.ClientSession, request: Request, url: URL, headers: Sequence[tuple[str, str]]
) -> Answer:
    started = time.monotonic()
    try:
        async with session.request(
            request.method, url, headers=headers, data=request.body or None, allow_redirects=False
        ) as answer:
            body = await answer.read()
            return Answer(
                answer.status, time.monotonic() - started, answer.reason or "", [*answer.headers.items()], body
            )
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or f"no answer within {TIMEOUT_SECONDS:g} s"
        return Answer(0, time.monotonic() - started, reason)


def _place(pod: RunningPod, target: str) -> tuple[str, URL]:
    """Return the host as the pod names it, and the URL at which it is reachable."""
    try:
        url = URL(f"http://{target}")
        service = pod.services.get(url.host or "")
    except ValueError as error:
        raise CannotCall(f"{target!r} is not of the form HOST[:PORT][/PATH]: {error}") from None
    if service is None:
        raise CannotCall(f"{pod.key} sees no Service {url.host}; it sees {', '.join(sorted(_shortest(pod)))}")
    port = url.explicit_port or service.port or 80
    return f"{url.host}:{port}", url.with_host(service.address).with_port(port)


def _shortest(pod: RunningPod) -> set[str]:
    """Return the shortest name of each Service."""
    names: dict[str, str] = {}
    for name, service in pod.services.items():
        names[service.address] = min(names.get(service.address, name), name, key=len)
    return set(names.values())


def as_text(answers: Sequence[Answer]) -> str:
    """Return a single answer in full, or a summary of several: counts by status, and durations."""
    if len(answers) == 1:
        (answer,) = answers
        if not answer.status:
            return f"no answer: {answer.reason}"
        head = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in answer.headers)]
        return "\n".join([*head, "", answer.body.decode(errors="replace")])
    statuses = Counter(str(answer.status or f"no answer: {answer.reason}") for answer in answers)
    took = sorted(answer.seconds * 1000 for answer in answers)
    lines = [f"{count:>6} × {status}" for status, count in sorted(statuses.items())]
    lines.append(f"duration: minimum {took[0]:.0f} ms, median {took[len(took) // 2]:.0f} ms, maximum {took[-1]:.0f} ms")
    return "\n".join(lines)


def values(answers: Sequence[Answer]) -> list[dict[str, object]]:
    """Return an object per answer."""
    return [
        {
            "status": answer.status,
            "reason": answer.reason,
            "milliseconds": round(answer.seconds * 1000, 3),
            "headers": [list(header) for header in answer.headers],
            "body": answer.body.decode(errors="replace"),
        }
        for answer in answers
    ]
