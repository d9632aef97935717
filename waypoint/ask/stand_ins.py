"""Assume pods for manifests in a repository, which have Deployments but no pods.

Each Deployment or other controller then counts as one ready pod, so that a question about a request has an answer. The
answer states this assumption. It is not made in namespaces with known pods or EndpointSlices, as in a cluster dump.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

import msgspec

from l4.config.documents import Document, ObjectKey
from l4.config.resources import Resources
from l4.discovery.label_names import DATAPLANE_MODE, REDIRECTION
from l4.discovery.objects import EndpointSlice, NamespaceObject, Pod
from waypoint.ask.explanation import EndpointTold, Explanation
from waypoint.ask.templates import Template, templates

_FIRST_ADDRESS = IPv6Address("2001:db8::1")  # from the documentation range, which nobody uses
_MAX = 65_536
_ASSUMPTION = (
    "these files contain no running Pods: each Deployment or other controller counts as one ready pod, which is in the "
    f"mesh if it or its Namespace has the label {DATAPLANE_MODE}: ambient"
)


class StandIns:
    """`pods` are the assumed pods, to be treated like those of the files."""

    def __init__(self, documents: Iterable[Document], resources: Resources) -> None:
        busy = {it.key.namespace for it in resources.of(Pod) if it.value.addresses and not it.value.is_over}
        busy |= {it.key.namespace for it in resources.of(EndpointSlice)}
        self._namespaces = {it.key.name: it.value.metadata.labels for it in resources.of(NamespaceObject)}
        self._by_ip: dict[str, ObjectKey] = {}
        promised = (it for it in templates(documents) if it.replicas > 0 and it.key.namespace not in busy)
        self.documents = tuple(self._pods(promised))

    def told(self, explanation: Explanation) -> Explanation:
        """Return the explanation with the assumption stated and assumed pods marked."""
        outcomes = tuple(replace(it, endpoints=tuple(map(self._endpoint, it.endpoints))) for it in explanation.outcomes)
        if outcomes == explanation.outcomes:
            return explanation
        return replace(explanation, outcomes=outcomes, assumptions=(_ASSUMPTION,))

    def _pods(self, promised: Iterable[Template]) -> Iterator[Document]:
        for number, template in zip(range(_MAX), promised, strict=False):
            ip = str(_FIRST_ADDRESS + number)
            pod = _pod(template, ip, is_enrolled=self._is_enrolled(template))
            if pod is not None:
                self._by_ip[ip] = template.key
                yield pod

    def _is_enrolled(self, template: Template) -> bool:
        namespace = self._namespaces.get(template.key.namespace, {})
        return template.labels.get(DATAPLANE_MODE, namespace.get(DATAPLANE_MODE)) == "ambient"

    def _endpoint(self, endpoint: EndpointTold) -> EndpointTold:
        host, _, port = endpoint.address.rpartition(":")
        key = self._by_ip.get(host.strip("[]"))
        if key is None:
            return endpoint
        what = f"{key.kind} {key.name}" if key.kind == "Pod" else f"a pod of {key.kind} {key.name}"
        return replace(endpoint, address=f"({what}):{port}")


def _pod(template: Template, ip: str, *, is_enrolled: bool) -> Document | None:
    """Return a pod for the template, or None if the template is invalid."""
    key = template.key
    metadata: Mapping[str, Any] = template.content.get("metadata") or {}
    annotations = dict(metadata.get("annotations") or {})
    if is_enrolled:
        annotations.setdefault(REDIRECTION, "enabled")
    name = key.name if key.kind == "Pod" else f"{key.name}-{key.kind.lower()}"
    content = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": key.namespace,
            "labels": template.labels,
            "annotations": annotations,
            "ownerReferences": [{"kind": key.kind, "name": key.name}] if key.kind != "Pod" else [],
        },
        "spec": template.content.get("spec") or {},
        "status": {"podIP": ip},
    }
    try:
        msgspec.convert(content, Pod)
    except msgspec.ValidationError:
        return None
    return Document(ObjectKey("", "Pod", key.namespace, name), content, template.origin)
