"""Applies the objects of one Gateway, and writes the Gateway's status.

Objects are independent: a refusal by the API server becomes part of a condition, and the other objects are applied.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from l4.kubernetes.reflector import Key
from waypoint.controller import access, rendering, status
from waypoint.controller.applying import NotOurs, Object, apply, overlay, read
from waypoint.controller.gateways import Gateway
from waypoint.controller.kinds import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    GATEWAY_CLASSES,
    GATEWAYS,
    OWNED,
    ROLE_BINDINGS,
    SERVICES,
)
from waypoint.controller.overlay import Overlays, empty, unusable
from waypoint.controller.overlay import read as read_overlays
from waypoint.controller.rendering import Installation
from waypoint.controller.store import CLUSTER, Store

log = logging.getLogger(__name__)

_REFUSALS = (400, 403, 404, 413, 415, 422)
"""Answers that tell of the object: a condition has them. After all others, the API server is asked again."""


@dataclass(frozen=True, slots=True)
class Responsibility:
    """Which Gateways are this controller's. `role` is the ClusterRole of waypoints."""

    revision: str = "default"
    role: str = "pywaypoint-waypoint"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Reconciler:
    """`reconcile` may be called at any time; it does nothing where nothing differs."""

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        installation: Installation,
        responsibility: Responsibility,
        now: Callable[[], str] = now,
    ) -> None:
        self._client = client
        self._store = store
        self._installation = installation
        self._responsibility = responsibility
        self._now = now
        self._told: dict[Key, tuple[str, ...]] = {}

    async def reconcile(self, key: Key) -> bool:
        """Whether all is as wanted, as far as it is in the controller's hands. Raises ApiError."""
        if key == CLUSTER:
            await self._accept_classes()
            await self._bind()
            return True
        gateway = self._store.gateways.get(key)
        if gateway is None or not self._is_ours(gateway):
            self._told.pop(key, None)
            return True
        return await self._make(key, gateway)

    def _is_ours(self, gateway: Gateway) -> bool:
        is_going = gateway.metadata.deletion_timestamp is not None
        return self._store.is_of_our_class(gateway) and gateway.is_of(self._responsibility.revision) and not is_going

    async def _bind(self) -> None:
        waypoints = [key for key, it in self._store.gateways.items() if self._is_ours(it) and it.is_managed]
        wanted = access.binding(self._responsibility.role, waypoints)
        live = self._store.live(ROLE_BINDINGS, Key("", self._responsibility.role))
        await apply(self._client, ROLE_BINDINGS, wanted, live)

    async def _accept_classes(self) -> None:
        for known in list(self._store.classes()):
            if (new := status.of_class(known, self._now())) is not None:
                await self._tell(GATEWAY_CLASSES, "", known.metadata.name, new)

    async def _make(self, key: Key, gateway: Gateway) -> bool:
        overlays = self._overlays(key, gateway)
        problems, failures = list(overlays.problems), []
        if gateway.is_managed:
            for wanted in rendering.objects(gateway.waypoint(), self._installation):
                kind = wanted["kind"]
                part = None if kind in overlays.kept else overlays.by_kind.get(kind) or empty(kind, *key)
                try:
                    problems += await self._make_object(key, gateway, wanted, part)
                except (ApiError, NotOurs) as error:
                    if isinstance(error, ApiError) and not _is_refusal(error):
                        raise
                    failures.append(f"{kind}: {_sentence(error)}")
        outcome = status.Outcome(
            problems, failures, self._store.live(SERVICES, key), self._store.live(DEPLOYMENTS, key)
        )
        current = self._store.gateways.get(key, gateway)
        if current.metadata.uid == gateway.metadata.uid:
            new = status.of_gateway(current, outcome, self._installation.cluster_domain, self._now())
            if new is not None:
                await self._tell(GATEWAYS, *key, new)
        self._log(key, (*problems, *failures))
        return not failures

    def _log(self, key: Key, sentences: tuple[str, ...]) -> None:
        """Once for each failure, not each time that it is tried again."""
        known = self._told.pop(key, ())
        if sentences:
            self._told[key] = sentences
        for sentence in sentences:
            if sentence not in known:
                log.warning("Gateway %s/%s: %s", *key, sentence)

    async def _make_object(self, key: Key, gateway: Gateway, wanted: Object, part: Object | None) -> list[str]:
        """Returns what is wrong with the overlay. Raises ApiError and NotOurs if the object can't be made."""
        resource = OWNED[wanted["kind"]]
        live = self._store.live(resource, key)
        if live is None or not _is_owned(live, gateway):
            live = await read(self._client, resource, *key)
            if live is not None and not _is_owned(live, gateway):
                raise NotOurs(f"{resource.kind} {key.namespace}/{key.name} exists and is not this Gateway's")
        if live is None and resource == DEPLOYMENTS and part is not None and "spec" in part:
            # Its first pods are to be those of the overlay.
            paused = {**wanted, "spec": {**wanted["spec"], "paused": True}}
            made = await apply(self._client, resource, paused, live)
            refusals = await self._overlay(resource, part, made)
            await apply(self._client, resource, wanted, await read(self._client, resource, *key), part)
            return refusals
        made = await apply(self._client, resource, wanted, live, part)
        return [] if part is None else await self._overlay(resource, part, made)

    async def _overlay(self, resource: ResourceType, part: Object, made: Object) -> list[str]:
        try:
            await overlay(self._client, resource, part, made)
        except ApiError as error:
            if not _is_refusal(error):
                raise
            return [f"the overlay of the {resource.kind} is refused: {_sentence(error)}"]
        return []

    def _overlays(self, key: Key, gateway: Gateway) -> Overlays:
        ref = gateway.parameters_ref
        if ref is None:
            return Overlays()
        if (ref.group, ref.kind) != ("", CONFIG_MAPS.kind):
            return unusable(f"spec.infrastructure.parametersRef names a {ref}; it must name a ConfigMap")
        place = f"ConfigMap {key.namespace}/{ref.name}"
        data = self._store.overlay(Key(key.namespace, ref.name))
        if data is None:
            return unusable(f"there is no {place} (spec.infrastructure.parametersRef), or it has no key of an overlay")
        return read_overlays(data, place, *key)

    async def _tell(self, resource: ResourceType, namespace: str, name: str, new: Mapping[str, Any]) -> None:
        metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
        content = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "status": new}
        await self._client.apply(resource.path(namespace, name, "status"), content, force=True)


def _is_owned(live: Mapping[str, Any], gateway: Gateway) -> bool:
    references = live["metadata"].get("ownerReferences") or ()
    return any(it.get("uid") == gateway.metadata.uid for it in references)


def _is_refusal(error: ApiError) -> bool:
    """Server-side apply answers with 500 for a field that doesn't exist, or a value of another type."""
    return error.code in _REFUSALS or (error.code == 500 and "typed patch" in str(error))


def _sentence(error: Exception) -> str:
    """The API server's own, without the path that was asked."""
    text = str(error)
    return text.partition(": ")[2] if text.startswith("/") else text
