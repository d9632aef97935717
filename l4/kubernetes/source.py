"""Objects of an API server as a source of configuration: only the kinds that the program reads.

A kind that cannot be listed or watched is a doubt, and its last known objects stay in force. A kind that the server
does not serve has no objects: its CRD may be installed later, so the server is asked again. A change of an object's
status is passed on only if the program reads what changed: nodes and pods report theirs all the time.
"""

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from random import uniform
from typing import Any

import msgspec

from l4.config.codes import DocumentCode
from l4.config.documents import Document, ObjectKey, ObjectOrigin, Problem
from l4.config.doubts import EVERYWHERE, Doubt
from l4.config.encoded import Encoded
from l4.config.kinds import Kinds, is_policy
from l4.config.source import Answer, CannotRead, Changes, Documents, Take
from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from l4.kubernetes.reflector import Key, Reflector, Scope, longest_silence
from l4.kubernetes.served import find

log = logging.getLogger(__name__)

LOAD_SECONDS = 20.0
"""Maximum time that the first answer waits for lists."""
SETTLE_SECONDS = 0.1
ABSENT_SECONDS = 30.0
"""Time after which a kind that is not served is looked for again."""
RETRY_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_MAX_NAMES = 5
_SKIPPED = frozenset({("", "Endpoints")})
"""EndpointSlices say the same, and API servers warn of Endpoints."""

_Name = tuple[str, str]
"""API group and kind."""


class _Kind:
    """One kind. `failure` is why its objects are not known or not up to date; empty if they are."""

    def __init__(self, group: str, name: str) -> None:
        self.group = group
        self.name = name
        self.reflector: Reflector | None = None
        self.is_absent = False
        self.is_lost = False
        """Whether its reflector has ended, because the server answered 404."""
        self._search = "has not been looked for yet"

    def __str__(self) -> str:
        """Return the name that RBAC has for it, or its kind while that is unknown."""
        if self.reflector is not None:
            return str(self.reflector.resource)
        return f"{self.name}.{self.group}" if self.group else self.name

    @property
    def is_known(self) -> bool:
        """Whether its objects were listed once, or the server does not serve it."""
        return self.is_absent or (self.reflector is not None and self.reflector.is_listed)

    @property
    def failure(self) -> str:
        if self.reflector is None:
            return self._search
        if self.reflector.failure is not None:
            return str(self.reflector.failure)
        return "" if self.reflector.is_listed else "is being listed"

    def searched(self, failure: str) -> None:
        self._search = failure


