"""Attributes of workloads from labels, annotations and owners, the same for all kinds of objects.

Names and precedence are istiod's.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from l4.discovery.label_names import CANONICAL_NAME, CANONICAL_REVISION, REDIRECTION, TUNNEL, XFCC_INCLUDES_CLIENT
from l4.discovery.objects import Metadata, OwnerReference, is_port
from l4.discovery.workload import ApplicationTunnel, TunnelProtocol

_WORKLOAD_NAME = "service.istio.io/workload-name"
_REGISTRATION_GROUP = "istio.io/autoRegistrationGroup"
_CANONICAL_NAMES = (CANONICAL_NAME, "app.kubernetes.io/name", "app")
_CANONICAL_REVISIONS = (CANONICAL_REVISION, "app.kubernetes.io/version", "version")
CARRIED = frozenset({*_CANONICAL_NAMES, *_CANONICAL_REVISIONS})
"""The labels of workloads that discovery carries, as a canonical name and revision."""
_RUN_OF_CRON_JOB = re.compile(r"(.+)-\d{8,10}", re.ASCII).fullmatch
_TEMPLATE_HASHES = ("pod-template-hash", "rollouts-pod-template-hash")


def tunnel_protocol(labels: Mapping[str, str], annotations: Mapping[str, str]) -> TunnelProtocol:
    """HBONE if a ztunnel accepts the workload's connections, or if the workload itself declares HBONE support."""
    speaks_hbone = is_redirected(annotations) or "http" in labels.get(TUNNEL, "").split(",")
    return TunnelProtocol.HBONE if speaks_hbone else TunnelProtocol.NONE


def is_redirected(annotations: Mapping[str, str]) -> bool:
    """Whether the workload's connections are redirected to its node's ztunnel."""
    return annotations.get(REDIRECTION) == "enabled"


def tells_client(annotations: Mapping[str, str]) -> bool:
    """Whether a waypoint tells its destinations who the client is, in x-forwarded-client-cert."""
    return annotations.get(XFCC_INCLUDES_CLIENT) == "true"


def application_tunnel(text: str) -> ApplicationTunnel | None:
    """Return what `PROXY`, `NONE`, `PROXY/15088` or such says, or None for anything else."""
    protocol, slash, port = text.partition("/")
    if protocol not in ("NONE", "PROXY") or (slash and not is_port(port)):
        return None
    return ApplicationTunnel(int(port or 0), protocol == "PROXY")


def canonical_name(labels: Mapping[str, str], workload_name: str) -> str:
    return _first(labels, _CANONICAL_NAMES, workload_name)


def canonical_revision(labels: Mapping[str, str]) -> str:
    return _first(labels, _CANONICAL_REVISIONS, "latest")


@lru_cache(maxsize=4096)
def carried_labels(name: str, revision: str) -> Mapping[str, str]:
    """Return the labels that a workload with this canonical name and revision may have. They are one of each."""
    return {**dict.fromkeys(_CANONICAL_NAMES, name), **dict.fromkeys(_CANONICAL_REVISIONS, revision)}


def entry_name(meta: Metadata, labels: Mapping[str, str]) -> str:
    """Return the workload name of a WorkloadEntry; if auto-registered, that of its group."""
    return meta.annotations.get(_REGISTRATION_GROUP) or labels.get(_WORKLOAD_NAME) or meta.name


def pod_name_and_kind(meta: Metadata) -> tuple[str, str]:
    """Return a pod's workload name, which is the same for all replicas, and the kind of its owner."""
    name, kind = _made_by(meta)
    return meta.labels.get(_WORKLOAD_NAME) or name, kind


def _made_by(meta: Metadata) -> tuple[str, str]:
    """A ReplicaSet stands for its Deployment or Argo Rollout, and a Job named like a CronJob's run for the CronJob."""
    suffixes = [f"-{meta.labels[name]}" for name in _TEMPLATE_HASHES if meta.labels.get(name)]
    owner = _owner(meta.owner_references)
    if owner is None:
        cut = (meta.name.rpartition(suffix + "-")[0] for suffix in suffixes)
        return next(((name, "deployment") for name in cut if name), (meta.name, "pod"))
    match owner.kind:
        case "ReplicaSet":
            cut = (owner.name.removesuffix(suffix) for suffix in suffixes if owner.name.endswith(suffix))
            return next(cut, owner.name), "deployment"
        case "ReplicationController" if meta.labels.get("deploymentconfig"):
            return meta.labels["deploymentconfig"], "pod"
        case "Job":
            run = _RUN_OF_CRON_JOB(owner.name)
            return (run[1], "cronjob") if run else (owner.name, "job")
    return owner.name, owner.kind.lower() if owner.kind in {"Deployment", "CronJob"} else "pod"


def _owner(references: tuple[OwnerReference, ...]) -> OwnerReference | None:
    """Return the controlling owner; in hand-written manifests, the first owner."""
    controlling = (it for it in references if it.controller)
    return next(controlling, references[0] if references else None)


def _first(labels: Mapping[str, str], names: Iterable[str], default: str) -> str:
    return next((labels[name] for name in names if labels.get(name)), default)
