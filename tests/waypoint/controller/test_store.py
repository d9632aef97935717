import asyncio
import json
from typing import Any

import msgspec
import pytest

from l4.kubernetes.client import ResourceType
from l4.kubernetes.reflector import Key
from waypoint.controller.kinds import CONFIG_MAPS, DEPLOYMENTS, GATEWAY_CLASSES, GATEWAYS
from waypoint.controller.store import CLUSTER, Store

FRONT = Key("shop", "front")


class Told:
    """A store, and what it wants to be looked at."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.store = Store("ours", [GATEWAYS, CONFIG_MAPS], self.keys.append)

    def take(self, resource: ResourceType, key: Key, **content: Any) -> list[Key]:
        self.keys.clear()
        metadata = {"name": key.name, "namespace": key.namespace}
        self.store.changed(resource, key, "1", msgspec.Raw(json.dumps({"metadata": metadata, **content}).encode()))
        return list(self.keys)

    def gateway(self) -> list[Key]:
        infrastructure = {"parametersRef": {"kind": "ConfigMap", "name": "o"}}
        return self.take(GATEWAYS, FRONT, spec={"gatewayClassName": "c", "infrastructure": infrastructure})


def test_a_class_is_ours_by_the_name_of_the_controller() -> None:
    told = Told()
    told.gateway()
    gateway = told.store.gateways[FRONT]

    assert not told.store.is_of_our_class(gateway)
    assert set(told.take(GATEWAY_CLASSES, Key("", "c"), spec={"controllerName": "ours"})) == {CLUSTER, FRONT}
    assert told.store.is_of_our_class(gateway)
    told.take(GATEWAY_CLASSES, Key("", "c"), spec={"controllerName": "theirs"})
    assert not told.store.is_of_our_class(gateway)


def test_an_object_is_looked_at_with_its_gateway() -> None:
    told = Told()

    assert told.gateway() == [FRONT, CLUSTER]
    assert told.gateway() == [FRONT], "its status alone is new"
    assert told.take(DEPLOYMENTS, FRONT, spec={}) == [FRONT]
    assert told.store.live(DEPLOYMENTS, FRONT) is not None
    told.store.gone(DEPLOYMENTS, FRONT)
    assert told.store.live(DEPLOYMENTS, FRONT) is None


def test_only_overlays_are_kept_of_all_config_maps() -> None:
    told = Told()
    assert told.take(CONFIG_MAPS, Key("shop", "o"), data={"deployment": "{}"}) == []
    told.take(CONFIG_MAPS, Key("shop", "big"), data={"x": "y"})
    told.gateway()

    assert told.take(CONFIG_MAPS, Key("shop", "o"), data={"deployment": "{}"}) == []
    assert told.take(CONFIG_MAPS, Key("shop", "o"), data={"wrong": "{}"}) == [FRONT]
    assert told.store.overlay(Key("shop", "o")) == {"wrong": "{}"}
    assert told.store.overlay(Key("shop", "big")) is None
    told.keys.clear()
    told.store.gone(CONFIG_MAPS, Key("shop", "o"))
    assert told.keys == [FRONT]


def test_an_object_that_is_not_understood_is_told_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()

    assert told.take(GATEWAYS, FRONT, spec=7) == []
    assert "gateways.gateway.networking.k8s.io shop/front is not understood" in caplog.text


def test_all_is_listed_when_every_kind_is() -> None:
    told = Told()
    told.store.listed(GATEWAYS)
    assert not told.store.is_listed
    told.store.listed(CONFIG_MAPS)
    assert told.store.is_listed
    asyncio.run(told.store.wait())
