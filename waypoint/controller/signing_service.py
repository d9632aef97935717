"""`istio.v1.auth.IstioCertificateService` over TLS: the certificate authority that programs and Istio's proxies ask.

A caller learns that it was refused, not why: the audit log has the reason. That log has one line for each signed
certificate, and one for each refusal.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NoReturn, Protocol

import grpc

from l4._proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from l4.identity.authority import AuthorityError
from l4.identity.istio_ca import IMPERSONATED_IDENTITY, METHOD
from l4.telemetry.process_log import EACH
from waypoint.controller.callers import Caller, Callers, Denied, Unsure
from waypoint.controller.root import MAX_LIFE, InvalidRequest, RootAuthority, utc_now

log = logging.getLogger(__name__)
audit = logging.getLogger("waypoint.controller.audit")

MAX_CALLS = 64
MAX_REQUEST_BYTES = 256 << 10
SERVER_LIFE = timedelta(hours=24)


class Context(Protocol):
    """What gRPC says about a call."""

    def peer(self) -> str: ...

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn: ...


class SigningService:
    """Signs with `authority`, which may be replaced at any time. `hosts` are the DNS names by which callers know it.
    `life` is the longest that it signs for."""

    def __init__(
        self,
        authority: RootAuthority,
        callers: Callers,
        hosts: Sequence[str],
        life: timedelta = MAX_LIFE,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.authority = authority
        self.port = 0
        self._callers = callers
        self._hosts = hosts
        self._life = life
        self._clock = clock
        self._server: grpc.aio.Server | None = None
        self._own: _OwnCertificate | None = None

    async def start(self, address: str) -> None:
        """Listen at `address`, which is `host:port`. Raises RuntimeError if the port is taken."""
        handler = grpc.unary_unary_rpc_method_handler(
            self._create_certificate, IstioCertificateRequest.FromString, IstioCertificateResponse.SerializeToString
        )
        service, _, method = METHOD.removeprefix("/").partition("/")
        options = (("grpc.max_receive_message_length", MAX_REQUEST_BYTES), ("grpc.so_reuseport", 0))
        self._server = grpc.aio.server(maximum_concurrent_rpcs=MAX_CALLS, options=options)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        credentials = grpc.dynamic_ssl_server_credentials(self._configuration(), self._configuration)
        self.port = self._server.add_secure_port(address, credentials)
        await self._server.start()

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Finish active calls within the grace time."""
        if self._server is not None:
            await self._server.stop(grace_seconds)

    async def _create_certificate(self, request: IstioCertificateRequest, context: Context) -> IstioCertificateResponse:
        caller: Caller | None = None
        authority = self.authority
        wanted = request.validity_duration
        life = min(self._life, timedelta(seconds=min(wanted, 10**9))) if wanted > 0 else self._life
        try:
            caller = await self._callers.identify(_token(context))
            identity = await self._callers.granted(caller, _wanted(request))
            signed = authority.sign(identity, request.csr.encode(), life, self._clock())
        except Denied as error:
            self._audit("refused", caller, context, error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the caller may not have this certificate")
        except InvalidRequest as error:
            self._audit("refused", caller, context, error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (Unsure, AuthorityError) as error:
            self._audit("cannot serve", caller, context, error)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the authority cannot sign now; try again")
        except Exception as error:
            log.exception("a request for a certificate failed")
            self._audit("cannot serve", caller, context, error)
            await context.abort(grpc.StatusCode.INTERNAL, "the authority failed")
        said = "signed %s for %s at %s, serial number %x, until %s"
        audit.info(said, identity, caller, context.peer(), signed.serial_number, signed.not_after, extra=EACH)
        chain = (signed.leaf, *authority.intermediates, authority.roots)
        return IstioCertificateResponse(cert_chain=[it.decode() for it in chain])

    def _audit(self, what: str, caller: Caller | None, context: Context, error: Exception) -> None:
        audit.warning("%s %s at %s: %s", what, caller or "an unknown caller", context.peer(), error)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return the server's own certificate, for each handshake. It is renewed at half of its life. gRPC calls this
        from its own threads, and keeps the previous one if this raises an exception."""
        now, authority, own = self._clock(), self.authority, self._own
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


def _wanted(request: IstioCertificateRequest) -> str:
    wanted = dict(request.metadata).get(IMPERSONATED_IDENTITY, "")
    if not isinstance(wanted, str):
        raise Denied("the wanted identity is malformed: it is no text")
    return wanted


def _token(context: Context) -> str:
    given = next((value for name, value in context.invocation_metadata() or () if name == "authorization"), "")
    scheme, _, token = (given if isinstance(given, str) else "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Denied("the call has no bearer token")
    return token