class KubernetesSource:
    """Follows `kinds` with `client`. `scopes` restrict kinds to a namespace or to selected objects. Of the kinds
    `whole`, every change is passed on, whatever the program reads of the status. `is_encoded`: contents are Encoded."""

    def __init__(
        self,
        client: ApiClient,
        kinds: Kinds,
        scopes: Mapping[_Name, Scope] | None = None,
        whole: Collection[_Name] = (),
        is_encoded: bool = False,
    ) -> None:
        self._client = client
        self._kinds = kinds
        self._scopes = scopes or {}
        self._whole = frozenset(whole)
        self._is_encoded = is_encoded
        self._followed = {it: _Kind(*it) for it in sorted(kinds) if it not in _SKIPPED}
        self._documents: dict[ObjectKey, Document] = {}
        self._changed: dict[ObjectKey, Document] = {}
        self._gone: set[ObjectKey] = set()
        self._doubts: tuple[Doubt, ...] = ()
        self._woken = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._is_taken = False
        self._told: dict[str, str] = {}
        """By API group: why its kinds cannot be looked for or are not served, as the log has it."""

    @property
    def server(self) -> str:
        return self._client.server

    @property
    def lack(self) -> str:
        return f"the API server {self.server} has no object of a kind that is read"

    @property
    def silent_seconds(self) -> float:
        """The age of what is known: how long the server has sent nothing, for the kind of which that is longest."""
        return longest_silence(it.reflector for it in self._followed.values() if it.reflector is not None)

    async def read(self, seconds: float) -> Documents:
        """List the objects once, without following them. Raises CannotRead if not all kinds can be listed in time."""
        failures: dict[_Kind, ApiError] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(self._list_group(group, kinds, failures) for group, kinds in self._groups()))
        late = ApiError(0, "Timeout", f"the API server {self.server} did not answer within {seconds:g} s")
        failures |= {it: late for it in self._followed.values() if not it.is_known and it not in failures}
        if failures:
            raise CannotRead(self._why_unlisted(failures))
        return self._everything()

    async def load(self) -> Documents:
        following = self._begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOAD_SECONDS):
                while not following.done() and not all(it.is_known for it in self._followed.values()):
                    self._woken.clear()
                    await self._woken.wait()
        self._is_taken = True
        return self._everything()

    async def watch(self, take: Take) -> None:
        following = self._begin()
        try:
            while not following.done():
                await self._wait(following)
                answer: Answer = self._changes() if self._is_taken else self._everything()
                self._is_taken = False
                await take(answer)
                self._is_taken = True
            following.result()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def close(self) -> None:
        """End the watches, also those of a `load` after which nobody called `watch`, and the connections."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._client.close()

    # -- what a reflector reports --------------------------------------------------------------------------------------

    def changed(self, resource: ResourceType, key: Key, resource_version: str, object: msgspec.Raw) -> None:
        its = _key(resource, key)
        content = msgspec.json.decode(object, type=dict)
        content["apiVersion"], content["kind"] = resource.api_version, resource.kind
        content.get("metadata", {}).pop("managedFields", None)
        if b"null" in bytes(object):  # few objects have one, and looking at every field costs twice the decoding
            _drop_nulls(content)
        known = self._documents.get(its)
        name = resource.group, resource.kind
        if known is not None and name not in self._whole and self._reads_the_same(_decoded(known), content, name):
            return
        kept = Encoded.of(content) if self._is_encoded else content
        document = Document(its, kept, ObjectOrigin(its, resource_version))
        self._documents[its] = self._changed[its] = document
        self._gone.discard(its)
        self._woken.set()

    def _reads_the_same(self, before: Mapping[str, Any], now: Mapping[str, Any], name: _Name) -> bool:
        """Whether an object differs only in its version, and in those parts of its status that the program ignores."""
        if _without_status(before) != _without_status(now):
            return False
        kind = {it.name: it.type for it in msgspec.structs.fields(self._kinds[name])}.get("status")
        one, other = before.get("status"), now.get("status")
        if kind is None or one == other:
            return True
        try:  # a Gateway without any status counts as one with an address
            return bool(one and other) and msgspec.convert(one, kind) == msgspec.convert(other, kind)
        except msgspec.ValidationError:
            return False

    def gone(self, resource: ResourceType, key: Key) -> None:
        its = _key(resource, key)
        if self._documents.pop(its, None) is not None:
            self._changed.pop(its, None)
            self._gone.add(its)
            self._woken.set()

    def listed(self, resource: ResourceType) -> None:
        self._woken.set()

    # -- answering -----------------------------------------------------------------------------------------------------

    async def _wait(self, following: "asyncio.Task[None]") -> None:
        """Wait until there is something to pass on, and until it has settled."""
        while self._is_taken and not following.done() and self._find_doubts() == self._doubts:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._woken.wait()
                    break
        await asyncio.sleep(SETTLE_SECONDS)
        self._woken.clear()

    def _everything(self) -> Documents:
        self._changed, self._gone, self._doubts = {}, set(), self._find_doubts()
        return Documents(tuple(self._documents[key] for key in sorted(self._documents)), (), self._doubts)

    def _changes(self) -> Changes:
        changed, gone = tuple(self._changed.values()), tuple(self._gone)
        self._changed, self._gone, self._doubts = {}, set(), self._find_doubts()
        return Changes(changed, gone, (), self._doubts)

    def _find_doubts(self) -> tuple[Doubt, ...]:
        return tuple(_doubt(it) for it in self._followed.values() if not it.is_absent and it.failure)

    # -- following -----------------------------------------------------------------------------------------------------

    def _begin(self) -> "asyncio.Task[None]":
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(self._follow_all())
        return self._following

    async def _follow_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for kind in self._followed.values():
                if kind.reflector is not None:
                    tasks.create_task(self._follow(kind, kind.reflector, tasks))
            for group, kinds in self._groups():
                tasks.create_task(self._look_for(group, kinds, tasks))

    async def _follow(self, kind: _Kind, reflector: Reflector, tasks: asyncio.TaskGroup) -> None:
        """Follow a kind for as long as it is served. After that, it is looked for again."""
        await reflector.run(ends_if_missing=True)
        kind.is_lost = True
        tasks.create_task(self._look_for(kind.group, [kind], tasks))

    async def _look_for(self, group: str, kinds: list[_Kind], tasks: asyncio.TaskGroup) -> None:
        """Look for the kinds of one API group until each is found, and follow those that are."""
        while missing := [it for it in kinds if it.reflector is None or it.is_lost]:
            pause = RETRY_SECONDS
            try:
                found = await self._find(group, missing)
            except ApiError as error:
                for kind in missing:
                    kind.searched(f"cannot be looked for: {error}")
                self._tell(logging.WARNING, group, f"kinds cannot be looked for, and are looked for again: {error}")
            else:
                pause = ABSENT_SECONDS
                absent = ", ".join(str(it) for it in missing if it.is_absent)
                self._tell(
                    logging.INFO,
                    group,
                    absent and f"the API server does not serve {absent}: none exist until their CRDs are installed",
                )
                for kind, reflector in found.items():
                    tasks.create_task(self._follow(kind, reflector, tasks))
            self._woken.set()
            await asyncio.sleep(pause * uniform(0.5, 1.0))

    def _tell(self, level: int, group: str, sentence: str) -> None:
        """Log a sentence once, however many groups have it: `load` waits long before a doubt tells of a failure."""
        if sentence and sentence not in self._told.values():
            log.log(level, "%s", sentence)
        self._told[group] = sentence

    # -- looking -------------------------------------------------------------------------------------------------------

    def _groups(self) -> Iterator[tuple[str, list[_Kind]]]:
        """Return the kinds by API group."""
        for group, its in groupby(self._followed.values(), lambda it: it.group):
            yield group, list(its)

    async def _find(self, group: str, kinds: list[_Kind]) -> dict[_Kind, Reflector]:
        """Look which kinds of a group are served, and return the reflectors of those. Raises ApiError."""
        found = await find(self._client, group, [it.name for it in kinds], self._kinds.versions(group))
        reflectors: dict[_Kind, Reflector] = {}
        for kind in kinds:
            resource = found.get(kind.name)
            if kind.reflector is not None and kind.reflector.resource != resource:
                kind.reflector.forget()
                kind.reflector = None
            kind.is_absent, kind.is_lost = resource is None, False
            if resource is not None:
                if kind.reflector is None:
                    kind.reflector = Reflector(self._client, resource, self, self._scopes.get((group, kind.name)))
                reflectors[kind] = kind.reflector
        return reflectors

    async def _list_group(self, group: str, kinds: list[_Kind], failures: dict[_Kind, ApiError]) -> None:
        async def list_kind(kind: _Kind, reflector: Reflector) -> None:
            try:
                await reflector.list_pages()
            except ApiError as error:
                failures[kind] = error

        try:
            found = await self._find(group, kinds)
        except ApiError as error:
            failures |= dict.fromkeys(kinds, error)
        else:
            await asyncio.gather(*(list_kind(*it) for it in found.items()))

    def _why_unlisted(self, failures: Mapping[_Kind, ApiError]) -> str:
        """Return a sentence with the kinds, the server's reason for the first of them, and what to do."""
        names = sorted(map(str, failures))
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        first = min(failures, key=str)
        error = failures[first]
        at = "" if self.server in str(error) else f" at the API server {self.server}"
        return f"cannot list {', '.join(names[:_MAX_NAMES])}{more}{at}: {error}{self._remedy(error, first)}"

    def _remedy(self, error: ApiError, kind: _Kind) -> str:
        if error.reason in ("Unreachable", "Timeout"):
            return "; check that it is reachable from here, or choose another one with --kubeconfig or --context"
        if error.reason == "Credentials" or error.code == 401:
            return "; mend the credentials in the kubeconfig, or choose others with --kubeconfig or --context"
        if error.code == 403:
            namespace = self._scopes.get((kind.group, kind.name), Scope()).namespace
            where = f"--namespace {namespace}" if namespace else "--all-namespaces"
            return f"; grant the verb list on it, which `kubectl auth can-i list {kind} {where}` confirms"
        return ""


