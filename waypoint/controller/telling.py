"""Writes our part of the statuses of routes, policies and Services, only where something differs.

Others write the same statuses, so nothing is taken from them:
- A list of entries is replaced in the very version of the object that was read; after a conflict it is read again.
- Conditions of Istio's objects and of Services are applied without force: where another manager owns them, as istiod
  does, they stay his. The manager is named like the controller, of which a cluster may have several.
- What is overwritten again and again is written after a pause, which grows each time.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from l4.config.documents import ObjectKey
from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from waypoint.config.status import ConditionsStatus, PolicyStatus, RouteStatus
from waypoint.controller.applying import read
from waypoint.controller.concluding import EVERYTHING, Concluded
from waypoint.controller.conclusions import Conclusion
from waypoint.controller.entries import Form, conditions, entries, form_of, our_conditions
from waypoint.controller.kinds import told_resource
from waypoint.controller.queue import Queue

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_FIRST_REST_SECONDS = 1.0
"""At least the time after which a watch has shown what was written."""
_MAX_REST_SECONDS = 600.0
_FORBIDDEN_SECONDS = 15.0
_OVERWRITTEN = 3

Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Written:
    """What was written last, how often, and when it may be written again."""

    wanted: Conclusion | None
    times: int
    rest_until: float


class Telling:
    """`learn` gets what is concluded, and `work` writes. `concern` gets the subject and the sentence for readiness."""

    def __init__(
        self, client: ApiClient, controller_name: str, concern: Callable[[str, str], None], now: Callable[[], str]
    ) -> None:
        self._client = client
        self._controller_name = controller_name
        self._concern = concern
        self._now = now
        self._queue: Queue[ObjectKey] = Queue()
        self._known: dict[ObjectKey, Given] = {}
        self._wanted: Mapping[ObjectKey, Conclusion] = {}
        self._unknown: frozenset[tuple[str, str]] = frozenset({EVERYTHING})
        self._written: dict[ObjectKey, _Written] = {}
        self._left: dict[ObjectKey, tuple[Conclusion | None, list[Given]]] = {}
        self._undecoded: frozenset[ObjectKey] = frozenset()
        self._forbidden: dict[ResourceType, float] = {}

    def learn(self, concluded: Concluded) -> None:
        self._known.update((it.key, it.content) for it in concluded.changed)
        for key in concluded.gone:
            for its in (self._known, self._written, self._left):
                its.pop(key, None)
        self._wanted, self._unknown = concluded.wanted, concluded.unknown
        self._undecoded = concluded.undecoded
        for key in self._known if concluded.looked_at is None else concluded.looked_at & self._known.keys():
            self._queue.add(key)

    async def work(self) -> None:
        """Write until cancelled. Several may run at the same time."""
        while True:
            async with self._queue.next() as key:
                try:
                    rest = await self._tell(key)
                except ApiError as error:
                    pause = self._queue.failed(key)
                    log.debug("the status of %s is written again in %g s: %s", key, pause, error)
                except Exception:
                    log.exception("the status of %s cannot be written, and is tried again", key)
                    self._queue.failed(key)
                else:
                    self._queue.well(key)
                    if rest > 0:
                        self._queue.later(key, rest)
            await asyncio.sleep(0)

    def forget(self) -> None:
        """Write nothing until the next conclusion: another replica has led meanwhile."""
        self._unknown = frozenset({EVERYTHING})

    async def _tell(self, key: ObjectKey) -> float:
        """Returns the seconds after which to look again, or 0. Raises ApiError."""
        known = self._known.get(key)
        is_unknown = EVERYTHING in self._unknown or (key.group, key.kind) in self._unknown or key in self._undecoded
        if known is None or is_unknown:
            return 0.0  # the next conclusion has it looked at again
        resource = told_resource(key.group, known["apiVersion"].rpartition("/")[2], key.kind)
        wanted, form = self._wanted.get(key), form_of(key.kind)
        if (rest := self._forbidden.get(resource, 0.0) - _clock()) > 0:
            return rest
        try:
            if form is not None and not isinstance(wanted, ConditionsStatus):
                return await self._replace(resource, key, known, wanted, form)
            assert wanted is None or isinstance(wanted, ConditionsStatus)
            return await self._apply(resource, key, known, wanted)
        except ApiError as error:
            if error.code != 404:
                self._failed(resource, error)
                raise
            self._known.pop(key, None)
        return 0.0

    async def _replace(
        self,
        resource: ResourceType,
        key: ObjectKey,
        known: Given,
        wanted: RouteStatus | PolicyStatus | None,
        form: Form,
    ) -> float:
        """Replaces a list of entries, unless it has just been written. Raises ApiError."""
        live: Given | None = known
        path = resource.path(key.namespace, key.name, "status")
        for _ in range(_ATTEMPTS):
            if live is None:
                return 0.0
            new = entries(form, wanted, live.get("status") or {}, self._controller_name, self._now())
            if new is None:
                return 0.0
            if (rest := self._rest(key, wanted)) > 0:
                return rest
            metadata = {"resourceVersion": live["metadata"]["resourceVersion"]}
            try:
                await self._client.merge(path, {"metadata": metadata, "status": {form.field: new}})
            except ApiError as error:
                if error.code != 409:
                    raise
            else:
                self._note(key, wanted)
                self._succeeded(resource)
                return 0.0
            live = await read(self._client, resource, key.namespace, key.name)
        raise ApiError(409, "Conflict", f"{path}: changed {_ATTEMPTS} times while it was written")

    async def _apply(
        self, resource: ResourceType, key: ObjectKey, known: Given, wanted: ConditionsStatus | None
    ) -> float:
        """Applies conditions, unless another manager owns them. Raises ApiError."""
        status = known.get("status") or {}
        new = conditions(wanted, status, self._now())
        seen = wanted, our_conditions(status)
        if new is None or self._left.get(key) == seen:
            return 0.0
        if (rest := self._rest(key, wanted)) > 0:
            return rest
        content = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": key.name, "namespace": key.namespace},
            **({"status": {"conditions": new}} if new else {}),
        }
        self._left.pop(key, None)
        try:
            path = resource.path(key.namespace, key.name, "status")
            await self._client.apply(path, content, manager=self._controller_name)
        except ApiError as error:
            if error.code != 409:
                raise
            self._left[key] = seen
            log.info("the conditions of %s are left to another controller: %s", key, error)
        if not new:
            self._left[key] = seen  # what is still there is another controller's
        self._note(key, wanted)
        self._succeeded(resource)
        return 0.0

    def _rest(self, key: ObjectKey, wanted: Conclusion | None) -> float:
        """The seconds until the same may be written again: somebody overwrote it, or the watch has yet to show it."""
        last = self._written.get(key)
        return last.rest_until - _clock() if last is not None and last.wanted == wanted else 0.0

    def _note(self, key: ObjectKey, wanted: Conclusion | None) -> None:
        last, now = self._written.get(key), _clock()
        is_again = last is not None and last.wanted == wanted and now - last.rest_until < _MAX_REST_SECONDS
        times = last.times + 1 if last is not None and is_again else 1
        rest = min(_FIRST_REST_SECONDS * 2.0 ** (times - 1), _MAX_REST_SECONDS)
        self._written[key] = _Written(wanted, times, now + rest)
        if times == _OVERWRITTEN:
            log.warning("another controller overwrites our part of the status of %s again and again", key)

    def _succeeded(self, resource: ResourceType) -> None:
        self._forbidden.pop(resource, None)
        self._concern(f"status of {resource}", "")

    def _failed(self, resource: ResourceType, error: ApiError) -> None:
        subject, sentence = f"status of {resource}", f"cannot be written, and is tried again: {error}"
        if error.code == 403:
            where = f" of the API group {resource.group}" if resource.group else ""
            sentence = f"the controller needs the verb patch for {resource.plural}/status{where}: {error}"
            if resource not in self._forbidden:
                log.warning("%s: %s", subject, sentence)
            self._forbidden[resource] = _clock() + _FORBIDDEN_SECONDS
        self._concern(subject, sentence)


def _clock() -> float:
    return asyncio.get_running_loop().time()
