"""One client's stream of discovery: what it subscribes to, what it has not acknowledged yet, and what it gets next.

- Policies are sent before the workloads that refer to them, and are removed after these.
- Nothing more is sent until the client has acknowledged what it got. What changes meanwhile comes as one difference, so
  that a slow client does not fill any buffer; one that does not answer in time is disconnected.
- What a client refuses is logged, and not sent again before it changes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from l4._proto.xds_pb2 import DeltaDiscoveryRequest, Node
from l4.telemetry.process_log import EACH
from l4.xds import addresses, authorizations
from l4.xds.description import on_node
from l4.xds.offer import Offer, TooOld
from l4.xds.subscription import Lacking, Subscription, TooMany
from waypoint.controller.callers import Caller
from waypoint.controller.discovery_metrics import Counts

log = logging.getLogger(__name__)

FIRST_SECONDS = 10.0
"""Time for a client's first request."""
ANSWER_SECONDS = 60.0
"""Time for sending a response, and for its acknowledgement."""


class Ended(Exception):
    """The stream ends: without `code` in peace, otherwise with that status."""

    def __init__(self, code: grpc.StatusCode | None = None, details: str = "") -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class Writer(Protocol):
    async def write(self, message: bytes) -> None: ...


class DiscoveryStream:
    """`offers` are by type URL."""

    def __init__(self, caller: Caller, offers: Mapping[str, Offer], counts: Counts) -> None:
        self._caller = caller
        self._offers = offers
        self._counts = counts
        self._subscriptions: dict[str, Subscription] = {}
        self._unanswered: set[str] = set()
        self._answer_by = 0.0
        self._number = 0
        self._woken = asyncio.Event()
        self._is_closing = False
        self._node, self._own_key = "", ""

    def __str__(self) -> str:
        return self._node or str(self._caller)

    def wake(self) -> None:
        """The offers have changed."""
        self._woken.set()

    def close(self) -> None:
        """End in peace: the client connects again, to another replica."""
        self._is_closing = True
        self._woken.set()

    # -- what the client says ------------------------------------------------------------------------------------------

    async def read(self, requests: AsyncIterator[bytes]) -> None:
        """Raises Ended, in the end always."""
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                first = await anext(requests, None)
        except TimeoutError:
            raise Ended(grpc.StatusCode.DEADLINE_EXCEEDED, f"no request came within {FIRST_SECONDS:g} s") from None
        if first is None:
            raise Ended
        request = _parsed(first)
        check_node(request.node, self._caller)
        self._node, self._own_key = request.node.id, on_node(_metadata(request.node, "NODE_NAME"))
        self._take(request)
        async for message in requests:
            self._take(_parsed(message))
        raise Ended

    def _take(self, request: DeltaDiscoveryRequest) -> None:
        """Raises Ended."""
        url = request.type_url
        self._unanswered.discard(request.response_nonce)
        if request.error_detail.message:
            self._tell_of_refusal(url, request.error_detail.message)
        try:
            if (known := self._subscriptions.get(url)) is not None:
                known.take(request)
            elif (offer := self._offers.get(url)) is not None:
                self._subscriptions[url] = Subscription(offer, request, self._own_key)
            else:
                log.info("%s asks for the type %.100r, which is not served here", self, url)
        except TooMany:
            raise Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many names; subscribe to everything") from None
        self._woken.set()

    def _tell_of_refusal(self, url: str, said: str) -> None:
        if (count := self._counts.refusals.get(url)) is not None:
            count.add()
        log.warning("%s refuses resources of the type %.100s: %.2000s", self, url, said, extra=EACH)

    # -- what the client gets ------------------------------------------------------------------------------------------

    async def send(self, writer: Writer) -> None:
        """Raises Ended, in the end always."""
        while not self._is_closing:
            for url, lacking in self._due():
                self._number += 1
                nonce = str(self._number)
                self._unanswered.add(nonce)
                self._answer_by = asyncio.get_running_loop().time() + ANSWER_SECONDS
                await self._write(writer, lacking.response(url, nonce))
                self._counts.responses[url].add()
            try:
                async with asyncio.timeout_at(self._answer_by if self._unanswered else None):
                    await self._woken.wait()
            except TimeoutError:
                self._too_slow("acknowledged no response")
            self._woken.clear()
        raise Ended

    async def _write(self, writer: Writer, message: bytes) -> None:
        """Raises Ended."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await writer.write(message)
        except TimeoutError:
            self._too_slow("read no response")

    def _too_slow(self, what: str) -> NoReturn:
        log.warning("%s %s within %g s, and is disconnected", self, what, ANSWER_SECONDS)
        sentence = f"the client {what} within {ANSWER_SECONDS:g} s"
        raise Ended(grpc.StatusCode.DEADLINE_EXCEEDED, sentence) from None

    def _due(self) -> list[tuple[str, Lacking]]:
        """Return the next responses, all of the same state. Raises Ended."""
        if self._unanswered:
            return []
        try:
            policies, addressed = (self._lacking(it) for it in (authorizations.TYPE, addresses.TYPE))
        except TooOld:
            raise Ended from None  # the next stream begins with the difference to what the client has
        found: list[tuple[str, Lacking]] = []
        last: tuple[str, ...] = ()
        if policies is not None:
            if addressed is not None:
                policies, last = replace(policies, removed=()), policies.removed
            if policies.changed or not last:
                found.append((authorizations.TYPE, policies))
        if addressed is not None:
            found.append((addresses.TYPE, addressed))
        if last:
            found.append((authorizations.TYPE, Lacking((), last)))
        return found

    def _lacking(self, url: str) -> Lacking | None:
        """Raises TooOld."""
        subscription = self._subscriptions.get(url)
        return subscription.lacking() if subscription is not None and subscription.is_due else None


def check_node(node: Node, caller: Caller) -> None:
    """Raises Ended if the client says that it is somebody else than its token says."""
    parts = node.id.split("~")
    if len(parts) != 4:
        sentence = "the first request has no node id of the form TYPE~IP~NAME.NAMESPACE~DOMAIN"
        raise Ended(grpc.StatusCode.INVALID_ARGUMENT, sentence)
    named = {parts[2].rpartition(".")[2], _metadata(node, "NAMESPACE") or caller.namespace}
    account = _metadata(node, "SERVICE_ACCOUNT") or caller.service_account
    if named != {caller.namespace} or account != caller.service_account:
        sentence = f"the node {node.id} and its metadata must have the namespace and account of the token, {caller}"
        raise Ended(grpc.StatusCode.PERMISSION_DENIED, sentence)


def _metadata(node: Node, name: str) -> str:
    value = node.metadata.fields.get(name)
    return value.string_value if value is not None else ""


def _parsed(message: bytes) -> DeltaDiscoveryRequest:
    """Raises Ended."""
    try:
        return DeltaDiscoveryRequest.FromString(message)
    except DecodeError:
        raise Ended(grpc.StatusCode.INVALID_ARGUMENT, "the request is no DeltaDiscoveryRequest") from None
