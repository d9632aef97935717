"""The pods that Deployments and their like promise to run, as far as their templates say."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from l4.config.documents import Document, ObjectKey, Origin

_CONTROLLERS = frozenset(
    {"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "DaemonSet", "Rollout", "Job"}
)
_MANY = 1_000_000
"""A DaemonSet has as many as there are nodes."""


@dataclass(frozen=True, slots=True)
class Template:
    """Pods of one sort. `key` is the object that promises them, `content` what each of them will be: metadata and spec.
    `replicas` is how many of them there will be."""

    key: ObjectKey
    labels: Mapping[str, str]
    replicas: int
    content: Mapping[str, Any]
    origin: Origin


def templates(documents: Iterable[Document]) -> Iterator[Template]:
    """Of controllers, and of pods that nobody has started yet."""
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
        pass  # nothing that a cluster would take
    return None


def _of(document: Document, pod: Any, replicas: int) -> Template:
    labels = {str(name): str(value) for name, value in pod["metadata"].get("labels", {}).items()}
    return Template(document.key, labels, replicas, pod, document.origin)
