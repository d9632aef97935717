"""Command-line options for an API server."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """Without a kubeconfig and a context: the service account of this process's pod, or else kubectl's own choice."""

    kubeconfig: Path | None = None
    context: str = ""
