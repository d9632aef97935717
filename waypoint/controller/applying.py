"""Server-side apply of whole objects and of overlays, only when something differs.

The controller never takes a field from another manager that applies it. It restores an edited field by force, but only
in the very version of the object that it has read, so that no new owner is overlooked.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from l4.kubernetes.client import FIELD_MANAGER, ApiClient, ApiError, ResourceType
from waypoint.controller.ownership import applied_by, is_applied, without_others

OVERLAY_MANAGER = "pywaypoint.dev/overlay"
_ATTEMPTS = 5
"""A Deployment's status changes while it is looked at."""
_OURS = (FIELD_MANAGER, OVERLAY_MANAGER)

Object = dict[str, Any]


class NotOurs(Exception):
    """An object of the wanted name exists, and isn't the Gateway's. It is left alone."""


async def read(client: ApiClient, resource: ResourceType, namespace: str, name: str) -> Object | None:
    """Raises ApiError."""
    try:
        content: Object = json.loads(await client.get(resource.path(namespace, name)))
    except ApiError as error:
        if error.code == 404:
            return None
        raise
    return content


async def apply(
    client: ApiClient,
    resource: ResourceType,
    wanted: Object,
    live: Mapping[str, Any] | None,
    part: Object | None = None,
) -> Object:
    """Returns the object as it is then. Fields that leave the overlay's `part` are taken back first: without its image,
    a container would be invalid. Raises ApiError."""
    parts = {} if part is None else {OVERLAY_MANAGER: part}
    left = without_others(wanted, live or {}, [FIELD_MANAGER], parts)
    if live is not None and is_applied(left, live, FIELD_MANAGER):
        return dict(live)
    try:
        return _content(await client.apply(_path(resource, wanted), left, manager=FIELD_MANAGER))
    except ApiError as error:
        if error.code != 409:
            raise
    return await _force(client, resource, wanted, FIELD_MANAGER, [FIELD_MANAGER], parts)


async def overlay(client: ApiClient, resource: ResourceType, part: Object, live: Mapping[str, Any]) -> None:
    """Applies a part over the object; an empty part gives all fields back. Raises ApiError."""
    has_nothing = part.keys() <= {"apiVersion", "kind", "metadata"} and part["metadata"].keys() <= {"namespace", "name"}
    if has_nothing and not applied_by(live, OVERLAY_MANAGER):
        return
    if not is_applied(without_others(part, live, _OURS), live, OVERLAY_MANAGER):
        await _force(client, resource, part, OVERLAY_MANAGER, _OURS, {})


async def _force(
    client: ApiClient,
    resource: ResourceType,
    wanted: Object,
    manager: str,
    ours: Iterable[str],
    parts: Mapping[str, Object],
) -> Object:
    for attempt in range(1, _ATTEMPTS + 1):
        fresh = await read(client, resource, _namespace(wanted), wanted["metadata"]["name"])
        if fresh is None:
            raise ApiError(409, "Conflict", f"{_path(resource, wanted)}: the object was deleted meanwhile")
        left = without_others(wanted, fresh, ours, parts)
        left["metadata"] = {**left["metadata"], "resourceVersion": fresh["metadata"]["resourceVersion"]}
        try:
            return _content(await client.apply(_path(resource, wanted), left, manager=manager, force=True))
        except ApiError as error:
            if error.code != 409 or attempt == _ATTEMPTS:
                raise
    raise AssertionError


def _path(resource: ResourceType, wanted: Object) -> str:
    return resource.path(_namespace(wanted), wanted["metadata"]["name"])


def _namespace(wanted: Object) -> str:
    namespace: str = wanted["metadata"].get("namespace", "")
    return namespace


def _content(text: bytes) -> Object:
    content: Object = json.loads(text)
    return content
