"""Leader election by a Lease (coordination.k8s.io/v1), with client-go's times.

The holder of the Lease leads. It renews the Lease every two seconds, and stops leading ten seconds after the last
renewal that succeeded. Another process takes the Lease when it has seen no change for fifteen seconds. Clocks of two
machines are never compared: each process measures by its own how long it has seen no change.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from random import uniform
from typing import Any

import msgspec

from l4.kubernetes.client import ApiClient, ApiError, ResourceType

log = logging.getLogger(__name__)

LEASES = ResourceType("coordination.k8s.io", "v1", "leases", "Lease")


@dataclass(frozen=True, slots=True)
class Times:
    """`lease_seconds` must exceed `renew_seconds`: the old holder ends its work in the time between."""

    lease_seconds: float = 15.0
    renew_seconds: float = 10.0
    retry_seconds: float = 2.0


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


class LeaderElection:
    """`identity` is that of this process alone, such as the name of its pod.

    Needs the verbs get, create and patch on the Lease.
    """

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        name: str,
        identity: str,
        times: Times | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._times = times or Times()
        self._clock = clock
        self._seen: tuple[str, float] = ("", clock())
        self._renewed = -math.inf
        self.is_leader = False

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Runs `lead` while this process leads, and cancels it when it no longer does. Returns when `lead` returns,
        and raises what `lead` raises; both give the Lease back."""
        leading: asyncio.Task[None] | None = None
        try:
            while True:
                await self._try()
                if self.is_leader and leading is None:
                    log.info("this process leads now: it holds the Lease %s/%s", self._namespace, self._name)
                    leading = asyncio.ensure_future(_awaited(lead))
                elif not self.is_leader and leading is not None:
                    log.warning("this process leads no more: it lost the Lease %s/%s", self._namespace, self._name)
                    await self._end(leading)
                    leading = None
                if leading is None:
                    await asyncio.sleep(self._pause())
                    continue
                await asyncio.wait({leading}, timeout=self._pause())
                if leading.done():
                    return leading.result()
        finally:
            if leading is not None:
                await self._end(leading)
            await self._release()

    def _pause(self) -> float:
        pause = self._times.retry_seconds * uniform(0.9, 1.1)
        return min(pause, max(0.0, self._left())) if self.is_leader else pause

    def _left(self) -> float:
        """For how long this process may still lead without a renewal."""
        return self._renewed + self._times.renew_seconds - self._clock()

    async def _try(self) -> None:
        """Takes or renews the Lease, if that is possible now."""
        began = self._clock()
        seconds = self._times.renew_seconds / 2
        try:
            async with asyncio.timeout(min(seconds, max(0.0, self._left())) if self.is_leader else seconds):
                self.is_leader = await self._take()
        except (ApiError, TimeoutError) as error:
            said = str(error) or "the API server gave no answer in time"
            log.warning("the Lease %s/%s cannot be taken or renewed: %s", self._namespace, self._name, said)
            if self.is_leader and self._left() <= 0:
                self.is_leader = False
            return
        if self.is_leader:
            self._renewed = began

    async def _take(self) -> bool:
        """Whether this process holds the Lease now. Raises ApiError, with 409 if another process was faster."""
        lease = await self._read()
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._times.lease_seconds),
            "renewTime": now,
        }
        if lease is None:
            meta = {"name": self._name, "namespace": self._namespace}
            new = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": meta}
            new["spec"] = spec | {"acquireTime": now, "leaseTransitions": 0}
            await self._client.create(LEASES.path(self._namespace), new)
            return True
        version, holder = lease.metadata.resource_version, lease.spec.holder_identity
        if version != self._seen[0]:
            self._seen = version, self._clock()
        if holder and holder != self._identity and self._clock() - self._seen[1] < self._times.lease_seconds:
            return False
        if holder != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": (lease.spec.lease_transitions or 0) + 1}
        await self._write(lease, spec)
        return True

    async def _read(self) -> _Lease | None:
        try:
            text = await self._client.get(LEASES.path(self._namespace, self._name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        try:
            return msgspec.json.decode(text, type=_Lease)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ApiError(0, "Undecodable", f"the Lease cannot be decoded: {error}") from None

    async def _write(self, lease: _Lease, spec: dict[str, Any]) -> None:
        """A patch leaves what others wrote, such as labels; with the version it fails if the Lease has changed."""
        content = {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec}
        await self._client.merge(LEASES.path(self._namespace, self._name), content)

    async def _release(self) -> None:
        """Gives the Lease back, so that the next process doesn't wait."""
        if not self.is_leader:
            return
        self.is_leader = False
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(self._times.retry_seconds):
                lease = await self._read()
                if lease is not None and lease.spec.holder_identity == self._identity:
                    await self._write(lease, {"holderIdentity": None})

    async def _end(self, task: "asyncio.Task[None]") -> None:
        """Raises RuntimeError if the task goes on: this process must end then, because another one leads."""
        task.cancel()
        await asyncio.wait({task}, timeout=self._times.lease_seconds - self._times.renew_seconds)
        if not task.done():
            raise RuntimeError(f"{task} goes on without the Lease {self._namespace}/{self._name}")
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the leader's work ended with an error", exc_info=error)


async def _awaited(lead: Callable[[], Awaitable[None]]) -> None:
    await lead()
