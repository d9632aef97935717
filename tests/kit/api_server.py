"""A second source of configuration, beside folders: what an API server would feed, without one.

The server holds objects, each in a version, and tells its watchers what is different. The source lists them at first,
and then passes changes on, several in one answer when they come while an answer is taken.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import yaml

from l4.config.codes import DocumentCode
from l4.config.documents import Document, ObjectKey, ObjectOrigin, Problem
from l4.config.doubts import EVERYWHERE, Doubt
from l4.config.kinds import is_policy
from l4.config.manifest import CLUSTER_SCOPED
from l4.config.source import Answer, Changes, Documents, Take


class ApiServer:
    """Objects as an API server has them. `refused` holds the (group, kind) pairs that cannot be listed."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, Document] = {}
        self.refused: set[tuple[str, str]] = set()
        self.version = 0
        self.changed = asyncio.Event()

    def apply(self, text: str) -> None:
        """Like `kubectl apply`."""
        for content in yaml.safe_load_all(text):
            key = _key(content)
            self.version += 1
            self.objects[key] = Document(key, content, ObjectOrigin(key, str(self.version)))
        self.changed.set()

    def delete(self, kind: str, name: str) -> None:
        (key,) = (it for it in self.objects if (it.kind, it.name) == (kind, name))
        del self.objects[key]
        self.changed.set()

    def refuse(self, group: str, kind: str) -> None:
        """From now on, refuse to list this kind and end its watches."""
        self.refused.add((group, kind))
        self.changed.set()

    def allow(self, group: str, kind: str) -> None:
        self.refused.remove((group, kind))
        self.changed.set()


class ApiServerSource:
    """Follows an ApiServer. It reports a kind that it cannot list as unknown, with no changes."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._known: dict[ObjectKey, Document] = {}
        self._listed: set[tuple[str, str]] = set()
        self._is_taken = False

    @property
    def lack(self) -> str:
        return "the API server has no objects"

    @property
    def silent_seconds(self) -> float:
        return 0.0

    async def load(self) -> Documents:
        self._server.changed.clear()
        self._is_taken = True
        return self._everything()

    async def close(self) -> None:
        """It holds nothing."""

    async def watch(self, take: Take) -> None:
        while True:
            if self._is_taken:
                await self._server.changed.wait()
            self._server.changed.clear()
            answer: Answer = self._changes() if self._is_taken else self._everything()
            self._is_taken = False
            await take(answer)
            self._is_taken = True

    def _everything(self) -> Documents:
        changes = self._changes()
        ordered = sorted(self._known.values(), key=lambda document: document.key)
        return Documents(tuple(ordered), (), changes.doubts)

    def _changes(self) -> Changes:
        server, refused = self._server, self._server.refused
        now = {key: it for key, it in server.objects.items() if key[:2] not in refused}
        kept = {key: it for key, it in self._known.items() if key[:2] in refused}
        before, self._known = self._known, now | kept
        self._listed |= {key[:2] for key in now}
        changed = tuple(it for key, it in self._known.items() if before.get(key) is not it)
        doubts = tuple(self._doubt(*kind) for kind in sorted(refused))
        return Changes(changed, tuple(before.keys() - self._known.keys()), (), doubts)

    def _doubt(self, group: str, kind: str) -> Doubt:
        has_last_good = (group, kind) in self._listed
        key = ObjectKey(group, kind, "", "*")
        sentence = "cannot be listed: forbidden" + ("; what was known stays in force" if has_last_good else "")
        problem = Problem(
            ObjectOrigin(key, str(self._server.version)), str(key), "", sentence, DocumentCode.CONTENT_HELD
        )
        return Doubt(problem, has_last_good, EVERYWHERE if is_policy(group, kind) else None)


def _key(content: Mapping[str, Any]) -> ObjectKey:
    kind, meta = content["kind"], content["metadata"]
    namespace = "" if kind in CLUSTER_SCOPED else meta.get("namespace", "default")
    return ObjectKey(content["apiVersion"].rpartition("/")[0], kind, namespace, meta["name"])
