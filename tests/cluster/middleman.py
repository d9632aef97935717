"""A server between our programs and istiod that both trust: it passes on what they say, and alters it when a test asks.

It sees what a client acknowledges and refuses, and shortens the life of the certificates that are asked for.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from l4._proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from l4.identity import istio_ca
from l4.xds import client
from tests.cluster.gate import Backstage
from tests.kit.certificates import Pair

log = logging.getLogger(__name__)

_OPTIONS = (
    ("grpc.max_receive_message_length", client.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", client.MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
)
_FORWARDED = ("authorization", "clusterid")

Answer = DeltaDiscoveryResponse | bytes


@dataclass(frozen=True, slots=True)
class Signed:
    """The certificate of a service account. Times are of the wall clock."""

    account: str
    at: float
    ends: float


class Middleman:
    """`alter` takes each response, and gives what is sent in its place. `forge` does so with an account's certificates.

    `refused` are the sentences in which clients refused something; `signed` are the certificates that were passed on.
    """

    def __init__(self, stage: Backstage, istiod: str, root: Path, pair: Pair) -> None:
        self._stage = stage
        self._istiod = istiod
        self._root = root
        self._channel: Any = None
        self._server: Any = None
        self.on_response: Callable[[DeltaDiscoveryResponse], None] = lambda response: None
        self.alter: Callable[[DeltaDiscoveryResponse], Answer] = lambda response: response
        self.forge: Callable[[str, list[str]], list[str]] = lambda account, chain: chain
        self.valid_seconds = 3600
        self.signed: list[Signed] = []
        self.refused: list[str] = []
        self.port = stage.run(self._start(pair))

    def successor(self, pair: Pair) -> "Middleman":
        """Another one with this certificate, which trusts the roots that there are now. It knows what was signed."""
        it = Middleman(self._stage, self._istiod, self._root, pair)
        it.valid_seconds, it.signed = self.valid_seconds, self.signed
        return it

    def signed_since(self, at: float) -> set[str]:
        """Service accounts with a newer certificate."""
        return {it.account for it in self.signed if it.at > at}

    def close(self) -> None:
        async def close() -> None:
            await self._server.stop(None)
            await self._channel.close()

        self._stage.run(close())

    async def _start(self, pair: Pair) -> int:
        credentials = grpc.ssl_channel_credentials(root_certificates=self._root.read_bytes())
        options = (*_OPTIONS, ("grpc.max_reconnect_backoff_ms", 500))
        self._channel = grpc.aio.secure_channel(self._istiod, credentials, options)
        self._server = grpc.aio.server(options=_OPTIONS)
        for method, handler in (
            (client.METHOD, grpc.stream_stream_rpc_method_handler(self._discover)),
            (
                istio_ca.METHOD,
                grpc.unary_unary_rpc_method_handler(self._sign, IstioCertificateRequest.FromString),
            ),
        ):
            service, _, name = method.removeprefix("/").partition("/")
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        own = grpc.ssl_server_credentials([(pair.key_pem, pair.chain_pem)])
        port = int(self._server.add_secure_port("127.0.0.1:0", own))
        await self._server.start()
        return port

    async def _discover(self, requests: AsyncIterator[bytes], context: Any) -> None:
        call = self._channel.stream_stream(client.METHOD)(metadata=_metadata(context))
        asking = asyncio.ensure_future(self._ask(requests, call))
        try:
            while (read := await call.read()) is not grpc.aio.EOF:
                response = DeltaDiscoveryResponse.FromString(read)
                self.on_response(response)
                answer = self.alter(response)
                await context.write(answer if isinstance(answer, bytes) else answer.SerializeToString())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        finally:
            asking.cancel()
            call.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self, requests: AsyncIterator[bytes], call: Any) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async for request in requests:
                refused = DeltaDiscoveryRequest.FromString(request).error_detail.message
                if refused:
                    self.refused.append(refused)
                await call.write(request)
            await call.done_writing()

    async def _sign(self, request: IstioCertificateRequest, context: Any) -> bytes:
        request.validity_duration = self.valid_seconds
        call = self._channel.unary_unary(istio_ca.METHOD)
        try:
            read = await call(request.SerializeToString(), metadata=_metadata(context), timeout=9)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        answer = IstioCertificateResponse.FromString(read)
        leaf = x509.load_pem_x509_certificate(answer.cert_chain[0].encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        account = names.get_values_for_type(x509.UniformResourceIdentifier)[0].rpartition("/")[2]
        chain = list(answer.cert_chain)
        if (forged := self.forge(account, list(chain))) == chain:
            self.signed.append(Signed(account, time.time(), leaf.not_valid_after_utc.timestamp()))
        answer.cert_chain[:] = forged
        return bytes(answer.SerializeToString())


def _metadata(context: Any) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in context.invocation_metadata() if key in _FORWARDED)
