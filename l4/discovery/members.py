"""Pods and WorkloadEntries as workloads, indexed in the ways that services refer to them.

Pods can be added and removed without reading the others again. All indexes are sorted by object key, so that the order
of arrival does not matter.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from l4.config.documents import ObjectKey
from l4.config.resources import Resource, Resources
from l4.discovery.capture import capture_of
from l4.discovery.labels import (
    canonical_name,
    canonical_revision,
    entry_name,
    is_redirected,
    pod_name_and_kind,
    tells_client,
    tunnel_protocol,
)
from l4.discovery.mesh import Mesh
from l4.discovery.objects import NodeObject, Pod, canonical_ip, is_ip
from l4.discovery.service_entry import WorkloadEntry
from l4.discovery.waypoints import Bindings
from l4.discovery.workload import TunnelProtocol, Workload
from policies.attributes import Identity


@dataclass(frozen=True, slots=True)
class Member:
    """One pod or WorkloadEntry.

    `labels` are matched by service selectors; `port_names` maps named ports to numbers. `name` is the DNS name of a
    WorkloadEntry without an address. `order` sorts all members. `is_nameless`: the member shares its node's address, so
    the address does not identify it.
    """

    order: tuple[bool, str, str]
    workload: Workload
    labels: Mapping[str, str]
    port_names: Mapping[str, int]
    is_entry: bool = False
    is_nameless: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class MovedMember:
    """A change of a member. `before` is None for a new one, `after` for a removed one."""

    before: Member | None
    after: Member | None


class Members:
    """All pods and WorkloadEntries."""

    def __init__(self, resources: Resources, mesh: Mesh, bindings: Bindings) -> None:
        self._mesh = mesh
        self._bindings = bindings
        self._pods: dict[tuple[str, str], Member] = {}
        self._entries: dict[tuple[str, str], Member] = {}
        self._entries_at: dict[str, list[Resource[WorkloadEntry]]] = {}
        self._by_ip: dict[str, list[Member]] = {}
        self._by_label: dict[tuple[str, str, str], list[Member]] = {}
        self.localities = {node.key.name: node.value.locality for node in resources.of(NodeObject)}
        for pod in resources.of(Pod):
            self.add(pod)
        for entry in resources.of(WorkloadEntry):
            self.add_entry(entry)

    def __iter__(self) -> Iterator[Member]:
        yield from self._pods.values()
        yield from self._entries.values()

    def pod(self, namespace: str, name: str) -> Member | None:
        return self._pods.get((namespace, name))

    def at(self, ip: str) -> Member | None:
        known = self._by_ip.get(ip)
        return known[0] if known else None

    def all_at(self, ip: str) -> Iterable[Member]:
        return self._by_ip.get(ip, ())

    def standing_for(self, addresses: Iterable[str], protocol: TunnelProtocol) -> Member | None:
        """Return the member at one of an entry's addresses, if the entry refers to it.

        A member without HBONE is not used for an entry that requires tunnels.
        """
        known = next((member for it in addresses if (member := self.at(it)) is not None), None)
        if known is not None and protocol is TunnelProtocol.HBONE and known.workload.tunnel_identity is None:
            return None
        return known

    def selected(self, namespace: str, selector: Mapping[str, str]) -> Iterator[Member]:
        """Yield the members that match a selector. As for Services, an empty selector matches nothing."""
        for label, value in list(selector.items())[:1]:
            for member in self._by_label.get((namespace, label, value), ()):
                if selector.items() <= member.labels.items():
                    yield member

    def add(self, pod: Resource[Pod]) -> Member | None:
        """Add a pod. Returns None if it has ended or has no address."""
        if pod.value.is_over or not pod.value.addresses:
            return None
        member = self._pods[pod.key.namespace, pod.key.name] = self._of_pod(pod)
        self._index(member)
        return member

    def remove(self, pod: Resource[Pod]) -> Member | None:
        """Remove a pod. Returns its member, if there was one."""
        self._bindings.forget(pod.key)
        member = self._pods.pop((pod.key.namespace, pod.key.name), None)
        if member is not None:
            self._forget(member)
        return member

    def add_entry(self, entry: Resource[WorkloadEntry]) -> Member:
        """Add a new WorkloadEntry. Its pods must have been added before."""
        for address in _addresses(entry):
            insort(self._entries_at.setdefault(address, []), entry, key=_key)
        return self._put_entry(entry)

    def remove_entry(self, entry: Resource[WorkloadEntry]) -> Member:
        for address in _addresses(entry):
            its = self._entries_at[address]
            del its[bisect_left(its, entry.key, key=_key)]
            if not its:
                del self._entries_at[address]
        return self._drop_entry(entry)

    def entries_at(self, addresses: Iterable[str]) -> list[Resource[WorkloadEntry]]:
        """Return the WorkloadEntries that may refer to another pod after a change of the pods at these addresses."""
        return [it for address in addresses for it in self._entries_at.get(address, ())]

    def put_again(self, entry: Resource[WorkloadEntry]) -> MovedMember:
        """Update a WorkloadEntry after such a change."""
        before = self._drop_entry(entry)
        return MovedMember(before, self._put_entry(entry))

    def locate(self, node: str, locality: str) -> Iterator[MovedMember]:
        """Set a node's locality. Yields the members on it that moved."""
        if self.localities.get(node, "") == locality:
            return
        self.localities[node] = locality
        for place, before in list(self._pods.items()):
            workload = before.workload
            if (
                workload.node == node
                and (its := _locality(workload.labels, node, self.localities)) != workload.locality
            ):
                self._forget(before)
                after = self._pods[place] = replace(before, workload=replace(workload, locality=its))
                self._index(after)
                yield MovedMember(before, after)

    def _put_entry(self, entry: Resource[WorkloadEntry]) -> Member:
        member = self._entries[entry.key.namespace, entry.key.name] = self._of_entry(entry)
        self._index(member)
        return member

    def _drop_entry(self, entry: Resource[WorkloadEntry]) -> Member:
        self._bindings.forget(entry.key)
        member = self._entries.pop((entry.key.namespace, entry.key.name))
        self._forget(member)
        return member

    def _forget(self, member: Member) -> None:
        for index, place in self._places(member):
            its = index[place]
            del its[bisect_left(its, member.order, key=_order)]
            if not its:
                del index[place]

    def _index(self, member: Member) -> None:
        for index, place in self._places(member):
            insort(index.setdefault(place, []), member, key=_order)

    def _places(self, member: Member) -> Iterator[tuple[dict[Any, list[Member]], object]]:
        for address in member.workload.addresses if not member.is_nameless else ():
            yield self._by_ip, address
        for label, value in member.labels.items():
            yield self._by_label, (member.order[1], label, value)

    def _of_pod(self, resource: Resource[Pod]) -> Member:
        pod, meta = resource.value, resource.value.metadata
        name, kind = pod_name_and_kind(meta)
        workload = Workload(
            uid=f"{self._mesh.cluster_id}//Pod/{meta.namespace}/{meta.name}",
            name=meta.name,
            namespace=meta.namespace,
            addresses=pod.addresses,
            identity=Identity(self._mesh.trust_domain, meta.namespace, pod.spec.service_account_name),
            tunnel_protocol=tunnel_protocol(meta.labels, meta.annotations),
            node=pod.spec.node_name,
            is_healthy=pod.is_healthy,
            is_leaving=pod.is_leaving,
            workload_name=name,
            workload_type=kind,
            canonical_name=canonical_name(meta.labels, name),
            canonical_revision=canonical_revision(meta.labels),
            cluster_id=self._mesh.cluster_id,
            network=self._mesh.network,
            labels=meta.labels,
            waypoint=self._bindings.of_workload(resource, meta.labels),
            ports=tuple(sorted({port.container_port for container in pod.spec.containers for port in container.ports})),
            locality=_locality(meta.labels, pod.spec.node_name, self.localities),
            is_redirected=is_redirected(meta.annotations),
            capture=capture_of(meta.annotations, f"{meta.namespace}/{meta.name}"),
            tells_client=tells_client(meta.annotations),
            application_tunnel=self._bindings.tunnel_of_pod(meta),
        )
        order = (False, resource.key.namespace, resource.key.name)
        return Member(order, workload, meta.labels, pod.port_names, is_nameless=pod.spec.host_network)

    def _of_entry(self, resource: Resource[WorkloadEntry]) -> Member:
        """If a pod has the same address, the entry refers to that pod."""
        order = (True, resource.key.namespace, resource.key.name)
        meta, spec, labels = resource.value.metadata, resource.value.spec, resource.value.labels
        protocol = tunnel_protocol(labels, meta.annotations)
        address = _addresses(resource)
        pod = self.standing_for(address, protocol)
        if pod is not None and not pod.is_entry:
            return Member(order, pod.workload, labels, spec.ports, is_entry=True)
        name = entry_name(meta, labels)
        workload = Workload(
            uid=f"{self._mesh.cluster_id}/networking.istio.io/WorkloadEntry/{meta.namespace}/{meta.name}",
            name=meta.name,
            namespace=meta.namespace,
            addresses=address,
            identity=Identity(self._mesh.trust_domain, meta.namespace, spec.service_account),
            tunnel_protocol=protocol,
            node="",
            is_healthy=True,
            workload_name=name,
            workload_type="pod",
            canonical_name=canonical_name(labels, name),
            canonical_revision=canonical_revision(labels),
            cluster_id=self._mesh.cluster_id,
            network=spec.network or self._mesh.network,
            labels=labels,
            waypoint=self._bindings.of_workload(resource, labels),
            locality=spec.locality,
            capacity=max(spec.weight, 1),
            ports=tuple(sorted(set(spec.ports.values()))),
            tells_client=tells_client(meta.annotations),
        )
        return Member(order, workload, labels, spec.ports, is_entry=True, name="" if address else spec.address.lower())


def _order(member: Member) -> tuple[bool, str, str]:
    return member.order


def _key(entry: Resource[WorkloadEntry]) -> ObjectKey:
    return entry.key


def _addresses(entry: Resource[WorkloadEntry]) -> tuple[str, ...]:
    address = entry.value.spec.address
    return (canonical_ip(address),) if is_ip(address) else ()


def _locality(labels: Mapping[str, str], node: str, localities: Mapping[str, str]) -> str:
    """The locality of the pod's node, or of the pod's own label, in which dots stand for slashes."""
    own = labels.get("istio-locality", "")
    return (own if "/" in own else own.replace(".", "/")) or localities.get(node, "")
