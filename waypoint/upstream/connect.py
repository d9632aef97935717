"""Open what an attempt needs if its endpoint has nothing idle: an HTTP/1.1 connection or an HTTP/2 stream."""

import asyncio

from waypoint.errors import UpstreamConnectFailed
from waypoint.http.client import Http1Client
from waypoint.http.h2_client import ClientStream, Http2Client
from waypoint.http.settings import HttpSettings
from waypoint.upstream.connections import Spawn
from waypoint.upstream.endpoint import LiveEndpoint
from waypoint.upstream.originate import Originator


async def open_connection(live: LiveEndpoint, originator: Originator, seconds: float) -> Http1Client:
    """Open a connection, or wait for an idle one if the limit is reached. Raises UpstreamConnectFailed,
    UpstreamOverflow."""
    while not live.may_connect:
        freed = await live.wait(seconds)
        if freed is not None:
            return freed
    client = Http1Client(originator.settings.of(HttpSettings), on_free=live.free, on_gone=live.gone)
    live.opening(client)
    try:
        with live.connecting():
            await originator.connect(live.endpoint, lambda: client, live.pool)
    except BaseException:
        live.gone(client)
        raise
    return client


async def open_stream(live: LiveEndpoint, originator: Originator, seconds: float, spawn: Spawn) -> ClientStream:
    """Open a stream on a shared or new connection. Raises UpstreamConnectFailed, UpstreamOverflow."""

    async def connect() -> Http2Client:
        client = Http2Client(originator.settings, live.http2.gone, live.http2.has_room, live.pool)
        with live.connecting():
            await originator.connect(live.endpoint, lambda: client, live.pool)
        try:
            await asyncio.wait_for(client.is_ready, seconds)
        except TimeoutError:
            client.close()
            raise UpstreamConnectFailed(f"{live.endpoint} sent no HTTP/2 SETTINGS within {seconds:g} s") from None
        return client

    return await live.http2.open(connect, spawn, seconds)
