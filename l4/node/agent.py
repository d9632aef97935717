"""Enrol the pods of a node: announce them to the ztunnel, and redirect their connections once it serves them.

A pod is redirected only after the ztunnel has acknowledged it, so that it loses no connection while there is no
ztunnel. From then on its connections do not pass the ztunnel by: if that goes away they fail until it is back.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from l4.discovery.label_names import DATAPLANE_MODE, MANAGED
from l4.net.network import CommandFailed, Network
from l4.node import namespaces, rules
from l4.node.announcer import Announced, Announcer
from l4.node.zds import Add

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
"""How long a pod waits whose first process has not started, or whose rules could not be changed."""
_LOOK_SECONDS = 10.0
"""How often to look whether pods have new network namespaces."""


@dataclass(frozen=True, slots=True)
class NodePod:
    """A running pod of the node that is to be redirected. `containers` are the IDs of its running containers."""

    uid: str
    name: str
    namespace: str
    account: str
    ips: tuple[str, ...]
    containers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def is_wanted(labels: Mapping[str, str], namespace_labels: Mapping[str, str], *, is_host_network: bool) -> bool:
    """Whether a pod's labels, or those of its namespace, ask for redirection.

    Waypoints accept HBONE themselves, unless their own label says otherwise.
    """
    inherited = None if MANAGED in labels else namespace_labels.get(DATAPLANE_MODE)
    return not is_host_network and labels.get(DATAPLANE_MODE, inherited) == "ambient"


class Agent:
    """`want` takes the whole set of pods whenever it changes. `follow` and `announcer.serve` do the work.

    `on_redirected` is called with a pod and whether its connections are redirected now, after each change; `on_lack`
    with what is wanted and not done yet.
    """

    def __init__(
        self,
        socket: Path,
        node: Network,
        on_redirected: Callable[[NodePod, bool], None] = lambda pod, is_redirected: None,
        proc: Path = namespaces.PROC,
        on_lack: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.announcer = Announcer(socket, lambda uid: self._changed.set())
        self._node = node
        self._on_redirected = on_redirected
        self._proc = proc
        self._on_lack = on_lack
        self._wanted: dict[str, NodePod] = {}
        self._former: dict[str, NodePod] = {}
        self._forgotten: set[str] = set()
        self._known: dict[str, tuple[NodePod, Network]] = {}
        self._redirected: set[str] = set()
        self._probed: frozenset[str] | None = None
        self._changed = asyncio.Event()
        self._done = asyncio.Event()
        self._complaints: set[str] = set()

    @property
    def redirected(self) -> frozenset[str]:
        """UIDs of the pods whose connections are redirected."""
        return frozenset(self._redirected)

    @property
    def lack(self) -> str:
        """What is wanted and not done yet, or an empty text."""
        return "; ".join(sorted(self._complaints))

    def want(self, pods: Iterable[NodePod], former: Iterable[NodePod] = ()) -> None:
        """Take the pods to redirect, and those that an earlier agent redirected and that are no longer wanted."""
        self._wanted = {it.uid: it for it in pods}
        self._former = {it.uid: it for it in former}
        self._done.clear()
        self._changed.set()

    async def done(self) -> None:
        """Wait until all that is wanted is done."""
        await self._done.wait()

    async def follow(self) -> None:
        """Do what is wanted, until cancelled."""
        while True:
            self._changed.clear()
            complaints = set(await self._reconcile())
            for sentence in sorted(complaints - self._complaints):
                log.warning("%s", sentence)
            self._complaints = complaints
            self._on_lack(self.lack)
            if not complaints and not self._changed.is_set():
                self._done.set()
            try:
                async with asyncio.timeout(_RETRY_SECONDS if complaints else _LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _reconcile(self) -> list[str]:
        """Take one step towards what is wanted, and return what is missing."""
        wanted = dict(self._wanted)
        complaints: list[str] = []
        for uid in [it for it in self._known if it not in wanted]:
            complaints += await self._release(uid)
        self._forgotten &= self._former.keys()
        former = {uid: it for uid, it in self._former.items() if uid not in wanted and uid not in self._forgotten}
        looked_for = {uid: it.containers for uid, it in (wanted | former).items()}
        found = await asyncio.to_thread(namespaces.find, looked_for, self._proc)
        for uid, network in found.items():
            if uid in wanted:
                self._enrol(wanted[uid], network)
            else:
                complaints += await self._forget(former[uid], network)
        complaints += [f"pod {pod} has no process yet" for uid, pod in wanted.items() if uid not in self._known]
        try:
            await self._mark_probes()
        except CommandFailed as error:  # redirecting a pod now would fail its probes
            return [*complaints, f"the node's rule for probes is missing: {error}"]
        for uid in [it for it in self._known if it not in self._redirected]:
            complaints += await self._redirect(uid)
        return complaints

    def _enrol(self, pod: NodePod, network: Network) -> None:
        """Announce a pod with a new namespace. A restart of its sandbox gives it another one, without rules."""
        _, before = self._known.get(pod.uid, (pod, None))
        if before == network:
            network.close()
            self._known[pod.uid] = pod, before
            return
        self._redirected.discard(pod.uid)
        self._known[pod.uid] = pod, network
        self.announcer.announce(Announced(Add(pod.uid, pod.name, pod.namespace, pod.account), network))
        if before is not None:
            before.close()

    async def _redirect(self, uid: str) -> list[str]:
        pod, network = self._known[uid]
        if not self.announcer.is_served(uid):
            return [f"pod {pod} is not redirected yet: the ztunnel does not serve it"]
        try:
            await asyncio.to_thread(rules.redirect, network)
        except CommandFailed as error:
            return [f"pod {pod} is not redirected: {error}"]
        self._redirected.add(uid)
        log.info("pod %s is redirected", pod)
        self._on_redirected(pod, True)
        return []

    async def _release(self, uid: str) -> list[str]:
        """Remove a pod's rules, and only then let the ztunnel stop serving it."""
        pod, network = self._known[uid]
        try:
            await asyncio.to_thread(rules.leave_alone, network)
        except CommandFailed as error:
            return [f"pod {pod} is still redirected: {error}"]
        self._redirected.discard(uid)
        del self._known[uid]
        self._on_redirected(pod, False)
        self.announcer.withdraw(uid)
        network.close()
        log.info("pod %s is no longer redirected", pod)
        return []

    async def _forget(self, pod: NodePod, network: Network) -> list[str]:
        """Remove the rules that an earlier agent left in a pod."""
        try:
            await asyncio.to_thread(rules.leave_alone, network)
        except CommandFailed as error:
            return [f"pod {pod} is still redirected: {error}"]
        finally:
            network.close()
        self._forgotten.add(pod.uid)
        self._on_redirected(pod, False)
        return []

    async def _mark_probes(self) -> None:
        addresses = frozenset(ip for pod, _ in self._known.values() for ip in pod.ips)
        if addresses != self._probed:
            await asyncio.to_thread(rules.mark_probes, self._node, addresses)
            self._probed = addresses
