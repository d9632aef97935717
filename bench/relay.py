"""What TLS alone costs: bytes from one socket to another, one end of them in TLS, on uvloop, and nothing else.

    python -m bench.relay source LISTEN TO CHAIN KEY ROOTS     plain in, TLS out
    python -m bench.relay dest LISTEN TO CHAIN KEY ROOTS       TLS in, plain out

Each connection has a TLS connection of its own. It is a yardstick for a ztunnel in bulk, not a proxy.
"""

import asyncio
import ssl
import sys
from typing import cast

import uvloop


class _End(asyncio.Protocol):
    """One end of a connection. What comes is written to the other end, as far as that end takes it."""

    def __init__(self) -> None:
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are of no common class

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class _Accepted(_End):
    """The end that was accepted; it makes the other one."""

    def __init__(self, to: tuple[str, int], tls: ssl.SSLContext | None, connecting: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._to = to
        self._tls = tls
        self._connecting = connecting
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._held += data  # a request, at most: who answers is not connected yet
        else:
            super().data_received(data)

    async def _connect(self) -> None:
        assert self.transport is not None
        end = _End()
        end.other = self
        name = "" if self._tls else None
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: end, *self._to, ssl=self._tls, server_hostname=name
            )
        except OSError:
            self.transport.close()
            return
        self.other = end
        super().data_received(self._held)


async def _serve(role: str, listen: tuple[str, int], to: tuple[str, int], chain: str, key: str, roots: str) -> None:
    purpose = ssl.Purpose.SERVER_AUTH if role == "source" else ssl.Purpose.CLIENT_AUTH
    context = ssl.create_default_context(purpose, cafile=roots)
    context.check_hostname = False  # the name is a SPIFFE identity
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(chain, key)
    connecting: set[asyncio.Task[None]] = set()
    outside = context if role == "source" else None
    inside = context if role == "dest" else None
    server = await asyncio.get_running_loop().create_server(
        lambda: _Accepted(to, outside, connecting), *listen, ssl=inside, backlog=1024
    )
    await server.serve_forever()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], _address(sys.argv[2]), _address(sys.argv[3]), *sys.argv[4:7]))
