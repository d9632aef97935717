"""Follows all objects of one kind: a list, then a watch that continues it, for as long as the process lives.

The list is a stream of events that ends with a bookmark (`sendInitialEvents`, on by default since Kubernetes 1.34), and
its connection goes on as the watch. Where the server has no such lists it comes in pages. The listener gets each object
that is new or changed, and the key of each object that is gone; after a new list as well, which makes up for what was
missed. While the server can't be asked nothing is taken for gone: `silent_seconds` is the age of what is known.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from random import uniform
from typing import NamedTuple, Protocol

import msgspec

from l4.kubernetes.client import ApiClient, ApiError, ResourceType, WatchEvent

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner and says nothing counts as a failure: without a pause it would begin anew at once."""
_JITTER = 0.5, 1.0
_ANEW = {True: logging.INFO, False: logging.DEBUG}
"""Levels of a new list and of a new watch; the latter is frequent where a server is silent for long."""
_WATCH_SECONDS = 300, 600
"""The server ends a watch after about so long, at random, so that replicas do not begin anew together."""
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_NO_STREAMING_LISTS = 400, 422, 500
"""422 where the feature is off, 500 where the server's etcd is too old for it (before 3.4.31 and 3.5.13)."""


class Key(NamedTuple):
    """`namespace` is empty for objects of the cluster."""

    namespace: str
    name: str


class Listener(Protocol):
    """Receives the objects, in the order of the server's changes. `object` is JSON; in a page of a list an object has
    neither `apiVersion` nor `kind`, which `resource` says."""

    def changed(self, resource: ResourceType, key: Key, resource_version: str, object: msgspec.Raw) -> None:
        """The object is new or has another version."""

    def gone(self, resource: ResourceType, key: Key) -> None: ...

    def listed(self, resource: ResourceType) -> None:
        """The listener knows all objects that exist."""


class _ObjectMeta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Object(msgspec.Struct):
    metadata: _ObjectMeta


_object = msgspec.json.Decoder(_Object)


@dataclass(frozen=True, slots=True)
class Scope:
    """The objects of one namespace or of all, with the labels or fields that the selectors want."""

    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""

    @property
    def query(self) -> dict[str, str]:
        wanted = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {name: value for name, value in wanted.items() if value}


