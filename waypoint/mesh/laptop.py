"""The running laptop mesh. It follows edits of the manifests and the readiness of the programs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from l4.asking.laptop import Proxy, folder
from l4.config.documents import Document, FileOrigin, ObjectKey
from l4.config.intake import Intake, Taken
from l4.config.source import Answer
from l4.identity.authority import DevelopmentAuthority
from l4.net.listener import CannotListen, bind
from policies.attributes import Identity
from policies.host_port import host_port
from waypoint.mesh.addresses import AddressesExhausted
from waypoint.mesh.display import Display
from waypoint.mesh.ingress import Ingress
from waypoint.mesh.launches import ADMIN_PORT, ZTUNNEL, Launcher, Layout, needed_ports, proxy_name
from waypoint.mesh.manifests import KINDS
from waypoint.mesh.news import News
from waypoint.mesh.overlay import overlay, write
from waypoint.mesh.plan import Mesh, plan
from waypoint.mesh.probes import accepts, get
from waypoint.mesh.programs import Program
from waypoint.mesh.running import pods_of, publish
from waypoint.mesh.supervisor import Supervisor

RENEW_SECONDS = 8 * 3600.0
"""Certificates are valid for a day; a third of it leaves time for a laptop that sleeps."""
FOLLOW_SECONDS = 3.0
"""Time limit for the proxies to see that their files have changed.

