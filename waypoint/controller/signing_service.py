"""`istio.v1.auth.IstioCertificateService` over TLS: the certificate authority that programs and Istio's proxies ask.

A caller learns that it was refused, not why: the audit log has the reason. That log has one line for each signed
certificate, and one for each refusal.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta

import grpc
from google.protobuf.message import DecodeError

from l4._proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from l4.identity.authority import AuthorityError
from l4.identity.istio_ca import IMPERSONATED_IDENTITY, METHOD
from l4.telemetry.process_log import EACH
from waypoint.controller.callers import Caller, Callers, Denied, Unsure
from waypoint.controller.calls import CallServer, Context, Service, token_of
from waypoint.controller.root import MAX_LIFE, InvalidRequest, RootAuthority, utc_now

log = logging.getLogger(__name__)
audit = logging.getLogger("waypoint.controller.audit")

MAX_CALLS = 64
MAX_REQUEST_BYTES = 256 << 10
READ_SECONDS = 10.0


class SigningService:
    """Signs with `authority`, which may be replaced at any time. `hosts` are the DNS names by which callers know it.
    `life` is the longest that it signs for."""

    max_calls, max_request_bytes = MAX_CALLS, MAX_REQUEST_BYTES

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
        self._server: CallServer | None = None
        self._active = 0

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """Its request is read as a stream: not before the caller is known, and not more than is allowed."""
        service, _, method = METHOD.removeprefix("/").partition("/")
        handler = grpc.stream_unary_rpc_method_handler(
            self._answer, response_serializer=IstioCertificateResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(service, {method: handler})

    async def start(self, address: str, *others: Service) -> None:
        """Listen at `address`, which is `host:port`, for `others` too. Raises RuntimeError if the port is taken."""
        self._server = CallServer((self, *others), lambda: self.authority, self._hosts, self._clock)
        self.port = await self._server.start(address)

    def close(self) -> None:
        """Calls are short; they may finish."""

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Finish active calls within the grace time, also those of the others."""
        if self._server is not None:
            await self._server.close(grace_seconds)

    async def _answer(self, requests: AsyncIterator[bytes], context: Context) -> IstioCertificateResponse:
        if self._active == MAX_CALLS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the authority is busy; try again")
        self._active += 1
        try:
            return await self._create_certificate(requests, context)
        finally:
            self._active -= 1

    async def _create_certificate(self, requests: AsyncIterator[bytes], context: Context) -> IstioCertificateResponse:
        caller: Caller | None = None
        authority = self.authority
        try:
            caller = await self._callers.identify(token_of(context))
            request = await _read(requests)
            wanted = request.validity_duration
            life = min(self._life, timedelta(seconds=min(wanted, 10**9))) if wanted > 0 else self._life
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


async def _read(requests: AsyncIterator[bytes]) -> IstioCertificateRequest:
    """Raises InvalidRequest."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            content = await anext(requests, b"")
    except TimeoutError:
        raise InvalidRequest(f"the request did not come within {READ_SECONDS:g} s") from None
    if len(content) > MAX_REQUEST_BYTES:
        raise InvalidRequest(f"the request has {len(content)} bytes, and {MAX_REQUEST_BYTES} are allowed")
    try:
        return IstioCertificateRequest.FromString(content)
    except DecodeError:
        raise InvalidRequest("its bytes are no IstioCertificateRequest") from None


def _wanted(request: IstioCertificateRequest) -> str:
    wanted = dict(request.metadata).get(IMPERSONATED_IDENTITY, "")
    if not isinstance(wanted, str):
        raise Denied("the wanted identity is malformed: it is no text")
    return wanted
