"""Probes of local programs: whether they accept connections, and what they answer."""

import asyncio
from contextlib import closing

Address = tuple[str, int]

_PROBE_SECONDS = 1.0


async def accepts(address: Address) -> bool:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(*address)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def get(address: Address, path: str) -> str | None:
    """Return the body of an operator port's page. None if there is no timely answer with status 200."""
    host, port = address
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            with closing(writer):
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
                head, _, body = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
    except (OSError, TimeoutError):
        return None
    return body if " 200 " in head.partition("\r\n")[0] else None
