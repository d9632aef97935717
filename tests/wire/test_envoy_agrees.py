"""Every request of the corpus, sent to a real Envoy. README.md must give a reason for every different verdict.

The expected verdict is the corpus', and `test_requests.py` proves it for our waypoint. Verdicts agree if the same
requests are answered with 200, the others are refused with any status, and the same bytes go upstream, except for the
order of fields and the additions of a waypoint.
"""

import asyncio
import re
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from tests.kit import envoy
from tests.kit.aio import run
from tests.kit.mesh import address
from tests.wire.application import Application, application, without_added
from tests.wire.corpus import FOLDER, RequestCase, requests

pytestmark = pytest.mark.envoy
SECONDS = 50
ROW = re.compile(r"^\| (.+?: .+?) \| (.*?) \| (.*?) \| (\S.*) \|$", re.MULTILINE)
WIDTH = 90


@dataclass(frozen=True, slots=True)
class Verdict:
    statuses: tuple[int, ...]
    upstream: bytes

    def is_like(self, other: "Verdict") -> bool:
        is_ok, others = ([status == 200 for status in it.statuses] for it in (self, other))
        return is_ok == others and sorted(self.lines) == sorted(other.lines)

    @property
    def lines(self) -> list[bytes]:
        return self.upstream.split(b"\r\n")

    def described(self, other: "Verdict") -> str:
        """For the table: the statuses, and what goes upstream here only."""
        only = [line.decode("latin-1") for line in self.lines if line not in other.lines]
        text = ", ".join([", ".join(map(str, self.statuses)), *(f"`{line}`" for line in only if line)])
        text = re.sub(r"[^ -~]", lambda match: f"\\x{ord(match[0]):02x}", text)
        return text if len(text) <= WIDTH else text[:WIDTH] + "…"


def test_every_difference_from_envoy_is_listed_with_its_reason() -> None:
    cases = requests()
    places = [((address(), 15080), (address(), 15081)) for _ in cases]

    with envoy.run(envoy.http_proxies(places), ready=places[-1][0]):
        verdicts = run(_verdicts(cases, places), SECONDS)

    rows = set(_differences(cases, verdicts))
    listed = {match.groups()[:3] for match in ROW.finditer(FOLDER.joinpath("README.md").read_text())}
    missing, gone = (["| " + " | ".join(row) for row in sorted(it)] for it in (rows - listed, listed - rows))
    assert not missing, "README.md does not list:\n" + "\n".join(missing)
    assert not gone, "README.md lists what is not so:\n" + "\n".join(gone)


def _differences(cases: list[RequestCase], verdicts: list[Verdict]) -> Iterable[tuple[str, str, str]]:
    for case, envoys in zip(cases, verdicts, strict=True):
        ours = Verdict(case.statuses, case.upstream)
        if not ours.is_like(envoys):
            yield case.name, ours.described(envoys), envoys.described(ours)


async def _verdicts(cases: list[RequestCase], places: list[tuple[envoy.Address, envoy.Address]]) -> list[Verdict]:
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(application(*to)) for _, to in places]
        return await asyncio.gather(
            *(_sent(case, *listen, app) for case, (listen, _), app in zip(cases, places, apps, strict=True))
        )


async def _sent(case: RequestCase, host: str, port: int, app: Application) -> Verdict:
    """What Envoy answers until it closes, and what came of it."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(case.send)
    answer = b""
    try:
        while data := await reader.read(65_536):
            answer += data
    except ConnectionError:
        pass  # it closes while something lies unread
    writer.close()
    statuses = tuple(map(int, re.findall(rb"HTTP/1\.1 ([0-9]{3})", answer)))
    return Verdict(statuses, b"".join(without_added(request, case.upstream) for request in app.requests))
