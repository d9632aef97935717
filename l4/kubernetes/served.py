"""Which kinds an API server serves, under which version and name: the discovery API.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from collections.abc import Collection, Sequence
from typing import TypeVar

import msgspec

from l4.kubernetes.client import ApiClient, ApiError, ResourceType

T = TypeVar("T")


class _Version(msgspec.Struct):
    version: str = ""


class _Group(msgspec.Struct):
    versions: list[_Version] = []

    @property
    def names(self) -> list[str]:
        return [it.version for it in self.versions]


class _Core(msgspec.Struct):
    versions: list[str] = []

    @property
    def names(self) -> list[str]:
        return self.versions


class _Resource(msgspec.Struct):
    name: str = ""
    kind: str = ""
    namespaced: bool = True


class _Resources(msgspec.Struct):
    resources: list[_Resource] = []


async def find(
    client: ApiClient, group: str, kinds: Collection[str], versions: Sequence[str]
) -> dict[str, ResourceType]:
    """Return each of `kinds` in the first of `versions` that the server has it in, without those that it does not have.

    Raises ApiError if the server cannot tell, or if it has the group in other versions only.
    """
    found: dict[str, ResourceType] = {}
    for version in await _served(client, group, versions):
        if len(found) == len(kinds):
            break
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        answer = await _get(client, path, _Resources)
        for it in answer.resources if answer is not None else ():
            if it.kind in kinds and "/" not in it.name:
                found.setdefault(it.kind, ResourceType(group, version, it.name, it.kind, it.namespaced))
    return found


async def _served(client: ApiClient, group: str, versions: Sequence[str]) -> list[str]:
    path = f"/apis/{group}" if group else "/api"
    answer: _Group | _Core | None = await (_get(client, path, _Group) if group else _get(client, path, _Core))
    if answer is None and not group:
        raise ApiError(404, "NotFound", f"{path}: not found, which every API server has; is its address right?")
    served = answer.names if answer is not None else []
    known = [it for it in versions if it in served]
    if served and not known:
        raise ApiError(0, "UnknownVersion", f"{path}: served as {', '.join(served)}; known is {', '.join(versions)}")
    return known


async def _get(client: ApiClient, path: str, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(await client.get(path), type=kind)
    except ApiError as error:
        if error.code == 404:
            return None
        raise
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiError(0, "Undecodable", f"{path}: the answer cannot be decoded: {error}") from None
