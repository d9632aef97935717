"""`envoy.service.discovery.v3.AggregatedDiscoveryService` (delta xDS), for ztunnels and waypoints.

A caller proves who it is as at the certificate authority. Streams end after a while, so that it proves it again, and so
that callers spread over the replicas.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from random import uniform

import grpc

from l4.xds import addresses, authorizations
from l4.xds.client import METHOD
from l4.xds.description import Description
from l4.xds.offer import Offer
from waypoint.controller.callers import Caller, Callers, Denied, Unsure
from waypoint.controller.calls import Context, token_of
from waypoint.controller.discovery_metrics import Counts
from waypoint.controller.discovery_stream import DiscoveryStream, Ended, Writer

log = logging.getLogger(__name__)

MAX_STREAMS = 4096
MAX_STREAMS_EACH = 16
"""Of one pod, or of one service account whose tokens are bound to no pod."""
MAX_IDENTIFYING = 64
MAX_REQUEST_BYTES = 64 << 20
"""After a reconnect, a client lists the versions of all that it knows: about 100 bytes each."""
MAX_SECONDS = 3600.0
_UNAVAILABLE = "the mesh is not known yet; try again"


class _Call(Context, Writer):
    pass


class DiscoveryService:
    """Serves nothing before the first description."""

    max_calls, max_request_bytes = MAX_STREAMS + MAX_IDENTIFYING, MAX_REQUEST_BYTES

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._addresses, self._policies = Offer(addresses.TYPE), Offer(authorizations.TYPE)
        self._offers = {it.type_url: it for it in (self._addresses, self._policies)}
        self._is_described = False
        self._identifying = 0
        self._streams: set[DiscoveryStream] = set()
        self._by_caller: Counter[Caller] = Counter()
        self.counted = Counts()

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        service, _, method = METHOD.removeprefix("/").partition("/")
        return grpc.method_handlers_generic_handler(
            service, {method: grpc.stream_stream_rpc_method_handler(self._serve)}
        )

    def publish(self, description: Description) -> None:
        """Offer what is described, and wake the clients."""
        self._is_described = True
        is_new = self._addresses.put(description.addresses)
        if description.policies is not None:
            is_new |= self._policies.put(description.policies)
        for stream in self._streams if is_new else ():
            stream.wake()

    def close(self) -> None:
        """End all streams."""
        for stream in self._streams:
            stream.close()

    @property
    def counts(self) -> dict[str, int]:
        """For the dump."""
        return {"clients": len(self._streams), "addresses": len(self._addresses), "policies": len(self._policies)}

    # -- one stream ----------------------------------------------------------------------------------------------------

    async def _serve(self, requests: AsyncIterator[bytes], call: _Call) -> None:
        ended = Ended()
        try:
            caller = await self._admit(call)
            with self._streaming(caller) as stream:
                ended = await _converse(stream, requests, call)
        except Ended as error:
            ended = error
        if ended.code is not None:
            log.warning("the discovery stream of %s ends: %s", call.peer(), ended.details)
            await call.abort(ended.code, ended.details)

    async def _admit(self, call: _Call) -> Caller:
        """Raises Ended."""
        if not self._is_described:
            raise Ended(grpc.StatusCode.UNAVAILABLE, _UNAVAILABLE)
        if self._identifying == MAX_IDENTIFYING or len(self._streams) >= MAX_STREAMS:
            raise Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many clients; try again")
        self._identifying += 1
        try:
            return await self._callers.identify(token_of(call))
        except Denied as error:
            log.warning("discovery is refused to %s: %s", call.peer(), error)
            raise Ended(grpc.StatusCode.UNAUTHENTICATED, "the token is not accepted") from None
        except Unsure as error:
            log.warning("the caller %s cannot be identified: %s", call.peer(), error)
            raise Ended(grpc.StatusCode.UNAVAILABLE, "the caller cannot be identified now; try again") from None
        finally:
            self._identifying -= 1

    @contextmanager
    def _streaming(self, caller: Caller) -> Iterator[DiscoveryStream]:
        """Raises Ended."""
        if self._by_caller[caller] == MAX_STREAMS_EACH:
            raise Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{caller} already has {MAX_STREAMS_EACH} streams")
        stream = DiscoveryStream(caller, self._offers, self.counted)
        self._by_caller[caller] += 1
        self._streams.add(stream)
        self.counted.clients.value = len(self._streams)
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            self.counted.clients.value = len(self._streams)
            self._by_caller[caller] -= 1
            if not self._by_caller[caller]:
                del self._by_caller[caller]


async def _converse(stream: DiscoveryStream, requests: AsyncIterator[bytes], call: _Call) -> Ended:
    """Returns why it ended."""
    ended = Ended()
    try:
        async with asyncio.timeout(uniform(0.5, 1.0) * MAX_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(stream.read(requests))
            group.create_task(stream.send(call))
    except* TimeoutError:
        log.debug("the discovery stream of %s has lasted long enough", stream)
    except* Ended as errors:
        ended = next(it for it in errors.exceptions if isinstance(it, Ended))
    return ended
