"""Pod templates of Deployments and other controllers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from l4.config.documents import Document, ObjectKey, Origin

_CONTROLLERS = frozenset(
    {"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "DaemonSet", "Rollout", "Job"}
)
_MANY = 1_000_000
"""For DaemonSets, which have as many pods as there are nodes."""


@dataclass(frozen=True, slots=True)
class Template:
    """Pods of one kind. `key` is the object that creates them, `content` their metadata and spec.

    `replicas` is their number.
    """

    key: ObjectKey
    labels: Mapping[str, str]
    replicas: int
    content: Mapping[str, Any]
    origin: Origin


def templates(documents: Iterable[Document]) -> Iterator[Template]:
    """Yield templates of controllers, and of pods that have not started."""
    for document in documents:
        template = _template(document)
        if template is not None:
            yield template


def _template(document: Document) -> Template | None:
    content: Any = document.content
    try:
        match document.key.kind:
            case "Pod":
                return None if content.get("status") else _of(document, content, 1)
            case "CronJob":
                return _of(document, content["spec"]["jobTemplate"]["spec"]["template"], 1)
            case kind if kind in _CONTROLLERS:
                spec = content["spec"]
                replicas = _MANY if kind == "DaemonSet" else int(spec.get("replicas", 1))
                return _of(document, spec["template"], replicas)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        pass  # invalid; a cluster would reject it
    return None


def _of(document: Document, pod: Any, replicas: int) -> Template:
    labels = {str(name): str(value) for name, value in pod["metadata"].get("labels", {}).items()}
    return Template(document.key, labels, replicas, pod, document.origin)
