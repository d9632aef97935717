"""Who this process is in the cluster, as its pod's manifest says."""

from dataclasses import dataclass

from l4.config.settings import Section


@dataclass(frozen=True, slots=True)
class OwnPod(Section):
    title = "Own pod"

    pod_name: str = ""
    """Name of this process's pod, from `metadata.name`. Only `--discovery` needs it."""
    pod_namespace: str = ""
    """Namespace of this process's service account, from `metadata.namespace`. `--discovery` needs it, and a waypoint's
    `--ca-address`."""
    service_account: str = ""
    """Name of this process's service account, from `spec.serviceAccountName`. A waypoint's `--ca-address` needs it."""
