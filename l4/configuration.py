"""Where the configuration comes from, and the report on it to operators: in readiness, the log and metrics."""

import asyncio
import logging
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from l4.config.documents import Problem
from l4.config.doubts import Doubt, concern
from l4.config.folder import FolderSource
from l4.config.kinds import Kinds
from l4.config.source import CannotRead, Documents, Source
from l4.config.telling import Telling
from l4.discovery.objects import ROOT_NAMESPACE
from l4.kubernetes.credentials import CredentialsError
from l4.kubernetes.options import KubernetesOptions
from l4.readiness import Readiness
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import EACH

if TYPE_CHECKING:
    from l4.kubernetes.client import ApiClient
    from l4.kubernetes.reflector import Scope
    from l4.kubernetes.source import KubernetesSource

READ_SECONDS = 30.0
"""Maximum time of listing the objects of an API server once."""


def source_of(
    options: tuple[Path, ...] | KubernetesOptions,
    kinds: Kinds,
    scopes: "Mapping[tuple[str, str], Scope] | None" = None,
    *,
    is_encoded: bool = False,
) -> Source:
    """Return the source that the command line names. Raises CredentialsError.

    `scopes`, by API group and kind, are the objects that are asked for; files are read whole. `is_encoded`: the
    contents of an API server's objects are Encoded.
    """
    if not isinstance(options, KubernetesOptions):
        return FolderSource(options)
    return kubernetes_source(client_of(options), kinds, scopes or {}, is_encoded=is_encoded)


def read(
    options: Iterable[Path] | KubernetesOptions, kinds: Kinds, seconds: float | None = None
) -> tuple[Documents, str]:
    """Return all objects as they are now, and where they are, in words. For commands that answer and end.

    Raises CannotRead.
    """
    if not isinstance(options, KubernetesOptions):
        return FolderSource(options).read(), "in these files"

    async def listed() -> tuple[Documents, str]:
        source = kubernetes_source(client_of(options), kinds, {})
        try:
            return await source.read(READ_SECONDS if seconds is None else seconds), f"at the API server {source.server}"
        finally:
            await source.close()

    try:
        return asyncio.run(listed())
    except CredentialsError as error:
        raise CannotRead(str(error)) from None


def kubernetes_source(
    client: "ApiClient",
    kinds: Kinds,
    scopes: "Mapping[tuple[str, str], Scope]",
    whole: Collection[tuple[str, str]] = (),
    is_encoded: bool = False,
) -> "KubernetesSource":
    """Return the source of all objects of `kinds`; of ConfigMaps only Istio's own. See KubernetesSource."""
    from l4.kubernetes.reflector import Scope
    from l4.kubernetes.source import KubernetesSource

    mesh_config = Scope(ROOT_NAMESPACE, field_selector="metadata.name=istio")
    return KubernetesSource(client, kinds, {("", "ConfigMap"): mesh_config, **scopes}, whole, is_encoded)


def client_of(options: KubernetesOptions) -> "ApiClient":
    """Return a client for the API server that the command line names. Raises CredentialsError."""
    from l4.kubernetes import credentials, kubeconfig
    from l4.kubernetes.client import ApiClient

    is_pod = options == KubernetesOptions() and "KUBERNETES_SERVICE_HOST" in os.environ
    own = credentials.in_cluster(os.environ) if is_pod else kubeconfig.load(options.kubeconfig, options.context)
    return ApiClient(own)


class Understood(Protocol):
    """`is_understood`: everything was understood at least once."""

    @property
    def doubts(self) -> Sequence[Doubt]: ...
    @property
    def is_understood(self) -> bool: ...


class ConfigurationReport:
    """Logs each problem, each lack, and each ignored kind once."""

    def __init__(self, log: logging.Logger, readiness: Readiness, metrics: MeshMetrics) -> None:
        self._log = log
        self._readiness = readiness
        self._metrics = metrics
        self._telling = Telling(log, EACH)
        self._lack = ""
        self._ignored: frozenset[str] = frozenset()
        self.problems: tuple[Problem, ...] = ()
        """Problems of the moment, with those of what could not be read."""

    def tell(
        self, taken: Understood, problems: Collection[Problem], lack: str, ignored: Mapping[str, int] | None = None
    ) -> None:
        """`lack` says why there is nothing to serve, or is empty. `ignored` counts objects of unread kinds."""
        readiness = self._readiness
        readiness.concern("configuration", lack)
        readiness.concern("configuration source", concern(taken.doubts))
        if taken.is_understood and not lack:
            readiness.done("configuration")
        lines = frozenset(f"ignored: {count} objects of kind {kind}" for kind, count in (ignored or {}).items())
        for line in sorted(lines - self._ignored):
            self._log.info("%s", line, extra=EACH)
        self._ignored = lines
        if lack not in {"", self._lack}:
            self._log.warning("%s", lack)
        self._lack = lack
        self._telling.tell(problems)
        self.problems = (*problems, *(doubt.problem for doubt in taken.doubts))
        self._metrics.config_problems.value = len(problems)
        self._metrics.config_doubts.value = len(taken.doubts)
        if problems or taken.doubts:
            self._metrics.config_failed(time.time())
