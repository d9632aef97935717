"""A ztunnel and a waypoint as processes that get certificates from an authority over TLS, by their flags."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.kit import signed
from tests.kit.aio import run
from tests.kit.certificate_service import CertificateService, certificate_service
from tests.kit.mesh import address, manifests
from tests.kit.origin import answering, origin

LIFE = 10
OK = "HTTP/1.1 200 OK"
CLIENT = """
---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  annotations: {{ambient.istio.io/redirection: enabled, pywaypoint.dev/outbound-capture: "{entry}:80={vip}:9080"}}
spec: {{serviceAccountName: {name}, nodeName: node}}
status: {{podIP: {ip}}}
"""


@dataclass
class Signed:
    """`entries` are where each client's application connects to reach the service."""

    authority: CertificateService
    resources: Path
    waypoint: str
    ztunnel: str
    text: str
    clients: dict[str, str]
    entries: dict[str, str]

    def apply(self, *names: str) -> None:
        draft = self.resources.with_suffix(".new")
        draft.write_text(self.text + "".join(self.clients[name] for name in names))
        draft.replace(self.resources)

    async def readiness(self, ip: str) -> tuple[int, str]:
        with suppress(aiohttp.ClientError):
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://{ip}:15021/healthz/ready") as answer,
            ):
                return answer.status, await answer.text()
        return 0, ""

    async def says(self, ip: str, status: int, sentence: str = "") -> None:
        async with asyncio.timeout(30):
            while True:
                found, text = await self.readiness(ip)
                if found == status and sentence in text:
                    return
                await asyncio.sleep(0.1)

    async def ask(self, name: str = "client") -> str:
        """The answer's first line, or what went wrong."""
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(self.entries[name], 80)
                try:
                    writer.write(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
                    return (await reader.readline()).decode().strip()
                finally:
                    writer.close()
        except OSError as error:
            return repr(error)

    async def answers(self, name: str = "client") -> None:
        async with asyncio.timeout(30):
            while await self.ask(name) != OK:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)


@asynccontextmanager
async def signed_mesh(folder: Path) -> AsyncIterator[Signed]:
    waypoint, ztunnel, vip, app = (address() for _ in range(4))
    entries = {name: address() for name in ("client", "late")}
    clients = {name: CLIENT.format(name=name, entry=entry, vip=vip, ip=address()) for name, entry in entries.items()}
    text = manifests(waypoint=waypoint, vip=vip, pods={"app": app})
    processes: list[asyncio.subprocess.Process] = []
    with certificate_service(folder, f"{address()}:15012", LIFE) as authority:
        it = Signed(authority, folder / "mesh.yaml", waypoint, ztunnel, text, clients, entries)
        it.apply("client")
        try:
            async with origin(app, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")):
                for program, ip in (("waypoint", waypoint), ("ztunnel", ztunnel)):
                    paths = it.resources, folder / f"{program}.log"
                    processes.append(await signed.start(program, ip, *paths, authority.address, authority.root))
                await it.says(waypoint, 200)
                await it.says(ztunnel, 200)
                await it.answers()
                yield it
        finally:
            for process in processes:
                if process.returncode is None:
                    process.terminate()
            ended = [await asyncio.wait_for(process.wait(), 10) for process in processes]
    assert ended == [0, 0]
    for program in ("waypoint", "ztunnel"):
        said = (folder / f"{program}.stderr").read_text()
        assert "Traceback" not in said
        assert "BEGIN" not in said


def test_certificates_that_are_renewed_under_load_fail_no_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with signed_mesh(tmp_path) as it:
            outcomes: Counter[str] = Counter()
            accounts = ("client", "app", "waypoint")
            while min(it.authority.signed[account] for account in accounts) < 4:
                outcomes[await it.ask()] += 1
                await asyncio.sleep(0.02)

            assert outcomes.keys() == {OK}

    run(scenario(), 90)


def test_pods_that_come_get_a_certificate_and_those_that_go_are_renewed_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with signed_mesh(tmp_path) as it:
            it.apply("late")
            await it.answers("late")
            before = it.authority.signed["client"]
            while it.authority.signed["late"] < 4:  # noqa: ASYNC110 - the authority has no event
                await asyncio.sleep(0.1)

            assert it.authority.signed["client"] == before
            assert await it.ask("client") != OK

    run(scenario(), 90)


def test_without_the_authority_certificates_serve_until_they_expire_and_readiness_tells(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with signed_mesh(tmp_path) as it:
            it.authority.is_down = True
            for ip in (it.waypoint, it.ztunnel):
                await it.says(ip, 200, "cannot be renewed and expires at")
            assert await it.ask() == OK

            await it.says(it.waypoint, 503, "the authority is at lunch (UNAVAILABLE)")
            await it.says(it.ztunnel, 200, "no connection is possible")
            assert await it.ask() != OK

            it.authority.is_down = False
            await it.says(it.waypoint, 200)
            await it.answers()

    run(scenario(), 90)
