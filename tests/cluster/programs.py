"""Our programs on this machine, with an API server that a test can take away from them."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import yaml

from tests.cluster.controllers import IMAGE
from tests.cluster.waiting import until
from tests.kit.certificates import MeshPki


def free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


class Door:
    """A port of this machine that leads to an API server while it is open. Closing it ends all connections."""

    def __init__(self, server: str) -> None:
        host, _, port = server.removeprefix("https://").partition(":")
        self._target = host, int(port)
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def open(self) -> None:
        self._run(self._open())

    def cut(self) -> None:
        """End the connections that there are."""
        self._run(self._cut())

    def end(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, what: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        for it in self._passing:
            it.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = self._loop.create_task(self._pass(reader, writer))
        self._passing.add(passing)
        passing.add_done_callback(self._passing.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        its_reader, its_writer = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_copy(reader, its_writer))
                ways.create_task(_copy(its_reader, writer))
        finally:
            for it in (writer, its_writer):
                it.transport.abort()
                with contextlib.suppress(OSError):
                    await it.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
        writer.write_eof()


class Program:
    """One process. Its readiness and its log are what an operator sees of it; `admin` is a port of this machine.

    `more` are variables of its environment.
    """

    def __init__(self, command: list[str], log: Path, more: Mapping[str, str] = MappingProxyType({})) -> None:
        self._log = log
        self._port, self.admin = free_port(), free_port()
        ports = [f"--readiness=127.0.0.1:{self._port}", "--metrics=127.0.0.1:0", f"--admin=127.0.0.1:{self.admin}"]
        environment = {name: value for name, value in os.environ.items() if name != "KUBERNETES_SERVICE_HOST"} | more
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name(command[0]), *command[1:], *ports],
                stderr=file,
                stdout=file,
                env=environment,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def readiness(self) -> tuple[int, str]:
        """Status and body; 0 while nothing answers. Fails if the process has ended."""
        assert self._process.poll() is None, self.log
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/healthz/ready", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def becomes_ready(self) -> None:
        until(lambda: self.readiness()[0] == 200)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)


def commands(name: str, folder: Path) -> dict[str, list[str]]:
    """How each program is started. `name` is that of its namespace, class and Gateway, and of the node."""
    pki = MeshPki(folder / "pki")
    chain = pki.write(pki.identity(name, name))
    roots = f"--trust-bundle={pki.bundle_path}"
    return {
        "controller": [
            "waypoint", "controller", "run", f"--image={IMAGE}", "--image-pull-policy=Never",
            "--ca-address=127.0.0.1:15012", f"--controller-name=pywaypoint.dev/{name}", f"--role={name}",
            f"--namespace={name}", "--identity=first",
        ],
        "waypoint": [
            "waypoint", "run", f"--gateway={name}/{name}", f"--certificate={chain}", roots,
            f"--private-key={chain.with_suffix('.key')}", "--listen=127.0.0.1:0",
        ],
        "ztunnel": ["ztunnel", "run", f"--node={name}", f"--certificates={pki.folder}", roots],
        "agent": ["ztunnel", "agent", "run", f"--node={name}", f"--socket={folder / 'agent.sock'}"],
    }  # fmt: skip


def led_through(kubeconfig: Path, port: int) -> Path:
    """A copy of a kubeconfig whose server is at a port of this machine."""
    content = yaml.safe_load(kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    path = kubeconfig.with_name(f"through-{port}")
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def running(command: list[str], log: Path, kubeconfig: Path) -> Iterator[Program]:
    program = Program([*command, f"--kubeconfig={kubeconfig}"], log)
    try:
        yield program
    finally:
        program.end()
