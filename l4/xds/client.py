"""A client of incremental discovery (delta xDS): one stream carries the resources of all types.

    envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources

- Each type is subscribed to as a whole: a wildcard. A type that is `on_demand` has only the resources that somebody
  wants, by their names or by other keys that the server knows.
- A response is acknowledged after it was taken. Resources that cannot be understood are refused by name and reason; the
  others of the same response count.
- After a connection is lost, the next one tells the server which versions are known, so that it sends only the
  difference. Until then, what is known stays in force, without a limit.
- Roots and token are read for each connection.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import uniform
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from l4.control_plane import AUDIENCE, CHANNEL_OPTIONS, CannotCall, read_roots, read_token
from l4.xds.metrics import BROKEN, ENDED, UNREACHED, Counts
from l4.xds.resource import Receiver, Sent
from l4.xds.server import DiscoveryServer

log = logging.getLogger(__name__)

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
MAX_MESSAGE_BYTES = 200 << 20
"""As ztunnel's: the first response of a large mesh is one message."""
CONNECT_SECONDS = 5.0
WRITE_SECONDS = 10.0
FIRST_SECONDS = 30.0
"""Time for the server's first response of a type. Later there may be nothing to send for hours."""
_PROVEN_SECONDS = 1.0
"""A stream that has lasted this long is accepted by the server."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 15.0
_WILDCARD = "*"
_INVALID_ARGUMENT = 3
_MAX_TOLD = 20
"""Refused resources that one answer names."""
_OPTIONS = (
    *CHANNEL_OPTIONS,
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),  # the versions of all known resources are one message
)


class StreamLost(Exception):
    """The message says what failed, and what to look at. `reason` is a value of the metric."""

    def __init__(self, message: str, reason: str = BROKEN) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class _Type:
    receiver: Receiver
    is_on_demand: bool
    versions: dict[str, str] = field(default_factory=dict)
    """Of known resources, by name. Empty for refused ones: the next stream's server sends them again."""
    wanted: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    """Of those that are wanted."""
    is_known: bool = False


