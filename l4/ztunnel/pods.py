"""Listeners of the node's pods, opened and closed as the registry changes."""

import asyncio
import logging
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from l4.discovery.capture import Address
from l4.discovery.index import Update
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Moved, Registry
from l4.discovery.workload import Service, Workload
from l4.hbone.pool import HbonePool
from l4.hbone.server import HboneServer
from l4.identity.revocation import Revocations
from l4.identity.source import CertificateAwaited, NoCertificate, WorkloadCertificate
from l4.net.listener import CannotListen, Listener, bind
from l4.net.network import Network
from l4.net.original import original_destination
from l4.net.sharing import HANDSHAKE_SECONDS
from l4.net.sockets import Socket, keep_alive
from l4.telemetry.process_log import EACH
from l4.ztunnel.capture import Captured, InvalidCapture, Place, Places
from l4.ztunnel.carry import reset
from l4.ztunnel.node import Node
from l4.ztunnel.proxy import inbound, passthrough
from l4.ztunnel.way import outbound
from policies.attributes import Identity

log = logging.getLogger(__name__)


class PodProxy:
    """One pod's inbound HBONE listener, capture listeners and connection pool.

    Pods share nothing, so that a connection of one pod never carries bytes of another.
    """

    def __init__(self, node: Node, pod: Workload, place: Place) -> None:
        """Raises CannotListen."""
        self.pod = pod
        self.place = place
        self._node = node
        self.pool = HbonePool(node.settings, node.traffic.count_refusal, place.network)
        self._listeners: dict[Address, Listener] = {}
        self._captured: dict[Address, Captured] = {}
        # During a hand-over, an old and a new ztunnel listen at the same time.
        sockets = _bind_all(place.tunnel_addresses(pod), place.network)
        self.servers = [self._serve(sock) for sock in sockets]

    def _serve(self, sock: Socket) -> HboneServer:
        return HboneServer(
            sock,
            certificate=partial(self._node.certificates.get, self.pod.identity),
            trust_domains=self._node.settings.of(Mesh).trust_domains,
            settings=self._node.settings,
            on_connect=partial(inbound, self._node, self.pod.uid, self.place.network),
            on_refused=self._node.traffic.count_refusal,
            capacity=self._node.capacity,
        )

    def update(self, registry: Registry, pod: Workload) -> Iterator[str]:
        """Listen for all destinations that the pod can reach now. Yields a sentence for each failure."""
        self.pod = pod
        try:
            self._captured = self.place.captured(registry, pod)
        except InvalidCapture as error:
            yield f"{error}; the previous capture stays in effect"
            return
        captured, network = self._captured.keys(), self.place.network
        for address in self._listeners.keys() - captured:
            self._listeners.pop(address).close()
        for address in captured - self._listeners.keys():
            try:
                # Never shared on the machine, because the listener identifies the pod. Its own namespace does too.
                sock = bind(*address, reuse_port=network is not None, network=network, prepare=self._keep_alive)
            except CannotListen as error:
                yield f"pod {pod.namespace}/{pod.name}: {error}"
            else:
                accepted, count_refusal = partial(self._accepted, address), self._node.traffic.count_refusal
                self._listeners[address] = Listener(sock, accepted, count_refusal)

    def _keep_alive(self, sock: socket.socket) -> None:
        keep_alive(sock, self._node.hbone.tcp_keepalive_seconds, self._node.hbone.tcp_keepalive_probes)

    def _accepted(self, listening: Address, sock: socket.socket, source: Address) -> None:
        traffic = self._node.traffic
        if traffic.open_count >= self._node.hbone.max_connections:
            traffic.count_refusal("max_connections")
            reset(sock)
            return
        captured, network = self._captured[listening], self.place.network
        to = captured.to or original_destination(sock)
        if captured.is_inbound:
            self._node.spawn(passthrough(self._node, self.pod.uid, network, sock, source, to))
        else:
            self._node.spawn(outbound(self._node, self.pod.uid, network, self.pool, sock, source, to))

    def cut_revoked(self, revocations: Revocations) -> None:
        """Close the pod's connections with peers whose certificates have been revoked, in both directions."""
        self.pool.cut_revoked(revocations)
        for server in self.servers:
            server.cut_revoked(revocations)

    def stop_capturing(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    async def drain(self, seconds: float) -> None:
        """Accept nothing new, let connections finish for `seconds`, then close the rest.

        New connections are left to the ztunnel that takes over. One is not reset because its handshake is under way.
        Whether there is such a ztunnel can be seen on the machine, but not from outside of a pod's network namespace.
        """
        if seconds and self.place.network is None:
            await asyncio.gather(*(server.leave_to_successor() for server in self.servers))
        elif seconds:
            for listener in self._listeners.values():
                listener.leave()
            for server in self.servers:
                server.leave()
            await asyncio.sleep(HANDSHAKE_SECONDS)
        for listener in self._listeners.values():
            listener.finish()
        self._listeners.clear()
        await asyncio.sleep(0)  # so that connections just accepted are started
        finishing = [server.drain(seconds) for server in self.servers]
        await asyncio.gather(*finishing, self._node.traffic.drain(self.pod.uid, seconds))
        await self.pool.close()


class Pods:
    """All pods of one node that use this proxy, with their listeners and their wanted certificates.

    A failure is logged once and tried again by `retry`. A pod without a certificate is served as soon as the
    certificate arrives.
    """

    def __init__(self, node: Node, name: str, places: Places) -> None:
        self._node = node
        self._name = name
        self._places = places
        self.proxies: dict[str, PodProxy] = {}
        self._complaints: set[str] = set()
        self._identities: frozenset[Identity] = frozenset()
        self.unserved: dict[str, Workload] = {}
        self._addresses: frozenset[str] = frozenset()
        self._is_draining = False
        node.certificates.on_change(self._renewed)

    def follow(self, update: Update) -> None:
        """Follow some changes of the registry. Changes that concern none of the node's pods cost next to nothing."""
        if self._is_concerned(update):
            self.update(update.registry)

    def _is_concerned(self, update: Update) -> bool:
        moved = (it for both in update.workloads for it in (both.before, both.after) if it is not None)
        return (
            any(workload.node == self._name for workload in moved)
            or not self._addresses.isdisjoint(update.addresses)
            or any(_is_reached_otherwise(service) for service in update.services)
        )

    def update(self, registry: Registry) -> None:
        """Follow the registry: open listeners of new pods, and close those of removed pods at once."""
        on_node = registry.workloads_on(self._name)
        self._addresses = frozenset(address for it in on_node for address in it.addresses)
        places = {it.uid: (it, place) for it in on_node if (place := self._places.place_of(registry, it)) is not None}
        local = {uid: pod for uid, (pod, _) in places.items()}
        for uid, proxy in list(self.proxies.items()):
            if uid not in local or _has_moved(proxy.pod, local[uid]) or proxy.place != places[uid][1]:
                del self.proxies[uid]
                proxy.stop_capturing()
                self._node.spawn(proxy.drain(0))
        self._want(frozenset(pod.identity for pod in local.values()))
        if self._is_draining:
            return
        self.unserved.clear()
        complaints = {sentence for pod in local.values() for sentence in self._update_pod(registry, pod)}
        self._log_new(complaints)
        self._complaints = complaints

    def serves(self, namespace: str, name: str) -> bool:
        return any((it.pod.namespace, it.pod.name) == (namespace, name) for it in self.proxies.values())

    def retry(self) -> None:
        """Try again what failed: a port may have become free, or a certificate may have arrived."""
        if self._complaints or self.unserved:
            self.update(self._node.registry.current)

    def _want(self, identities: frozenset[Identity]) -> None:
        certificates = self._node.certificates
        for identity in self._identities - identities:
            certificates.forget(identity)
        for identity in identities:  # repeated, since there may be room now
            certificates.want(identity)
        self._identities = identities

    def _renewed(self, renewed: WorkloadCertificate) -> None:
        """Close connections of the identity's pods with revoked peers.

        Also start serving pods that have waited for this certificate.
        """
        if renewed.revocations is not None:
            for proxy in self.proxies.values():
                if proxy.pod.identity == renewed.identity:
                    proxy.cut_revoked(renewed.revocations)
        if self._is_draining:
            return
        registry = self._node.registry.current
        waiting = [pod for pod in self.unserved.values() if pod.identity == renewed.identity]
        complaints = {sentence for pod in waiting for sentence in self._update_pod(registry, pod)}
        self._log_new(complaints)
        self._complaints |= complaints

    def _log_new(self, complaints: set[str]) -> None:
        for sentence in sorted(complaints - self._complaints):
            log.error("%s", sentence, extra=EACH)

    def _update_pod(self, registry: Registry, pod: Workload) -> Iterator[str]:
        proxy = self.proxies.get(pod.uid)
        if proxy is None:
            place = self._places.place_of(registry, pod)
            if place is None:
                return
            try:
                self._node.certificates.get(pod.identity)
                proxy = self.proxies[pod.uid] = PodProxy(self._node, pod, place)
            except (CannotListen, NoCertificate) as error:
                self.unserved[pod.uid] = pod
                if not isinstance(error, CertificateAwaited):
                    yield f"pod {pod.namespace}/{pod.name} is not served: {error}"
                return
            self.unserved.pop(pod.uid, None)
        yield from proxy.update(registry, pod)

    async def drain(self, seconds: float) -> None:
        """Let connections finish for `seconds`, then close the rest.

        `update` still closes what is removed, but opens nothing from now on: that is for the process that takes over.
        """
        self._is_draining = True
        await asyncio.gather(*(proxy.drain(seconds) for proxy in self.proxies.values()))


def _is_reached_otherwise(service: Moved[Service]) -> bool:
    """Whether clients reach a service at other addresses or ports than before."""
    before, after = service.before, service.after
    return before is None or after is None or (before.addresses, before.ports) != (after.addresses, after.ports)


def _has_moved(before: Workload, after: Workload) -> bool:
    return (before.addresses, before.identity) != (after.addresses, after.identity)


def _bind_all(addresses: Iterable[Address], network: Network | None) -> list[Socket]:
    """Bind all addresses or none."""
    with ExitStack() as bound:
        sockets = [bound.enter_context(bind(*it, reuse_port=True, network=network)) for it in addresses]
        bound.pop_all()
    return sockets
