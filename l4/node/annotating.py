"""Says at each Pod object whether the pod is redirected: the annotation `ambient.istio.io/redirection`.

Ztunnels of other nodes send to a pod through a tunnel only where it stands.
"""

import asyncio
import logging
from random import uniform

from l4.discovery.label_names import REDIRECTION
from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from l4.node.agent import NodePod

log = logging.getLogger(__name__)

PODS = ResourceType("", "v1", "pods", "Pod")
RETRY_SECONDS = 2.0


class Annotating:
    """Writes what `redirected` was called with, until the API server has it."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._wanted: dict[tuple[str, str], bool] = {}
        self._woken = asyncio.Event()
        self._failure = ""

    def redirected(self, pod: NodePod, is_redirected: bool) -> None:
        self._wanted[pod.namespace, pod.name] = is_redirected
        self._woken.set()

    async def follow(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            for pod, is_redirected in list(self._wanted.items()):
                try:
                    await self._write(*pod, is_redirected)
                except ApiError as error:
                    self._failed(f"the annotation of pod {'/'.join(pod)} cannot be written: {error}")
                    await asyncio.sleep(RETRY_SECONDS * uniform(0.5, 1.0))
                    self._woken.set()
                    break
                if self._wanted.get(pod) is is_redirected:
                    del self._wanted[pod]
            else:
                self._failure = ""

    async def _write(self, namespace: str, name: str, is_redirected: bool) -> None:
        change = {"metadata": {"annotations": {REDIRECTION: "enabled" if is_redirected else None}}}
        try:
            await self._client.merge(PODS.path(namespace, name), change)
        except ApiError as error:
            if error.code != 404:
                raise

    def _failed(self, failure: str) -> None:
        if failure != self._failure:
            log.warning("%s", failure)
            self._failure = failure
