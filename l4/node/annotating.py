"""Says at each Pod object whether the pod is redirected: the annotation `ambient.istio.io/redirection`.

Ztunnels of other nodes send to a pod through a tunnel only if its annotation says that it is redirected. It is written
by way of the pod's status: who may patch a whole pod may also give its containers another image.
"""

import asyncio
import logging
from collections.abc import Callable
from random import uniform

from l4.discovery.label_names import REDIRECTION
from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from l4.node.agent import NodePod

log = logging.getLogger(__name__)

PODS = ResourceType("", "v1", "pods", "Pod")
RETRY_SECONDS = 2.0
_GONE = (404, 409)
"""The pod was deleted, or another pod has its name."""


class Annotating:
    """Writes what `redirected` was called with, until the API server has it."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._wanted: dict[str, tuple[NodePod, bool]] = {}
        self._woken = asyncio.Event()
        self._tried = asyncio.Event()
        self._tried.set()

    def redirected(self, pod: NodePod, is_redirected: bool) -> None:
        self._wanted[pod.uid] = pod, is_redirected
        self._tried.clear()
        self._woken.set()

    async def tried(self) -> None:
        """Wait until the API server was asked to write each annotation, whatever it answered."""
        await self._tried.wait()

    async def follow(self, concern: Callable[[str], None]) -> None:
        """Write until cancelled. `concern` receives a sentence while an annotation is missing, else an empty text."""
        told = ""
        while True:
            await self._woken.wait()
            self._woken.clear()
            failures = [it for uid in list(self._wanted) if (it := await self._write(uid))]
            if not self._woken.is_set():
                self._tried.set()
            failure = "; ".join(failures)
            if failure and failure != told:
                log.warning("%s", failure)
            told = failure
            concern(failure)
            if failures:
                self._woken.set()
                await asyncio.sleep(RETRY_SECONDS * uniform(0.5, 1.0))

    async def _write(self, uid: str) -> str:
        """Return why the annotation of a pod could not be written, or an empty text."""
        wanted = pod, is_redirected = self._wanted[uid]
        annotations = {REDIRECTION: "enabled" if is_redirected else None}
        change = {"metadata": {"uid": uid, "annotations": annotations}}
        try:
            await self._client.merge(PODS.path(pod.namespace, pod.name, "status"), change)
        except ApiError as error:
            if error.code not in _GONE:
                return f"the annotation of pod {pod} cannot be written: {error}"
        if self._wanted[uid] is wanted:
            del self._wanted[uid]
        return ""
