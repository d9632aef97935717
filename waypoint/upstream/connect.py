"""Makes what an attempt needs when its endpoint has nothing idle: a connection of HTTP/1.1, or a stream of HTTP/2."""

import asyncio

from waypoint.errors import UpstreamConnectFailed
from waypoint.http.client import Http1Client
from waypoint.http.h2_client import ClientStream, Http2Client
from waypoint.http.settings import HttpSettings
from waypoint.upstream.connections import Spawn
from waypoint.upstream.endpoint import LiveEndpoint
from waypoint.upstream.originate import Originator


async def open_connection(live: LiveEndpoint, originator: Originator, seconds: float) -> Http1Client:
    """A new one, or, where there may be no more, one that has become free. Raises UpstreamConnectFailed, and
    UpstreamOverflow."""
    while not live.may_connect:
        freed = await live.wait(seconds)
        if freed is not None:
            return freed
    loop = asyncio.get_running_loop()

    def free(client: Http1Client) -> None:
        live.free(client, loop.time())

    client = Http1Client(originator.settings.of(HttpSettings), on_free=free, on_gone=live.gone)
    live.opening(client)
    try:
        with live.connecting():
            await originator.connect(live.endpoint, lambda: client, live.pool)
    except BaseException:
        live.gone(client)
        raise
    return client


async def open_stream(live: LiveEndpoint, originator: Originator, seconds: float, spawn: Spawn) -> ClientStream:
    """On a connection that others use too, or on a new one. Raises UpstreamConnectFailed, and UpstreamOverflow."""

    async def connect() -> Http2Client:
        client = Http2Client(originator.settings, live.http2.gone, live.http2.has_room, live.pool)
        with live.connecting():
            await originator.connect(live.endpoint, lambda: client, live.pool)
        try:
            await asyncio.wait_for(client.is_ready, seconds)
        except TimeoutError:
            client.close()
            raise UpstreamConnectFailed(f"{live.endpoint} sent no HTTP/2 within {seconds:g} s") from None
        return client

    return await live.http2.open(connect, spawn, seconds)
