"""One gRPC server over TLS for all that the controller serves: certificates, and discovery at the same address.

A caller proves who it is with a token, so that TLS asks for no certificate. The server's own one is signed by the
authority, for each handshake the current one.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NoReturn, Protocol

import grpc

from waypoint.controller.callers import Denied
from waypoint.controller.root import RootAuthority

SERVER_LIFE = timedelta(hours=24)
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    # ztunnels ask every 30 s whether an idle connection still works; by default such a client is sent away.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_send_message_length", -1),
)


class Context(Protocol):
    """What gRPC says about a call."""

    def peer(self) -> str: ...

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn: ...


class Service(Protocol):
    """Some methods, with the limits of what they take. They must keep `max_calls` themselves."""

    max_calls: int
    max_request_bytes: int

    @property
    def handler(self) -> grpc.GenericRpcHandler: ...

    def close(self) -> None:
        """End calls that last, because the server is about to stop."""


class CallServer:
    """`authority` returns the current one. `hosts` are the DNS names by which callers know the server."""

    def __init__(
        self,
        services: Sequence[Service],
        authority: Callable[[], RootAuthority],
        hosts: Sequence[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._services = services
        self._authority = authority
        self._hosts = hosts
        self._clock = clock
        self._server: grpc.aio.Server | None = None
        self._own: _OwnCertificate | None = None

    async def start(self, address: str) -> int:
        """Listen at `address`, which is `host:port`. Returns the port. Raises RuntimeError if it is taken."""
        longest = max(it.max_request_bytes for it in self._services)
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=sum(it.max_calls for it in self._services),
            options=(*_OPTIONS, ("grpc.max_receive_message_length", longest)),
        )
        self._server.add_generic_rpc_handlers(tuple(it.handler for it in self._services))
        credentials = grpc.dynamic_ssl_server_credentials(self._configuration(), self._configuration)
        port: int = self._server.add_secure_port(address, credentials)
        await self._server.start()
        return port

    async def close(self, grace_seconds: float) -> None:
        """Finish active calls within the grace time."""
        for service in self._services:
            service.close()
        if self._server is not None:
            await self._server.stop(grace_seconds)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return the server's own certificate, for each handshake. It is renewed at half of its life. gRPC calls this
        from its own threads, and keeps the previous one if this raises an exception."""
        now, authority, own = self._clock(), self._authority(), self._own
        if own is None or own.authority is not authority or now >= own.due:
            life = min(SERVER_LIFE, authority.not_after - now)
            pair = authority.serve(self._hosts, life, now)
            own = _OwnCertificate(authority, now + life / 2, grpc.ssl_server_certificate_configuration([pair]))
            self._own = own
        return own.configuration


class _OwnCertificate:
    """`due` is when it is to be renewed."""

    __slots__ = ("authority", "configuration", "due")

    def __init__(
        self, authority: RootAuthority, due: datetime, configuration: grpc.ServerCertificateConfiguration
    ) -> None:
        self.authority = authority
        self.due = due
        self.configuration = configuration


def token_of(context: Context) -> str:
    """Raises Denied."""
    given = next((value for name, value in context.invocation_metadata() or () if name == "authorization"), "")
    scheme, _, token = (given if isinstance(given, str) else "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Denied("the call has no bearer token")
    return token
