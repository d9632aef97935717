"""Release the node's pods when the agent is uninstalled, which it learns by watching its DaemonSet.

When an agent ends, its pods stay redirected: another agent takes over, after a restart or an upgrade. After an
uninstall none does, and the pods must get plain networking back. Only the API server's own word counts. While the
DaemonSet cannot be looked at, it is taken to exist.

A watch tells it, because one that stands outlives the agent's rights, if they are deleted with the DaemonSet: a request
at SIGTERM would be refused. So are the requests that take the annotations away; the chart keeps the rights for them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

from l4.kubernetes.client import ApiClient, ResourceType
from l4.kubernetes.reflector import Key, Reflector, Scope
from l4.node.agent import Agent, NodePod
from l4.node.annotating import Annotating

log = logging.getLogger(__name__)

DAEMON_SETS = ResourceType("apps", "v1", "daemonsets", "DaemonSet")
NOTICE_SECONDS = 2.0
"""How long the news that the DaemonSet is gone may come after SIGTERM."""
LEAVE_SECONDS = 20.0
"""For everything after SIGTERM; less than the 30 s that a pod has to end."""


class _Metadata(msgspec.Struct, rename="camel"):
    deletion_timestamp: object = None


class _DaemonSet(msgspec.Struct):
    metadata: _Metadata


_daemon_set = msgspec.json.Decoder(_DaemonSet)


class Uninstalling:
    """Passes on to the agent which pods are wanted: none, as long as its DaemonSet is gone or being deleted.

    `concern` receives a sentence while it is, and an empty text once it is back.
    """

    def __init__(
        self,
        client: ApiClient,
        daemon_set: Key,
        agent: Agent,
        annotating: Annotating,
        concern: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        scope = Scope(daemon_set.namespace, field_selector=f"metadata.name={daemon_set.name}")
        self._reflector = Reflector(client, DAEMON_SETS, self, scope)
        self._name = f"{daemon_set.namespace}/{daemon_set.name}"
        self._agent = agent
        self._annotating = annotating
        self._concern = concern
        self._pods: tuple[list[NodePod], list[NodePod]] = [], []
        self._stands = False
        self._begun = asyncio.Event()

    @property
    def is_begun(self) -> bool:
        return self._begun.is_set()

    def want(self, pods: Iterable[NodePod], former: Iterable[NodePod] = ()) -> None:
        """Take what `Agent.want` takes."""
        self._pods = list(pods), list(former)
        self._pass_on()

    async def follow(self) -> None:
        """Watch the DaemonSet until cancelled."""
        await self._reflector.run()

    async def leave(self) -> None:
        """Return when this process may end: if the DaemonSet is gone, once the pods are released."""
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                with suppress(TimeoutError):
                    async with asyncio.timeout(NOTICE_SECONDS):
                        await self._begun.wait()
                if self.is_begun:
                    await self._agent.done()
                    await self._annotating.tried()
        except TimeoutError:
            redirected = len(self._agent.redirected)
            lack = self._agent.lack or "the API server has not answered whether their annotations are removed"
            log.error("the agent ends with %d pods redirected after %g s: %s", redirected, LEAVE_SECONDS, lack)

    # -- what the reflector reports ------------------------------------------------------------------------------------

    def changed(self, resource: ResourceType, key: Key, resource_version: str, object: msgspec.Raw) -> None:
        self._stands = _daemon_set.decode(object).metadata.deletion_timestamp is None
        self._look()

    def gone(self, resource: ResourceType, key: Key) -> None:
        self._stands = False
        self._look()

    def listed(self, resource: ResourceType) -> None:
        self._look()

    def _look(self) -> None:
        if self.is_begun is not self._stands:
            return
        if self._stands:
            self._begun.clear()
            log.warning("DaemonSet %s is back: pods are redirected again", self._name)
            self._concern("")
        else:
            self._begun.set()
            sentence = f"DaemonSet {self._name} is gone: no pod is redirected; see --daemon-set"
            log.warning("%s", sentence)
            self._concern(sentence)
        self._pass_on()

    def _pass_on(self) -> None:
        wanted, former = self._pods
        if self.is_begun:  # an earlier agent may have redirected any of them
            self._agent.want((), [*wanted, *former])
        else:
            self._agent.want(wanted, former)
