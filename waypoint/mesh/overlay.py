"""YAML overlay over the user's manifests, with the objects that a cluster's controllers would create.

The ztunnel and the waypoints read the user's files and then this file, whose objects replace those of the same name.
Routes and policies thus come directly from the user's files; the overlay contains only what the laptop mesh decides:
addresses, pods and readiness.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import yaml

from l4.config.documents import ObjectKey
from l4.discovery.label_names import GATEWAY_NAME, OUTBOUND_CAPTURE, REDIRECTION
from waypoint.mesh.environment import CLUSTER_DOMAIN
from waypoint.mesh.manifests import Container
from waypoint.mesh.plan import Mesh, Waypoint
from waypoint.mesh.pods import Pod

NODE = "laptop"
HBONE_PORT = 15008

Content = Mapping[str, Any]


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """Write shared values in full, because manifests are read without anchors."""
        return True


def overlay(mesh: Mesh, contents: Mapping[ObjectKey, Content], ready: AbstractSet[str]) -> Iterator[Content]:
    """Yield the objects. `contents` are the user's; `ready` are keys of ready pods."""
    gateways = {waypoint.gateway for waypoint in mesh.waypoints}
    for key, address in mesh.services.items():
        if ObjectKey("gateway.networking.k8s.io", "Gateway", key.namespace, key.name) not in gateways:
            yield _completed(contents[key], spec={"clusterIP": address, "clusterIPs": [address]})
    for waypoint in mesh.waypoints:
        hostname = f"{waypoint.gateway.name}.{waypoint.gateway.namespace}.svc.{CLUSTER_DOMAIN}"
        addresses = [{"type": "Hostname", "value": hostname}]
        yield _completed(contents[waypoint.gateway], status={"addresses": addresses})
        yield _waypoint_service(waypoint)
        yield _pod(waypoint.pod, is_ready=waypoint.pod.key in ready)
    for pod in mesh.ingresses:
        yield _pod(pod, is_ready=True)
    for pod in mesh.pods:
        yield _pod(pod, is_ready=pod.key in ready)


def write(path: Path, objects: Iterator[Content]) -> None:
    """Write the file atomically, so that a reader sees either the old or the new one."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
    draft.replace(path)


def _completed(content: Content, **parts: Content) -> Content:
    """Return the object with these fields set in its `spec` or `status`."""
    return {**content, **{part: {**(content.get(part) or {}), **fields} for part, fields in parts.items()}}


def _waypoint_service(waypoint: Waypoint) -> Content:
    key = waypoint.gateway
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": dict(waypoint.pod.labels)},
        "spec": {
            "clusterIP": waypoint.address,
            "clusterIPs": [waypoint.address],
            "ports": [{"name": "mesh", "port": HBONE_PORT, "protocol": "TCP", "appProtocol": "hbone"}],
            "selector": {GATEWAY_NAME: key.name},
        },
    }


def _pod(pod: Pod, *, is_ready: bool) -> Content:
    annotations = dict(pod.annotations)
    if pod.capture:
        annotations |= {REDIRECTION: "enabled", OUTBOUND_CAPTURE: pod.capture}
    owner = pod.owner
    owners = [{"apiVersion": "apps/v1", "kind": owner.kind, "name": owner.name}] if owner is not None else []
    node = {"nodeName": NODE} if pod.capture else {}  # the node has the pods whose traffic its ztunnel carries
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "labels": dict(pod.labels),
            "annotations": annotations,
            "ownerReferences": owners,
        },
        "spec": {
            **node,
            "serviceAccountName": pod.service_account,
            "containers": [_container(process.container) for process in pod.processes],
        },
        "status": {
            "phase": "Running",
            "podIP": pod.address,
            "podIPs": [{"ip": pod.address}],
            "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
        },
    }


def _container(container: Container) -> Content:
    """Return the parts that the mesh needs: the names of ports, which Services refer to."""
    ports = [
        {"name": port.name, "containerPort": port.container_port, "protocol": port.protocol} for port in container.ports
    ]
    return {"name": container.name, "image": container.image, "ports": ports}
