"""The Kubernetes objects that tell an agent which pods of its node to redirect."""

from collections.abc import Mapping

from msgspec import Struct, field

from l4.config.intake import Taken
from l4.config.kinds import Group, Kind, Kinds
from l4.discovery.labels import is_redirected
from l4.node.agent import NodePod, is_wanted


class Metadata(Struct, frozen=True):
    name: str
    namespace: str = "default"
    uid: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


class Namespace(Struct, frozen=True):
    metadata: Metadata


class Spec(Struct, frozen=True, rename="camel"):
    node_name: str = ""
    service_account_name: str = "default"
    host_network: bool = False


class IP(Struct, frozen=True):
    ip: str


class ContainerStatus(Struct, frozen=True):
    container_id: str = field(default="", name="containerID")


class Status(Struct, frozen=True, rename="camel"):
    phase: str = ""
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[IP, ...] = field(default=(), name="podIPs")
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Struct, frozen=True):
    metadata: Metadata
    spec: Spec = Spec()
    status: Status = Status()


_READ: Mapping[tuple[str, str], Kind] = {("", "Namespace"): Namespace, ("", "Pod"): Pod}
KINDS = Kinds(_READ, {"": Group(("v1",), is_whole=False)})


def pods_of(taken: Taken, node: str) -> tuple[list[NodePod], list[NodePod]] | None:
    """Return the node's pods that are to be redirected, and those that no longer are but were by an earlier agent.

    None until everything was understood once: before that, a label may be missing because it could not be read, and the
    pod would be let go.
    """
    if not taken.is_understood:
        return None
    resources = taken.resources
    namespaces = {it.key.name: it.value.metadata.labels for it in resources.of(Namespace)}
    wanted: list[NodePod] = []
    former: list[NodePod] = []
    for it in resources.of(Pod):
        pod = it.value
        if pod.spec.node_name != node or pod.status.phase in {"Succeeded", "Failed"} or not pod.status.pod_ip:
            continue
        labels = namespaces.get(pod.metadata.namespace, {})
        if is_wanted(pod.metadata.labels, labels, is_host_network=pod.spec.host_network):
            wanted.append(_node_pod(pod))
        elif is_redirected(pod.metadata.annotations) and not pod.spec.host_network:
            former.append(_node_pod(pod))
    return wanted, former


def _node_pod(pod: Pod) -> NodePod:
    meta, status = pod.metadata, pod.status
    ips = dict.fromkeys([status.pod_ip, *(it.ip for it in status.pod_ips)])
    containers = (it.container_id for it in (*status.container_statuses, *status.init_container_statuses))
    account = pod.spec.service_account_name
    return NodePod(meta.uid, meta.name, meta.namespace, account, tuple(ips), tuple(filter(None, containers)))
