"""Istio's echo application and its client, as processes of this machine."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import tools
from tests.cluster.waiting import until


@contextmanager
def echo(ip: str, version: str, folder: Path) -> Iterator[None]:
    """Istio's echo application at an address: HTTP/1.1 and HTTP/2 at 8080, gRPC at 7070."""
    command = [tools.ECHO / "server", "--port=8080", "--grpc=7070", "--tcp=9090", "--metrics=0", f"--version={version}"]
    command += [f"--bind-ip={port}" for port in (8080, 7070, 9090)]
    with (folder / f"echo-{version}.log").open("w") as log:
        process = subprocess.Popen(command, env={"INSTANCE_IP": ip}, stdout=log, stderr=log)
    try:
        until(lambda: call(f"http://{ip}:8080/").ok, 15)
        yield
    finally:
        process.terminate()
        process.wait(10)


@dataclass(frozen=True)
class Called:
    """What Istio's echo client wrote; `fields` by name, as the application saw them, of one request or of many."""

    ok: bool
    text: str

    def all(self, name: str) -> list[str]:
        """Values of lines such as `[0 body] Proto=HTTP/1.1`."""
        found = (line.partition("] ")[2].partition("=") for line in self.text.splitlines())
        return [value for its, equals, value in found if equals and its == name]

    def one(self, name: str) -> str:
        (value,) = set(self.all(name))
        return value

    @property
    def seen(self) -> dict[str, str]:
        """The request's headers."""
        pairs = ((it[0], it[1:].partition(":")) for it in self.all("RequestHeader"))
        return {(first + name).lower(): value for first, (name, _, value) in pairs}

    @property
    def statuses(self) -> list[int]:
        return [int(it) for it in self.all("StatusCode")]


def call(url: str, *flags: str) -> Called:
    done = subprocess.run([tools.ECHO / "client", url, *flags], capture_output=True, text=True, timeout=60, check=False)
    return Called(done.returncode == 0, done.stdout + done.stderr)