Exceeding it is not a failure, because a waypoint never learns of pods to which none of its Services routes.
"""
INGRESS_STOP_SECONDS = 1.5
"""Time for the ztunnel to notice that the ingress was removed."""


_PAUSE_SECONDS = 0.05
_NEVER_RUN = frozenset({"Job", "CronJob", "ReplicationController", "Rollout"})


class CannotStart(Exception):
    """There is nothing to run. The message says why."""


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """`environment` is that of the command; the programs inherit it."""

    manifests: tuple[Path, ...]
    programs: tuple[Program, ...]
    ingresses: tuple[Ingress, ...]
    run_directory: Path | None
    shows_access_log: bool
    environment: Mapping[str, str]
    console: tuple[str, int]
    """Where the console listens."""


class Laptop:
    def __init__(self, options: MeshOptions, layout: Layout, display: Display, tasks: asyncio.TaskGroup) -> None:
        self._options = options
        self._layout = layout
        self._display = display
        self._authority = DevelopmentAuthority(layout.authority)
        bundle = self._authority.bundle_path
        self._launcher = Launcher(layout, options.manifests, bundle, options.environment, options.shows_access_log)
        self._supervisor = Supervisor(tasks, report=self._warn, changed=self._schedule_refresh)
        self._intake = Intake(KINDS)
        self._contents: Mapping[ObjectKey, Mapping[str, Any]] = {}
        self._mesh = Mesh()
        self._route_files: frozenset[str] = frozenset()
        self._certified: set[Identity] = set()
        self._said: frozenset[str] = frozenset()
        self._news = News(self._tell_news)
        self._is_refreshing = False
        self._all_ready = asyncio.Event()

    @property
    def mesh(self) -> Mesh:
        return self._mesh

    @property
    def route_files(self) -> frozenset[str]:
        """Files with routes, which users may want to edit first."""
        return self._route_files

    def read(self, answer: Answer) -> Taken:
        """Return the objects in the manifests whose kinds the laptop mesh itself uses."""
        return self._intake.take(answer)

    def follow(self, taken: Taken) -> None:
        """Apply the manifests, initially and after each edit. Each problem is reported once."""
        try:
            mesh = plan(taken.resources, self._options.programs, self._options.ingresses, self._mesh.addresses)
        except AddressesExhausted as error:
            self._warn(str(error))
            return
        self._contents = {document.key: document.content for document in taken.documents}
        origins = (it.origin for it in taken.documents if it.key.kind == "HTTPRoute")
        self._route_files = frozenset(it.file for it in origins if isinstance(it, FileOrigin))
        self._mesh = mesh
        self._warn_of_new({*map(str, (*taken.problems, *mesh.problems)), *mesh.unserved, *_not_run(taken.documents)})
        if self._supervisor.wanted:
            self._apply()

    def start(self) -> None:
        """Start all programs. Raises CannotStart, after problems of the manifests have been reported."""
        if not self._mesh.pods:
            raise CannotStart("nothing to run: no workload of the manifests has a program for its images")
        if self._mesh.unserved:
            raise CannotStart("; ".join(self._mesh.unserved))
        if taken := list(_taken(needed_ports(self._mesh, self._options.ingresses))):
            raise CannotStart("; ".join(taken))
        self._apply()

    async def ready(self) -> None:
        """Wait until all programs are ready and the proxies know it."""
        await self._all_ready.wait()
        await _wait_for(self._is_known, FOLLOW_SECONDS)

    async def stop(self) -> None:
        """Stop the ingress, the proxies, then the programs."""
        self._mesh = replace(self._mesh, ingresses=())
        self._write_overlay()
        await _wait_for(self._is_closed, INGRESS_STOP_SECONDS)
        await self._supervisor.stop(self._launcher.proxies(self._mesh))
        await self._supervisor.stop(self._supervisor.wanted)

    async def tell_news(self) -> None:
        """Report problems and live changes from the proxies' logs until cancelled."""
        await self._news.follow(self._proxy_logs)

    def _proxy_logs(self) -> dict[str, Path]:
        return {name: launch.log for name, launch in self._launcher.proxies(self._mesh).items()}

    def _tell_news(self, sentence: str, is_good: bool) -> None:
        self._display.say(sentence, "green" if is_good else "yellow")

    async def renew_certificates(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            self._certify(self._certified)

    def _apply(self) -> None:
        self._certify(self._mesh.identities - self._certified)
        self._write_overlay()
        publish(folder(self._options.environment), pods_of(self._mesh, self._layout.log), list(self._proxies()))
        self._supervisor.apply({**self._launcher.proxies(self._mesh), **self._launcher.programs(self._mesh)})
        self._schedule_refresh()

    def _proxies(self) -> Iterator[Proxy]:
        named = [
            (ZTUNNEL, "ztunnel", ZTUNNEL, self._mesh.ztunnel_address),
            *(
                (f"{it.gateway.namespace}/{it.gateway.name}", "waypoint", proxy_name(it), it.pod.address)
                for it in self._mesh.waypoints
            ),
        ]
        resources = tuple(str(it.resolve()) for it in (*self._options.manifests, self._layout.overlay))
        for name, program, launch, address in named:
            is_shown = self._options.shows_access_log and program == "waypoint"
            yield Proxy(
                program=program,
                name=name,
                admin=host_port(address, ADMIN_PORT),
                log=str(self._layout.log(launch)),
                access_log="" if is_shown else str(self._layout.log(f"{launch}-access")),
                resources=resources,
            )

    def _certify(self, identities: Iterable[Identity]) -> None:
        self._layout.certificates.mkdir(parents=True, exist_ok=True)
        for identity in identities:
            self._authority.write(identity, self._layout.certificates)
        self._certified |= set(identities)

    def _schedule_refresh(self) -> None:
        """Write the overlay once per loop turn, even if many programs become ready."""
        if not self._is_refreshing:
            self._is_refreshing = True
            asyncio.get_running_loop().call_soon(self._refresh)

    def _refresh(self) -> None:
        self._is_refreshing = False
        self._write_overlay()
        ready, wanted = self._supervisor.ready, self._supervisor.wanted
        self._display.show(ready, wanted)
        if ready == wanted:
            self._all_ready.set()

    def _write_overlay(self) -> None:
        self._layout.overlay.mkdir(exist_ok=True)
        objects = overlay(self._mesh, self._contents, frozenset(self._ready_pods()))
        write(self._layout.overlay / "mesh.yaml", objects)

    def _ready_pods(self) -> Iterator[str]:
        ready = self._supervisor.ready
        for pod in self._mesh.pods:
            if all(process.name in ready for process in pod.processes):
                yield pod.key
        for waypoint in self._mesh.waypoints:
            if proxy_name(waypoint) in ready:
                yield waypoint.pod.key

    async def _is_known(self) -> bool:
        """Whether every proxy's configuration contains everything that is ready."""
        mesh = self._mesh
        known = await get((mesh.ztunnel_address, ADMIN_PORT), "/config_dump") or "Unhealthy"
        for waypoint in mesh.waypoints:
            dump = await get((waypoint.pod.address, ADMIN_PORT), "/config_dump") or ""
            own = (pod for pod in mesh.pods if pod.namespace == waypoint.pod.namespace)
            if not all(f'"{pod.address}:' in dump for pod in own):
                return False
        return "Unhealthy" not in known

    async def _is_closed(self) -> bool:
        return not any([await accepts(ingress.listen) for ingress in self._options.ingresses])

    def _warn_of_new(self, sentences: set[str]) -> None:
        for sentence in sorted(sentences - self._said):
            self._warn(sentence)
        self._news.already_told(sentences - self._said)
        self._said = frozenset(sentences)

    def _warn(self, sentence: str) -> None:
        self._display.say(sentence, "yellow")


def _not_run(documents: Iterable[Document]) -> Iterator[str]:
    for document in documents:
        if document.key.kind in _NEVER_RUN:
            yield (
                f"{document.origin}: {document.key}: is ignored; the laptop mesh runs Deployments, StatefulSets, "
                "ReplicaSets, DaemonSets and Pods"
            )


def _taken(ports: Iterable[tuple[str, int, str]]) -> Iterator[str]:
    for host, port, advice in ports:
        try:
            bind(host, port).close()
        except CannotListen as error:
            yield f"{error} ({advice})"


async def _wait_for(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Wait until the condition holds, at most `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110  the condition depends on another process
                await asyncio.sleep(_PAUSE_SECONDS)
