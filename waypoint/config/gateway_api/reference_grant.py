"""ReferenceGrant: which objects of other namespaces may refer to objects in its namespace.

https://gateway-api.sigs.k8s.io/reference/spec/#referencegrant
"""

from typing import Annotated

from msgspec import Meta, Struct, field

from l4.config.resources import Strict
from l4.discovery.objects import Metadata
from waypoint.config.api_fields import Group, Kind, Namespace, ObjectName


class GrantFrom(Struct, frozen=True):
    group: Group
    kind: Kind
    namespace: Namespace


class GrantTo(Struct, frozen=True):
    """Without a name, all objects of the kind."""

    group: Group
    kind: Kind
    name: ObjectName | None = None


class ReferenceGrantSpec(Struct, frozen=True):
    from_: Annotated[tuple[GrantFrom, ...], Meta(min_length=1, max_length=16)] = field(name="from")
    to: Annotated[tuple[GrantTo, ...], Meta(min_length=1, max_length=16)]


class ReferenceGrant(Strict, frozen=True):
    metadata: Metadata
    spec: ReferenceGrantSpec

    def permits(self, group: str, kind: str, namespace: str, to_group: str, to_kind: str, to_name: str) -> bool:
        """Whether objects of this kind and namespace may refer to an object in the grant's namespace."""
        is_from = GrantFrom(group, kind, namespace) in self.spec.from_
        return is_from and any(
            (it.group, it.kind) == (to_group, to_kind) and it.name in {None, to_name} for it in self.spec.to
        )
