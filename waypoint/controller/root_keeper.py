"""Keeps the authority's pieces in a Secret, and publishes its roots in every namespace.

The Secret is Istio's `cacerts` if the operator has made it, and otherwise our own, which the first controller creates.
Workloads mount the ConfigMap `istio-ca-root-cert` to trust the authority's own certificate. A ConfigMap of that name
without our label belongs to somebody else, such as Istio, and is left as it is.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from l4.identity.authority import AuthorityError
from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from waypoint.controller.root import RootAuthority, utc_now

log = logging.getLogger(__name__)

OPERATORS, OWN = "cacerts", "pywaypoint-ca"
ROOTS_NAME, ROOTS_KEY = "istio-ca-root-cert", "root-cert.pem"
LABELS = {"app.kubernetes.io/managed-by": "pywaypoint"}
POLL_SECONDS = 10.0
SECRETS = ResourceType("", "v1", "secrets", "Secret")
CONFIG_MAPS = ResourceType("", "v1", "configmaps", "ConfigMap")
NAMESPACES = ResourceType("", "v1", "namespaces", "Namespace", is_namespaced=False)

T = TypeVar("T")


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    deletion_timestamp: str = ""


class _Secret(msgspec.Struct):
    data: dict[str, bytes] = {}
    """JSON has them in base64."""


class _ConfigMap(msgspec.Struct):
    metadata: _Meta
    data: dict[str, str] = {}


class _Namespace(msgspec.Struct):
    metadata: _Meta


class RootKeeper:
    """Reads and writes in the controller's own `namespace`. `organization` names a new authority."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        organization: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._organization = organization
        self._clock = clock
        self._known: dict[str, bytes] = {}
        self._authority: RootAuthority | None = None
        self._left: frozenset[str] = frozenset()
        self.concern = ""
        """Why the last look at the Secret or the ConfigMaps failed, or empty."""

    async def load(self) -> RootAuthority:
        """Return the authority; the same object while its pieces are the same. Raises AuthorityError and ApiError."""
        name, pieces = OPERATORS, await self._read(OPERATORS)
        if pieces is None:
            name, pieces = OWN, await self._read(OWN)
        if pieces is None:
            pieces = await self._create()
        if self._authority is None or pieces != self._known:
            try:
                authority = RootAuthority.of(pieces, self._clock())
            except AuthorityError as error:
                raise AuthorityError(f"Secret {self._namespace}/{name}: {error}") from None
            if self._authority is not None and not authority.trusts(self._authority):
                log.warning(
                    "the roots in Secret %s/%s lack the root that signed until now: connections between old and new "
                    "certificates fail until all are renewed; to rotate a root, first publish both",
                    *(self._namespace, name),
                )
            self._known, self._authority = pieces, authority
        return self._authority

    async def publish(self, roots: bytes) -> int:
        """Write the ConfigMap where it is missing or different. Returns how many were written. Raises ApiError; if one
        namespace forbids it, after the others."""
        text, written, left, forbidden = roots.decode(), 0, set(), None
        there = {it.metadata.namespace: it for it in await self._list(CONFIG_MAPS, _ConfigMap)}
        for namespace in await self._list(NAMESPACES, _Namespace):
            name = namespace.metadata.name
            known = there.get(name)
            if namespace.metadata.deletion_timestamp or (known is not None and known.data.get(ROOTS_KEY) == text):
                continue
            if known is not None and LABELS.items() - known.metadata.labels.items():
                left.add(name)
                continue
            try:
                written += await self._write(name, text, is_new=known is None)
            except ApiError as error:
                if error.code != 403:
                    raise
                forbidden = error
        if left - self._left:
            names = ", ".join(sorted(left)[:5])
            log.warning(
                "ConfigMap %s has other roots and is not ours in %d namespaces: %s", ROOTS_NAME, len(left), names
            )
        self._left = frozenset(left)
        if forbidden is not None:
            raise forbidden
        return written

    async def follow(self, take: Callable[[RootAuthority], Awaitable[None]], *, is_leader: Callable[[], bool]) -> None:
        """Give `take` every new authority, and publish its roots while this process leads. Runs until cancelled."""
        current = None
        while True:
            failure = ""
            try:
                authority = await self.load()
                if authority is not current:
                    await take(authority)
                    current = authority
            except (ApiError, AuthorityError) as error:
                failure = f"the authority cannot be read: {error}"
            try:
                if current is not None and is_leader():
                    await self.publish(current.roots)
            except ApiError as error:
                failure = failure or f"the roots cannot be published: {error}"
            if failure and failure != self.concern:
                log.warning("%s", failure)
            self.concern = failure
            await asyncio.sleep(POLL_SECONDS)

    async def _read(self, name: str) -> dict[str, bytes] | None:
        """Return the pieces in a Secret, or None if it does not exist."""
        try:
            answer = await self._client.get(SECRETS.path(self._namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return _decoded(answer, _Secret).data

    async def _create(self) -> dict[str, bytes]:
        """Create our own Secret, or read the one that another replica created in the meantime."""
        pieces = RootAuthority.make(self._organization, self._clock())
        content = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": OWN, "namespace": self._namespace, "labels": LABELS},
            "data": pieces,
        }
        try:
            await self._client.create(SECRETS.path(self._namespace), content)
        except ApiError as error:
            if error.code != 409:
                raise
            return await self._read(OWN) or {}
        log.info("created a new root in Secret %s/%s", self._namespace, OWN)
        return pieces

    async def _write(self, namespace: str, text: str, *, is_new: bool) -> bool:
        """Whether it was written. A namespace that has gone, or a ConfigMap that has come, is seen the next time."""
        data = {"data": {ROOTS_KEY: text}}
        try:
            if is_new:
                about = {"name": ROOTS_NAME, "namespace": namespace, "labels": LABELS}
                content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about} | data
                await self._client.create(CONFIG_MAPS.path(namespace), content)
            else:
                await self._client.merge(CONFIG_MAPS.path(namespace, ROOTS_NAME), data)
        except ApiError as error:
            if error.code in (404, 409):
                log.info("the roots are not written in namespace %s yet: %s", namespace, error)
                return False
            raise
        return True

    async def _list(self, kind: ResourceType, type_: type[T]) -> list[T]:
        selector = {"fieldSelector": f"metadata.name={ROOTS_NAME}"} if kind is CONFIG_MAPS else {}
        pages = [page async for page in self._client.pages(kind.path(), selector)]
        return [_decoded(bytes(item), type_) for page in pages for item in page.items]


def _decoded(answer: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.DecodeError as error:
        raise ApiError(0, "Undecodable", f"the API server's answer cannot be decoded: {error}") from None
