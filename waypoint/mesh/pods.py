"""Convert Deployments and other pod sources to local pods: names, addresses, labels, and a process per container. Pure.

There are no rolling updates: a pod keeps its name, and its program is restarted when its container changes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from l4.config.documents import ObjectKey
from policies.attributes import Identity
from waypoint.mesh.addresses import Addresses, in_view
from waypoint.mesh.environment import container_variables, pod_variables, service_names, service_variables
from waypoint.mesh.manifests import BarePod, Container, PodSource, Service
from waypoint.mesh.programs import Program

TRUST_DOMAIN = "cluster.local"


@dataclass(frozen=True, slots=True)
class Process:
    """A container, run as a local program. `port` accepts connections once it is up.

    Two processes are equal if a restart is not needed. A new Service alone needs no restart; as in Kubernetes, a
    program's environment is set when it starts.
    """

    name: str
    argv: tuple[str, ...]
    directory: Path
    container: Container
    address: str
    port: int | None
    environment: Mapping[str, str] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Pod:
    """`capture` configures where its outgoing connections are accepted, in the format of the ztunnel's annotation."""

    namespace: str
    name: str
    address: str
    service_account: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    capture: str = ""
    owner: ObjectKey | None = None
    processes: tuple[Process, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def identity(self) -> Identity:
        return Identity(TRUST_DOMAIN, self.namespace, self.service_account)


def pod_keys(source: PodSource) -> list[str]:
    return [f"{source.metadata.namespace}/{name}" for name in source.pod_names]


def replicas(
    key: ObjectKey,
    source: PodSource,
    programs: Sequence[Program],
    services: Iterable[tuple[Service, str]],
    addresses: Addresses,
) -> list[Pod]:
    """Return the pods of a source whose images all have a program. `services` have addresses."""
    owner = None if isinstance(source, BarePod) else key
    return [_pod(source, owner, name, programs, services, addresses) for name in pod_keys(source)]


def images_without_program(source: PodSource, programs: Sequence[Program]) -> list[str]:
    images = (container.image for container in source.template.spec.containers)
    return [image for image in images if _program(programs, image) is None]


def port_of(container: Container) -> int | None:
    """Return the port on which the program listens: the first TCP port that the container declares."""
    return next((port.container_port for port in container.ports if port.protocol == "TCP"), None)


def _pod(
    source: PodSource,
    owner: ObjectKey | None,
    key: str,
    programs: Sequence[Program],
    services: Iterable[tuple[Service, str]],
    addresses: Addresses,
) -> Pod:
    namespace, _, name = key.partition("/")
    template, view = source.template, addresses.views[key]
    seen = [(service, in_view(view, address)) for service, address in services]
    about = pod_variables(namespace, name, template.spec.service_account_name, addresses.pods[key])
    return Pod(
        namespace=namespace,
        name=name,
        address=addresses.pods[key],
        service_account=template.spec.service_account_name,
        labels=template.metadata.labels,
        annotations=template.metadata.annotations,
        capture=view,
        owner=owner,
        processes=tuple(
            _process(name, container, programs, about, seen)
            for name, container in _names(key, template.spec.containers)
        ),
    )


def _names(key: str, containers: Sequence[Container]) -> Iterator[tuple[str, Container]]:
    """A process has its pod's name; several containers in one pod add their own names."""
    for container in containers:
        yield (key if len(containers) == 1 else f"{key}/{container.name}"), container


def _process(
    name: str,
    container: Container,
    programs: Sequence[Program],
    about: Mapping[str, str],
    services: Iterable[tuple[Service, str]],
) -> Process:
    program = _program(programs, container.image)
    assert program is not None
    address, namespace, port = about["POD_IP"], about["POD_NAMESPACE"], port_of(container)
    own = container_variables(container.env, about, service_names(services, namespace))
    return Process(
        name=name,
        argv=program.argv(address, port),
        directory=program.directory,
        container=container,
        address=address,
        port=port,
        environment={
            **service_variables(services, namespace),
            **program.variables(address, port),
            **own,
            **about,
        },
    )


def _program(programs: Sequence[Program], image: str) -> Program | None:
    return next((program for program in programs if program.stands_for(image)), None)
