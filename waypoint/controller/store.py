"""The objects that the watches report, by name. Each change queues the Gateways that it concerns."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from l4.kubernetes.client import ResourceType
from l4.kubernetes.reflector import Key
from waypoint.controller.gateways import (
    ConfigMap,
    Gateway,
    GatewayClass,
    class_decoder,
    config_map_decoder,
    gateway_decoder,
)
from waypoint.controller.kinds import CONFIG_MAPS, GATEWAY_CLASSES, GATEWAYS, ROLE_BINDINGS
from waypoint.controller.overlay import KEYS

log = logging.getLogger(__name__)

CLUSTER = Key("", "")
"""Stands for the objects of the cluster: the classes' status and the binding of the waypoints' role."""


class Store:
    """Listens to the reflectors of all `resources`. `look_again` gets the key of a Gateway, or CLUSTER."""

    def __init__(
        self, controller_name: str, resources: Iterable[ResourceType], look_again: Callable[[Key], None]
    ) -> None:
        self._unlisted = set(resources)
        self._all_listed = asyncio.Event()
        self._controller_name = controller_name
        self._look_again = look_again
        self._classes: dict[str, GatewayClass] = {}
        self.gateways: dict[Key, Gateway] = {}
        self._overlays: dict[Key, Mapping[str, str]] = {}
        self._live: dict[tuple[ResourceType, Key], dict[str, Any]] = {}

    def classes(self) -> Iterator[GatewayClass]:
        """Those that are this controller's."""
        return (it for it in self._classes.values() if it.spec.controller_name == self._controller_name)

    def is_of_our_class(self, gateway: Gateway) -> bool:
        known = self._classes.get(gateway.spec.gateway_class_name)
        return known is not None and known.spec.controller_name == self._controller_name

    def live(self, resource: ResourceType, key: Key) -> dict[str, Any] | None:
        return self._live.get((resource, key))

    def overlay(self, key: Key) -> Mapping[str, str] | None:
        """The data of a ConfigMap, or None if there is none with a key of an overlay."""
        return self._overlays.get(key)

    def look_at_all(self) -> None:
        self._look_again(CLUSTER)
        for key in self.gateways:
            self._look_again(key)

    def changed(self, resource: ResourceType, key: Key, resource_version: str, object: msgspec.Raw) -> None:
        try:
            self._take(resource, key, object)
        except msgspec.DecodeError as error:
            log.warning("%s %s/%s is not understood, and ignored: %s", resource, key.namespace, key.name, error)

    def gone(self, resource: ResourceType, key: Key) -> None:
        if resource == GATEWAY_CLASSES:
            self._classes.pop(key.name, None)
            self.look_at_all()
        elif resource == GATEWAYS:
            self.gateways.pop(key, None)
            self._look_again(CLUSTER)
        elif resource == CONFIG_MAPS:
            if self._overlays.pop(key, None) is not None:
                self._look_at_users(key)
        else:
            self._live.pop((resource, key), None)
            self._look_again(CLUSTER if resource == ROLE_BINDINGS else key)

    def listed(self, resource: ResourceType) -> None:
        self._unlisted.discard(resource)
        if not self._unlisted:
            self._all_listed.set()

    @property
    def is_listed(self) -> bool:
        return self._all_listed.is_set()

    async def wait(self) -> None:
        """Wait until all objects of all kinds are known."""
        await self._all_listed.wait()

    def _take(self, resource: ResourceType, key: Key, object: msgspec.Raw) -> None:
        if resource == GATEWAY_CLASSES:
            self._classes[key.name] = class_decoder.decode(object)
            self.look_at_all()
        elif resource == GATEWAYS:
            known, self.gateways[key] = self.gateways.get(key), gateway_decoder.decode(object)
            self._look_again(key)
            if known is None or (known.metadata, known.spec) != (self.gateways[key].metadata, self.gateways[key].spec):
                self._look_again(CLUSTER)
        elif resource == CONFIG_MAPS:
            self._take_config_map(key, config_map_decoder.decode(object))
        else:
            self._live[resource, key] = json.loads(bytes(object))
            self._look_again(CLUSTER if resource == ROLE_BINDINGS else key)

    def _take_config_map(self, key: Key, given: ConfigMap) -> None:
        """Only overlays are kept: those that a Gateway names, and those that have one of their keys."""
        data = given.data or {}
        is_overlay = not data.keys().isdisjoint(KEYS) or any(self._users(key))
        known = self._overlays.pop(key, None)
        if is_overlay:
            self._overlays[key] = data
        if self._overlays.get(key) != known:
            self._look_at_users(key)

    def _look_at_users(self, config_map: Key) -> None:
        for key in self._users(config_map):
            self._look_again(key)

    def _users(self, config_map: Key) -> Iterator[Key]:
        for key, gateway in self.gateways.items():
            ref = gateway.parameters_ref
            if ref is not None and Key(key.namespace, ref.name) == config_map:
                yield key