class DeltaClient:
    """Follows `types`: receivers by type URL.

    `failure` says why nothing is received now, or is empty. `on_change` is called when it has changed.
    """

    def __init__(
        self,
        server: DiscoveryServer,
        types: Mapping[str, Receiver],
        *,
        on_demand: frozenset[str] = frozenset(),
        on_change: Callable[[], None] = lambda: None,
        connect_seconds: float = CONNECT_SECONDS,
        first_seconds: float = FIRST_SECONDS,
    ) -> None:
        self._server = server
        self._types = {url: _Type(receiver, url in on_demand) for url, receiver in types.items()}
        self._on_change = on_change
        self._connect_seconds = connect_seconds
        self._first_seconds = first_seconds
        self._call: Any = None
        self._writing = asyncio.Lock()
        self._answered = asyncio.Condition()
        self._confirmed = time.monotonic()
        self.counts = Counts(tuple(types))
        self.failure = "the server has not been connected to yet"

    @property
    def address(self) -> str:
        return self._server.address

    @property
    def is_complete(self) -> bool:
        """Whether the server has sent the first response of each type."""
        return all(it.is_known for it in self._types.values())

    @property
    def silent_seconds(self) -> float:
        """The age of what is known: 0 while a stream is open, because the server then sends each change."""
        return 0.0 if self._call is not None and self.is_complete else time.monotonic() - self._confirmed

    async def run(self) -> None:
        """Follow the server until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            begun = time.monotonic()
            try:
                await self._connect()
            except StreamLost as error:
                if self._call is None:
                    self.counts.terminations[UNREACHED].add()
                    self._failed(str(error))
                else:  # servers end streams from time to time; only a connection that cannot be made is a failure
                    self.counts.terminations[error.reason].add()
                    self._call, self._confirmed = None, time.monotonic()
                    log.info("the stream to %s has ended and is opened again: %s", self._server.address, error)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # gRPC drops a cancellation that comes together with the end of the call
            pause = _FIRST_PAUSE if time.monotonic() - begun > _PROVEN_SECONDS else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(uniform(0.5, 1.0) * pause)

    async def want(self, type_url: str, name: str, seconds: float) -> bool:
        """Subscribe to a resource on demand, and wait until the server has sent it, or has said that there is none.

        Returns whether the server answered in time.
        """
        its = self._types[type_url]
        if name not in its.wanted:
            its.wanted.add(name)
            await self._ask(DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=[name]))
        try:
            async with asyncio.timeout(seconds), self._answered:
                await self._answered.wait_for(lambda: name in its.answered)
        except TimeoutError:
            return False
        return True

    async def unwant(self, type_url: str, name: str) -> None:
        its = self._types[type_url]
        its.wanted.discard(name)
        its.answered.discard(name)
        await self._ask(DeltaDiscoveryRequest(type_url=type_url, resource_names_unsubscribe=[name]))

    async def _ask(self, request: DeltaDiscoveryRequest) -> None:
        """Send a request, unless there is no stream: the next one begins with all that is wanted."""
        if self._call is not None:
            with suppress(StreamLost):
                await self._send(self._call, request)

    # -- one stream ----------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Raises StreamLost, in the end always."""
        server = self._server
        try:
            token, roots = read_token(server.token), read_roots(server.root, "the discovery server")
        except CannotCall as error:
            raise StreamLost(str(error)) from None
        credentials = grpc.ssl_channel_credentials(root_certificates=roots)
        channel = grpc.aio.secure_channel(server.address, credentials, _OPTIONS)
        try:
            call = channel.stream_stream(METHOD, DeltaDiscoveryRequest.SerializeToString)(
                metadata=(("authorization", f"Bearer {token}"), ("clusterid", server.cluster_id))
            )
            try:
                await self._converse(call)
            finally:
                call.cancel()
        finally:
            await channel.close()

    async def _converse(self, call: Any) -> None:
        """Raises StreamLost."""
        for number, (type_url, its) in enumerate(self._types.items()):
            first = _first_request(type_url, its)
            if number == 0:
                first.node.CopyFrom(self._server.node)
            await self._send(call, first, self._connect_seconds)
        awaited = {url for url, its in self._types.items() if not its.is_known}
        end = time.monotonic() + self._first_seconds
        proving = asyncio.get_running_loop().call_later(_PROVEN_SECONDS, self._proven, call)
        try:
            while True:
                response = await self._receive(call, max(end - time.monotonic(), 0.0) if awaited else None)
                if response.type_url in self._types:
                    self._proven(call)
                await self._take(call, response)
                awaited.discard(response.type_url)
        finally:
            proving.cancel()

    def _proven(self, call: Any) -> None:
        """The server accepts us. A stream after which nothing has changed may bring no response that would show it."""
        self._call = call
        self._failed("")

    async def _send(self, call: Any, request: DeltaDiscoveryRequest, seconds: float = WRITE_SECONDS) -> None:
        """Raises StreamLost."""
        try:
            async with asyncio.timeout(seconds), self._writing:
                await call.write(request)
        except TimeoutError:
            raise StreamLost(f"{self._name} accepted no request within {seconds:g} s") from None
        except grpc.aio.AioRpcError as error:
            raise StreamLost(self._sentence(error)) from None
        except asyncio.InvalidStateError:  # the call has ended meanwhile
            raise StreamLost(f"{self._name} has ended the stream") from None

    async def _receive(self, call: Any, seconds: float | None) -> DeltaDiscoveryResponse:
        """Raises StreamLost."""
        try:
            async with asyncio.timeout(seconds):
                read = await call.read()
            if read is grpc.aio.EOF:
                raise StreamLost(f"{self._name} has ended the stream", ENDED)
            return DeltaDiscoveryResponse.FromString(read)
        except TimeoutError:
            missing = ", ".join(url for url, its in self._types.items() if not its.is_known)
            raise StreamLost(f"{self._name} did not send {missing} within {self._first_seconds:g} s") from None
        except grpc.aio.AioRpcError as error:
            raise StreamLost(self._sentence(error)) from None
        except DecodeError:
            raise StreamLost(f"{self._name} sent bytes that are no DeltaDiscoveryResponse") from None

    async def _take(self, call: Any, response: DeltaDiscoveryResponse) -> None:
        """Pass a response on, and answer it. Raises StreamLost."""
        url, its = response.type_url, self._types.get(response.type_url)
        answer = DeltaDiscoveryRequest(type_url=url, response_nonce=response.nonce)
        if its is None:
            log.warning("%s sent resources of the type %r, which nobody asked for", self._name, url)
        else:
            self.counts.messages[url].add()
            self.counts.bytes[url].add(sum(len(it.resource.value) for it in response.resources))
            changed = [Sent(it.name, it.version, it.resource.type_url, it.resource.value) for it in response.resources]
            refused = await its.receiver.take(changed, response.removed_resources)
            for sent in changed:
                its.versions[sent.name] = its.versions.get(sent.name, "") if sent.name in refused else sent.version
            for name in response.removed_resources:
                its.versions.pop(name, None)
            its.is_known = True
            self.counts.refused[url].add(len(refused))
            if refused:
                told = [f"{name}: {reason}" for name, reason in list(refused.items())[:_MAX_TOLD]]
                more = [f"and {len(refused) - _MAX_TOLD} more"] if len(refused) > _MAX_TOLD else []
                answer.error_detail.code = _INVALID_ARGUMENT
                answer.error_detail.message = "; ".join(told + more)
            async with self._answered:
                its.answered |= its.wanted & _names(response)
                self._answered.notify_all()
        await self._send(call, answer)

    # -- words ---------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"the discovery server {self._server.address}"

    def _failed(self, failure: str) -> None:
        if failure != self.failure:
            self.failure = failure
            if not failure:
                log.info("connected to %s", self._name)
            self._on_change()

    def _sentence(self, error: grpc.aio.AioRpcError) -> str:
        code, details = error.code(), error.details() or ""
        said = f"{details} ({code.name})" if details else code.name
        if code is grpc.StatusCode.UNAVAILABLE:
            return f"{self._name} is not available; its certificate must lead to a root in {self._server.root}: {said}"
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return (
                f"{self._name} does not accept the caller; the token {self._server.token} needs the audience "
                f"{AUDIENCE}, and POD_NAMESPACE must be its namespace: {said}"
            )
        return f"{self._name} ended the stream: {said}"


def _first_request(type_url: str, its: _Type) -> DeltaDiscoveryRequest:
    request = DeltaDiscoveryRequest(type_url=type_url, initial_resource_versions=its.versions)
    if its.is_on_demand:  # both wildcards together mean: nothing but what is named
        request.resource_names_subscribe.extend([_WILDCARD, *sorted(its.wanted)])
        request.resource_names_unsubscribe.append(_WILDCARD)
        request.initial_resource_versions.update(dict.fromkeys(its.wanted - its.answered, ""))
    return request


def _names(response: DeltaDiscoveryResponse) -> set[str]:
    """Return all names under which a response says something."""
    names = {it.name for it in response.resources} | set(response.removed_resources)
    return names.union(*(it.aliases for it in response.resources))
