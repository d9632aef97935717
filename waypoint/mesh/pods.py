"""From a Deployment, or what else makes pods, to pods on this machine: names, addresses, labels, a process per
container. Pure.

Rolling updates are not modelled: a pod keeps its name for life, and its program is started again when its container
changes.
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
    """A container, as the program that stands in for it. `port` is where it accepts connections once it is up.

    Two are equal when they need not be told apart by starting again: a new Service alone doesn't do that, as in
    Kubernetes, where a program finds in its environment what was there when it started.
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
    """`capture` says where its outgoing connections are accepted, in the words of the ztunnel's annotation."""

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
    """The pods of a source whose images all have a program. `services` come with their addresses."""
    owner = None if isinstance(source, BarePod) else key
    return [_pod(source, owner, name, programs, services, addresses) for name in pod_keys(source)]


def images_without_program(source: PodSource, programs: Sequence[Program]) -> list[str]:
    images = (container.image for container in source.template.spec.containers)
    return [image for image in images if _program(programs, image) is None]


def port_of(container: Container) -> int | None:
    """Where the program listens: the first TCP port that the container declares."""
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
    """A process is called like its pod; only several in one pod need to be told apart."""
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