def _drop_nulls(content: Any) -> None:
    """Remove null fields: null is as good as absent. An API server writes an empty list as null in some fields, such as
    the endpoints of an EndpointSlice."""
    rest = [content]
    while rest:
        its = rest.pop()
        if isinstance(its, dict):
            for name in [name for name, value in its.items() if value is None]:
                del its[name]
            rest.extend(its.values())
        elif isinstance(its, list):
            rest.extend(its)


def _decoded(document: Document) -> Mapping[str, Any]:
    return document.content.decoded() if isinstance(document.content, Encoded) else document.content


def _without_status(content: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {name: value for name, value in content.get("metadata", {}).items() if name != "resourceVersion"}
    return {name: value for name, value in content.items() if name != "status"} | {"metadata": metadata}


def _key(resource: ResourceType, key: Key) -> ObjectKey:
    return ObjectKey(resource.group, resource.kind, key.namespace, key.name)


def _doubt(kind: _Kind) -> Doubt:
    key = ObjectKey(kind.group, kind.name, "", "*")
    kept = "; the objects that were known stay in force" if kind.is_known else ""
    problem = Problem(ObjectOrigin(key, "unknown"), str(key), "", f"{kind.failure}{kept}", DocumentCode.CONTENT_HELD)
    namespace = EVERYWHERE if is_policy(kind.group, kind.name) else None
    return Doubt(problem, kind.is_known, namespace)