class Reflector:
    """`run` follows the objects until it is cancelled; `list_pages` only lists them."""

    def __init__(
        self,
        client: ApiClient,
        resource: ResourceType,
        listener: Listener,
        scope: Scope | None = None,
        clock: Callable[[], float] = time.monotonic,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self.resource = resource
        self._client = client
        self._listener = listener
        self._scope = scope or Scope()
        self._path = resource.path(self._scope.namespace)
        self._clock = clock
        self._first_pause = first_pause_seconds
        self._pause = first_pause_seconds
        self._versions: dict[Key, str] = {}
        self._resource_version = ""
        self._has_streaming_lists = True
        self._next_is_paged = False
        self._heard = clock()
        self._failure: ApiError | None = None
        self.is_listed = False

    @property
    def failure(self) -> ApiError | None:
        """Why the objects are not up to date; None while they are."""
        return self._failure

    @property
    def silent_seconds(self) -> float:
        """For how long the server has said nothing of these objects."""
        return self._clock() - self._heard

    async def run(self, *, ends_if_missing: bool = False) -> None:
        """Follow the objects until cancelled, or until the server answers 404 if that is wanted: perhaps it no longer
        serves the kind."""
        while True:
            try:
                await self._follow()
            except ApiError as error:
                was_cut = error.code == 0 and self._resource_version and self._pause == self._first_pause
                if error.is_gone:
                    self._resource_version = ""
                if error.is_gone or was_cut:
                    log.log(_ANEW[error.is_gone], "the watch of %s begins anew: %s", self.resource, error)
                else:
                    self._failed(error)
                await asyncio.sleep(max(self._pause * uniform(*_JITTER), error.retry_seconds))
                self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)
                if error.code == 404 and ends_if_missing:
                    self._resource_version = ""
                    return

    async def _follow(self) -> None:
        """One list, one watch, or both in one."""
        if self._resource_version:
            await self._watch()
        elif self._has_streaming_lists and not self._next_is_paged:
            await self._stream()
        else:
            await self.list_pages()
            self._next_is_paged = False

    async def _watch(self) -> None:
        began = self._clock()
        seconds = str(int(uniform(*_WATCH_SECONDS)))
        more = {"resourceVersion": self._resource_version, "allowWatchBookmarks": "true", "timeoutSeconds": seconds}
        async with self._client.watch(self._path, self._scope.query | more) as events:
            self._well()
            try:
                has_events = await self._take_all(events, None)
            finally:
                if self._clock() - began >= SHORT_WATCH_SECONDS:
                    self._pause = self._first_pause  # a watch that was cut after a while was a good one
        if not has_events and self._clock() - began < SHORT_WATCH_SECONDS:
            raise ApiError(0, "ShortWatch", f"{self._path}: the server ended the watch at once")
        self._pause = self._first_pause

    async def _stream(self) -> None:
        more = {
            "sendInitialEvents": "true",
            "allowWatchBookmarks": "true",
            "resourceVersionMatch": "NotOlderThan",
            "timeoutSeconds": str(_WATCH_SECONDS[0]),
        }
        try:
            async with self._client.watch(self._path, self._scope.query | more) as events:
                await self._take_all(events, set())
            if not self._resource_version:
                raise ApiError(0, "Incomplete", f"{self._path}: the list ended before it was complete")
        except ApiError as error:
            if self._resource_version or error.code not in (0, *_NO_STREAMING_LISTS):
                raise
            self._next_is_paged = True
            if error.code == 0:
                raise
            self._has_streaming_lists = False

    async def list_pages(self) -> None:
        """List the objects as they are now. Raises ApiError."""
        found: set[Key] = set()
        version = ""
        async for page in self._client.pages(self._path, self._scope.query):
            version = page.metadata.resource_version
            for item in page.items:
                found.add(self._take("ADDED", _meta(self._path, item), item))
        self._complete(found, version)

    async def _take_all(self, events: AsyncIterator[WatchEvent], found: set[Key] | None) -> bool:
        """Takes events until the watch ends, and says whether there were any. `found` collects the keys of a list, up
        to the bookmark at its end."""
        has_events = False
        async for event in events:
            has_events = True
            its = _meta(self._path, event.object)
            if event.type != "BOOKMARK":
                key = self._take(event.type, its, event.object)
                if found is not None:
                    found.add(key)
            elif found is not None and _INITIAL_EVENTS_END in (its.annotations or {}):
                self._complete(found, its.resource_version)
                self._well()
                found = None
                continue
            if found is None:
                self._resource_version = its.resource_version
                self._well()
                self._pause = self._first_pause
        return has_events

    def forget(self) -> None:
        """All objects are gone, because the server no longer serves the kind."""
        self._complete(set(), "")

    def _complete(self, found: set[Key], version: str) -> None:
        for key in self._versions.keys() - found:
            del self._versions[key]
            self._listener.gone(self.resource, key)
        self._resource_version = version
        self.is_listed = True
        self._heard = self._clock()
        self._listener.listed(self.resource)

    def _take(self, kind: str, its: _ObjectMeta, object: msgspec.Raw) -> Key:
        """Tells of one object, unless the listener knows this version."""
        key, version = Key(its.namespace, its.name), its.resource_version
        if kind == "DELETED":
            if self._versions.pop(key, None) is not None:
                self._listener.gone(self.resource, key)
        elif self._versions.get(key) != version:
            self._versions[key] = version
            self._listener.changed(self.resource, key, version, object)
        return key

    def _well(self) -> None:
        self._heard = self._clock()
        if self._failure is not None:
            log.info("%s are followed again", self.resource)
            self._failure = None

    def _failed(self, failure: ApiError) -> None:
        if failure.code == 404:
            failure = ApiError(404, failure.reason, f"{failure}; is the CRD of {self.resource} installed?")
        if self._failure is None or str(failure) != str(self._failure):
            log.warning("%s cannot be followed, and are tried again: %s", self.resource, failure)
        self._failure = failure


def longest_silence(reflectors: Iterable[Reflector]) -> float:
    """Return for how many seconds the server has said nothing of the kind for which that is longest. A kind that was
    never listed does not count, because nothing is known of it."""
    return max((it.silent_seconds for it in reflectors if it.is_listed), default=0.0)


def _meta(path: str, object: msgspec.Raw) -> _ObjectMeta:
    try:
        return _object.decode(object).metadata
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiError(0, "Undecodable", f"{path}: an object cannot be decoded: {error}") from None
