"""The listeners of the node's pods: opened and closed as the registry changes, untouched where nothing changed."""

import asyncio
import logging
import socket
from functools import partial

from l4.discovery.registry import Registry
from l4.discovery.workload import TunnelProtocol, Workload
from l4.hbone.pool import HbonePool
from l4.hbone.server import HboneServer
from l4.identity.store import NoCertificate
from l4.net.listener import CannotListen, Listener, bind
from l4.ztunnel import capture
from l4.ztunnel.capture import Address, InvalidCapture
from l4.ztunnel.proxy import Node, inbound, outbound

log = logging.getLogger(__name__)


class PodProxy:
    """One pod's inbound HBONE listener, its capture listeners and its own connection pool: nothing is shared between
    pods, so that no connection of one can carry bytes of another."""

    def __init__(self, node: Node, pod: Workload, hbone_port: int) -> None:
        self._node = node
        self._uid = pod.uid
        self._name = f"{pod.namespace}/{pod.name}"
        self._pool = HbonePool(node.settings)
        self._listeners: dict[Address, Listener] = {}
        self._originals: dict[Address, Address] = {}
        self._servers = [self._serve(pod, address, hbone_port) for address in pod.addresses]

    def _serve(self, pod: Workload, address: str, port: int) -> HboneServer:
        return HboneServer(
            bind(address, port, reuse_port=True),
            certificate=partial(self._node.certificates.get, pod.identity),
            trust_domains=self._node.settings.trust_domains,
            settings=self._node.settings,
            on_connect=partial(inbound, self._node, self._uid),
        )

    def update(self, registry: Registry, pod: Workload) -> None:
        """Listen for what the pod can reach by now."""
        try:
            self._originals = capture.listeners(registry, pod)
        except InvalidCapture as error:
            log.error("%s; what was captured before stays", error)
            return
        for address in self._listeners.keys() - self._originals.keys():
            self._listeners.pop(address).close()
        for address in self._originals.keys() - self._listeners.keys():
            try:
                sock = bind(*address, reuse_port=True)
            except CannotListen as error:
                log.error("pod %s: %s", self._name, error)
            else:
                self._listeners[address] = Listener(sock, partial(self._accepted, address))

    def _accepted(self, listening: Address, sock: socket.socket, source: Address) -> None:
        to = self._originals.get(listening)
        if to is None:
            sock.close()
        else:
            self._node.spawn(outbound(self._node, self._uid, self._pool, sock, source, to))

    def stop_listening(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    async def drain(self, seconds: float) -> None:
        """Take nothing new, let what is under way finish for so long, then cut it."""
        self.stop_listening()
        await asyncio.gather(*(server.drain(seconds) for server in self._servers))
        await self._pool.close()


class Pods:
    """All pods of one node."""

    def __init__(self, node: Node, name: str, hbone_port: int) -> None:
        self._node = node
        self._name = name
        self._hbone_port = hbone_port
        self._proxies: dict[str, PodProxy] = {}
        self._failed: set[str] = set()

    @property
    def count(self) -> int:
        return len(self._proxies)

    def update(self, registry: Registry) -> None:
        """Follow the registry: pods that are new get their listeners, pods that are gone lose them at once."""
        local = {it.uid: it for it in registry.workloads_on(self._name) if it.tunnel_protocol is TunnelProtocol.HBONE}
        for uid in self._proxies.keys() - local.keys():
            self._node.spawn(self._proxies.pop(uid).drain(0))
        for uid, pod in local.items():
            proxy = self._proxies.get(uid) or self._start(pod)
            if proxy is not None:
                proxy.update(registry, pod)

    def _start(self, pod: Workload) -> PodProxy | None:
        try:
            self._node.certificates.get(pod.identity)
            proxy = PodProxy(self._node, pod, self._hbone_port)
        except (CannotListen, NoCertificate) as error:
            if pod.uid not in self._failed:
                log.error("pod %s/%s is not served: %s", pod.namespace, pod.name, error)
                self._failed.add(pod.uid)
            return None
        self._failed.discard(pod.uid)
        self._proxies[pod.uid] = proxy
        return proxy

    async def drain(self, seconds: float) -> None:
        await asyncio.gather(*(proxy.drain(seconds) for proxy in self._proxies.values()))
