"""The pods that a name means in a cluster: `deploy/NAME`, `ds/ztunnel`, `gateway/NAME`, `svc/NAME`, or a pod itself."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from l4.asking.admin import CannotAsk
from l4.discovery.label_names import GATEWAY_NAME
from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from l4.kubernetes.port_forward import PODS

_DEPLOYMENTS = ResourceType("apps", "v1", "deployments", "Deployment")
_DAEMON_SETS = ResourceType("apps", "v1", "daemonsets", "DaemonSet")
_STATEFUL_SETS = ResourceType("apps", "v1", "statefulsets", "StatefulSet")
_SERVICES = ResourceType("", "v1", "services", "Service")
OWNERS = {
    **dict.fromkeys(("deploy", "deployment", "deployments"), _DEPLOYMENTS),
    **dict.fromkeys(("ds", "daemonset", "daemonsets"), _DAEMON_SETS),
    **dict.fromkeys(("sts", "statefulset", "statefulsets"), _STATEFUL_SETS),
    **dict.fromkeys(("svc", "service", "services"), _SERVICES),
}
GATEWAYS = ("gtw", "gateway", "gateways")
PODS_THEMSELVES = ("po", "pod", "pods")
KINDS = (*OWNERS, *GATEWAYS, *PODS_THEMSELVES)
MAX_PODS = 32


@dataclass(frozen=True, slots=True)
class PodName:
    namespace: str
    name: str
    node: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    deletion_timestamp: str | None = None


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    selector: dict[str, object] = {}


class _Status(msgspec.Struct):
    phase: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


_decode = msgspec.json.Decoder(_Object).decode


async def find_pods(client: ApiClient, namespace: str, wanted: str, node: str = "") -> list[PodName]:
    """Return the running pods of KIND/NAME or of a pod's name; `wanted` empty: of all waypoints of the namespace.

    Raises CannotAsk.
    """
    kind, _, name = wanted.rpartition("/")
    try:
        if wanted and (not kind or kind in PODS_THEMSELVES):
            pod = _decode(await client.get(PODS.path(namespace, name)))
            found = [pod]
        else:
            selector = await _selector(client, namespace, kind, name)
            query = {"labelSelector": selector} | ({"fieldSelector": f"spec.nodeName={node}"} if node else {})
            pages = client.pages(PODS.path(namespace), query)
            found = [_decode(it) async for page in pages for it in page.items]
    except ApiError as error:
        raise CannotAsk(str(error)) from None
    pods = [
        PodName(it.metadata.namespace, it.metadata.name, it.spec.node_name)
        for it in found
        if it.status.phase == "Running" and it.metadata.deletion_timestamp is None
    ]
    if not pods:
        where = f" on node {node}" if node else ""
        raise CannotAsk(f"no pod of {wanted or 'a waypoint'} runs in namespace {namespace}{where}")
    if len(pods) > MAX_PODS:
        raise CannotAsk(f"{wanted} has {len(pods)} pods, more than {MAX_PODS}; name one, or give --node")
    return sorted(pods, key=lambda it: (it.namespace, it.name))


async def _selector(client: ApiClient, namespace: str, kind: str, name: str) -> str:
    """Return the label selector of an owner's pods. Raises ApiError, CannotAsk."""
    if not name:
        return GATEWAY_NAME
    if kind in GATEWAYS:
        return f"{GATEWAY_NAME}={name}"
    if kind not in OWNERS:
        raise CannotAsk(f"{kind}/{name}: the kind is none of {', '.join(KINDS)}")
    selector = _decode(await client.get(OWNERS[kind].path(namespace, name))).spec.selector
    labels = selector.get("matchLabels", {}) if kind not in ("svc", "service", "services") else selector
    if not isinstance(labels, Mapping) or not labels:
        raise CannotAsk(f"{kind}/{name} of namespace {namespace} selects no pods by labels")
    return ",".join(f"{label}={value}" for label, value in labels.items())
