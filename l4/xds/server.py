"""A discovery server, and how a program introduces itself to it.

istiod sends what it has for the node's type, which is the first part of its id. The namespace in the id must be that
of the token.
"""

from dataclasses import dataclass
from pathlib import Path

from l4._proto.xds_pb2 import Node
from l4.config.settings import InvalidSetting, Settings
from l4.discovery.mesh import Mesh
from l4.discovery.own_pod import OwnPod
from l4.version import version
from l4.xds.options import DiscoveryOptions

_SOME_IP = "1.1.1.1"
"""An id has an address, which nobody reads; this is ztunnel's."""


@dataclass(frozen=True, slots=True)
class DiscoveryServer:
    """A server at `address`, which is `host:port`, its roots, and our token. `node` says who we are."""

    address: str
    root: Path
    token: Path
    cluster_id: str
    node: Node


def server_of(options: DiscoveryOptions, settings: Settings, type_of_node: str, node: str = "") -> DiscoveryServer:
    """Return the server for a program, `ztunnel` or `waypoint`. `node` is the name of its Kubernetes node.

    Raises InvalidSetting.
    """
    mesh, pod = settings.of(Mesh), settings.of(OwnPod)
    if not pod.pod_namespace:
        raise InvalidSetting("POD_NAMESPACE must be set with --discovery: it is the namespace of the token")
    name, namespace = pod.pod_name or type_of_node, pod.pod_namespace
    about = Node(id=f"{type_of_node}~{_SOME_IP}~{name}.{namespace}~{namespace}.svc.{mesh.cluster_domain}")
    metadata = {"NAME": name, "NAMESPACE": namespace, "CLUSTER_ID": mesh.cluster_id, "NODE_NAME": node}
    about.metadata.update(metadata | {"NETWORK": mesh.network, "ISTIO_VERSION": f"pywaypoint-{version()}"})
    if type_of_node != "ztunnel":
        about.metadata.update({"PROXY_CONFIG": {}})  # istioctl proxy-status lists other nodes only if they have one
    return DiscoveryServer(options.address, options.root, options.token, mesh.cluster_id, about)
