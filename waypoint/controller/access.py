"""What waypoints may read: one ClusterRoleBinding names the service accounts of all waypoints of the installation.

A binding for each waypoint wouldn't go with its Gateway: objects of the cluster can't be owned by one of a namespace.
"""

from collections.abc import Iterable
from typing import Any

from l4.kubernetes.reflector import Key
from waypoint.controller.kinds import ROLE_BINDINGS


def binding(role: str, waypoints: Iterable[Key]) -> dict[str, Any]:
    """Binds the ClusterRole `role`, and is named like it."""
    subjects = [{"kind": "ServiceAccount", "namespace": it.namespace, "name": it.name} for it in sorted(waypoints)]
    return {
        "apiVersion": ROLE_BINDINGS.api_version,
        "kind": ROLE_BINDINGS.kind,
        "metadata": {"name": role},
        "roleRef": {"apiGroup": ROLE_BINDINGS.group, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    }
