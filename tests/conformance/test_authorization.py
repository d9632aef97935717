"""The table of authorization cases through real tunnels: one mesh, one policy after the other, one request each."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from l4.hbone.errors import TunnelRefused
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import answering, origin
from tests.policies.authorization_cases import CASES, TCP_PORT, VIP, Ask, Case

IN_TUNNELS = [case for case in CASES if case.ask.account and case.ask.claims is None]
_LOGGED = re.compile(r'" (\d+) \S+ (\S+) ').search


@asynccontextmanager
async def _setting(folder: Path) -> AsyncIterator[tuple[Mesh, str]]:
    waypoint, ip = address(), address()
    text = manifests(waypoint=waypoint, vip=VIP, pods={"app": ip})
    async with mesh(folder, text, waypoint) as it, origin(ip, answering(b"")), origin(ip, answering(), TCP_PORT):
        yield it, text


async def _status(it: Mesh, ask: Ask) -> str:
    """What the client is answered; how a client of bytes is refused is the CONNECT's status."""
    try:
        reader, writer = await it.tunnel(f"{VIP}:{ask.port}", account=ask.account, namespace=ask.namespace)
    except TunnelRefused as error:
        return str(error.status)
    writer.write(ask.raw)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head.split()[1].decode()


def _expected(case: Case) -> str:
    if not case.verdict:
        return "200"
    return case.verdict if case.verdict.isdecimal() else "403"


def _denials(log: str) -> list[str]:
    return [found[2] for line in log.splitlines() if (found := _LOGGED(line)) and found[1] == "403"]


def test_every_case_gets_the_same_verdict_through_tunnels(tmp_path: Path) -> None:
    denied = [case for case in IN_TUNNELS if _expected(case) == "403" and case.ask.port != TCP_PORT]

    async def scenario() -> tuple[list[str], list[str]]:
        async with _setting(tmp_path) as (it, text):
            answers = []
            for case in IN_TUNNELS:
                it.apply(f"{text}\n---\n{case.documents}")
                answers.append(await _status(it, case.ask))
            await settled(lambda: len(_denials(it.access_log)) >= len(denied))
            return answers, _denials(it.access_log)

    answers, details = run(scenario(), 120)

    wrong = [(case.name, answer) for case, answer in zip(IN_TUNNELS, answers, strict=True) if answer != _expected(case)]
    assert wrong == []
    assert details == [case.detail for case in denied]
