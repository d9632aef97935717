"""Connections to a port of a pod through the API server, as `kubectl port-forward` makes them.

A pod's administration port listens on its loopback address only, so nothing else reaches it from outside. Each
connection is one WebSocket with Kubernetes' protocol `v4.channel.k8s.io`: the first byte of a message is its channel, 0
for data and 1 for errors, and the first message of either channel is the port. The near end is a Unix socket in a
folder of its own, so that no other user of this machine can use the forwarded port.
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from l4.aiohttp import aiohttp
from l4.kubernetes.client import ApiClient, ApiError, ResourceType

log = logging.getLogger(__name__)

PODS = ResourceType("", "v1", "pods", "Pod")
PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = b"\0", b"\1"
_CHUNK = 32 << 10


@dataclass(slots=True)
class Forward:
    """A forwarded port. `socket` accepts connections; `failure` is why the last one could not be carried."""

    socket: Path
    failure: ApiError | None = None


@asynccontextmanager
async def port_forward(client: ApiClient, namespace: str, pod: str, port: int) -> AsyncIterator[Forward]:
    """Forward a port of a pod until the block ends."""
    path = PODS.path(namespace, pod, "portforward")
    open_ones: set[asyncio.Task[object]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ones.add(task)
        try:
            async with client.websocket(path, {"ports": str(port)}, PROTOCOL) as far:
                await _carry(path, far, reader, writer)
        except ApiError as error:
            forward.failure = error
        except ConnectionError as error:
            log.debug("%s: %s", path, error)
        except asyncio.CancelledError:
            pass  # the task ends here; asyncio.streams cannot take that it was cancelled
        finally:
            open_ones.discard(task)
            writer.close()

    with tempfile.TemporaryDirectory(prefix="pywaypoint-") as folder:
        forward = Forward(Path(folder) / "socket")
        server = await asyncio.start_unix_server(accepted, forward.socket)
        try:
            yield forward
        finally:
            server.close()
            for task in open_ones:
                task.cancel()
            await asyncio.gather(*open_ones, return_exceptions=True)


async def _carry(
    path: str,
    far: "aiohttp.ClientWebSocketResponse[bool]",
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Copy both ways until one side ends. Raises ApiError if the pod refuses."""

    async def send() -> None:
        while data := await reader.read(_CHUNK):
            await far.send_bytes(_DATA + data)
        await far.close()

    sending = asyncio.ensure_future(send())
    begun: set[bytes] = set()
    try:
        async for message in far:
            content = message.data if isinstance(message.data, bytes) else b""
            channel, data = content[:1], content[1:]
            if channel not in begun:
                begun.add(channel)  # this message has the port
            elif channel == _ERROR and data:
                raise ApiError(0, "PortForward", f"{path}: {data.decode(errors='replace').strip()}")
            elif channel == _DATA:
                writer.write(data)
                await writer.drain()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
