"""The controller's program: watches always, writes while it leads.

A replica that stands by has read all that waypoints are made from, so that it goes on at once when it becomes the
leader. Ready means: the watches have listed all these objects. What statuses depend on only the leader follows: it is
much more, and less urgent.
"""

import asyncio
import logging

from l4 import program, signals, version
from l4.admin import OperatorPorts
from l4.config.doubts import concern
from l4.config.settings import Settings
from l4.configuration import client_of, kubernetes_source
from l4.discovery.mesh import Mesh
from l4.kubernetes.client import ApiClient, ApiError
from l4.kubernetes.credentials import CredentialsError
from l4.kubernetes.lease import LeaderElection
from l4.kubernetes.reflector import Key, Reflector, Scope, longest_silence
from l4.net.tasks import Tasks
from l4.silence import Silence
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import ProcessLog
from l4.xds.description import Description
from waypoint.controller.callers import Callers
from waypoint.controller.concluding import READ, Concluded, Concluding
from waypoint.controller.discovering import READ as DISCOVERED
from waypoint.controller.discovering import Discovering
from waypoint.controller.discovery_metrics import METRICS as DISCOVERY
from waypoint.controller.discovery_service import DiscoveryService
from waypoint.controller.kinds import CONFIG_MAPS, GATEWAY_CLASSES, GATEWAYS, OWNED, ROLE_BINDINGS, TOLD
from waypoint.controller.options import ControllerOptions
from waypoint.controller.queue import Queue
from waypoint.controller.reconciling import Reconciler, now
from waypoint.controller.signing import Signing
from waypoint.controller.store import Store
from waypoint.controller.telling import Telling

log = logging.getLogger(__name__)

_WORKERS = 4
_CONCERN_SECONDS = 5.0
_STATUSES = "what statuses depend on"
_MANAGED = "gateway.istio.io/managed=istio.io-mesh-controller"


class Controller:
    """Create it inside its event loop."""

    def __init__(self, options: ControllerOptions, client: ApiClient) -> None:
        self._options = options
        self._client = client
        self._queue: Queue[Key] = Queue()
        resources = (GATEWAY_CLASSES, GATEWAYS, CONFIG_MAPS, ROLE_BINDINGS, *OWNED.values())
        self._store = Store(options.controller_name, resources, self._queue.add)
        self._reconciler = Reconciler(self._client, self._store, options.installation, options.responsibility)
        role = options.responsibility.role
        self._reflectors = [
            Reflector(self._client, GATEWAY_CLASSES, self._store),
            Reflector(self._client, GATEWAYS, self._store),
            Reflector(self._client, CONFIG_MAPS, self._store),
            *(Reflector(self._client, it, self._store, Scope(label_selector=_MANAGED)) for it in OWNED.values()),
            Reflector(self._client, ROLE_BINDINGS, self._store, Scope(field_selector=f"metadata.name={role}")),
        ]
        self._election = LeaderElection(self._client, options.namespace, options.lease, options.identity)
        self._stopping = signals.Stopping()
        self._metrics = MeshMetrics("controller", version.installed(), DISCOVERY)
        served = {"signing": options.signing, "discovery": options.discovery}
        pending = {"objects", *(name for name, its in served.items() if its is not None)}
        self._ports = OperatorPorts(self._metrics, pending, self._dump, self._stopping.begin)
        self._silence = Silence(log, self._ports.readiness, self._metrics, self._silent_seconds)
        self._discovery: DiscoveryService | None = None
        self._discovering: Discovering | None = None
        if options.discovery is not None:
            self._discovery = DiscoveryService(Callers(client, options.installation.trust_domain, ()))
            self._discovery.counted.show(self._metrics)
            self._discovering = Discovering(kubernetes_source(client, DISCOVERED, {}), options.discovery, self._publish)
        self._signing: Signing | None = None
        if options.signing is not None:
            trust_domain, done = options.installation.trust_domain, self._ports.readiness.done
            others = () if self._discovery is None else (self._discovery,)
            self._signing = Signing(
                options.signing, client, options.namespace, trust_domain, lambda: done("signing"), others
            )
        self._telling = Telling(client, options.controller_name, self._ports.readiness.concern, now)
        self._source = kubernetes_source(client, READ, {}, whole=TOLD)
        made, its = options.installation, options.responsibility
        mesh = Mesh(made.trust_domain, made.cluster_domain, made.cluster_id)
        self._concluding = Concluding(self._source, Settings(mesh), options.controller_name, its.revision, self._learn)

    async def run(self) -> None:
        """Run until told to stop."""
        signals.follow(self._stopping, None)
        await self._ports.start(self._options.addresses)
        tasks = Tasks(self._metrics.count_loop_failure, self._ports.readiness.concern)
        for it in self._reflectors:
            tasks.keep(f"following {it.resource}", it.run)
        tasks.keep("telling the age of the objects", self._silence.follow)
        tasks.keep("telling why objects are not followed", self._tell_concerns)
        if (signing := self._signing) is not None:
            tasks.keep("following the root", lambda: signing.follow(lambda: self._election.is_leader))
        if self._discovering is not None:
            tasks.keep("following the mesh", self._discovering.follow)
        leading = asyncio.create_task(self._lead_when_listed())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([leading, stopping], return_when=asyncio.FIRST_COMPLETED)
            if leading.done():
                leading.result()
        finally:
            leading.cancel()
            stopping.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            await tasks.close()
            if self._signing is not None:
                await self._signing.close()
            await self._ports.close()
            await self._source.close()
            if self._discovering is not None:
                await self._discovering.close()

    async def _lead_when_listed(self) -> None:
        """Whoever leads has read all: what isn't known yet must not be taken for missing."""
        await self._store.wait()
        self._ports.readiness.done("objects")
        await self._election.run(self._lead)

    async def _lead(self) -> None:
        self._store.look_at_all()
        self._telling.forget()
        tasks = Tasks(self._metrics.count_loop_failure, self._ports.readiness.concern)
        tasks.keep("following routes and policies", self._concluding.run)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_WORKERS):
                    group.create_task(self._work())
                    group.create_task(self._telling.work())
        finally:
            await tasks.close()
            self._ports.readiness.concern(_STATUSES, "")

    def _learn(self, concluded: Concluded) -> None:
        self._telling.learn(concluded)
        self._ports.readiness.concern(_STATUSES, concern(concluded.doubts))

    def _publish(self, description: Description) -> None:
        assert self._discovery is not None
        self._discovery.publish(description)
        self._ports.readiness.done("discovery")

    async def _work(self) -> None:
        while True:
            async with self._queue.next() as key:
                try:
                    is_well = await self._reconciler.reconcile(key)
                except ApiError as error:
                    pause = self._queue.failed(key)
                    log.warning("%s/%s is looked at again in %g s: %s", *key, pause, error)
                except Exception:
                    log.exception("%s/%s cannot be reconciled, and is tried again", *key)
                    self._queue.failed(key)
                else:
                    if is_well:
                        self._queue.well(key)
                    else:
                        self._queue.failed(key)

    def _silent_seconds(self) -> float:
        of_statuses = self._source.silent_seconds if self._election.is_leader else 0.0
        of_the_mesh = self._discovering.silent_seconds if self._discovering is not None else 0.0
        return max(longest_silence(self._reflectors), of_statuses, of_the_mesh)

    async def _tell_concerns(self) -> None:
        while True:
            for it in self._reflectors:
                self._ports.readiness.concern(str(it.resource), f"{it.resource}: {it.failure}" if it.failure else "")
            if self._signing is not None:
                self._ports.readiness.concern("signing", self._signing.concern)
            if self._discovering is not None:
                self._ports.readiness.concern("discovery", self._discovering.concern)
            await asyncio.sleep(_CONCERN_SECONDS)

    async def _dump(self) -> object:
        gateways = sorted(f"{key.namespace}/{key.name}" for key in self._store.gateways)
        signs_at = self._signing.port if self._signing is not None else None
        discovery = self._discovery.counts if self._discovery is not None else None
        return {
            "leader": self._election.is_leader,
            "gateways": gateways,
            "signsAt": signs_at,
            "discovery": discovery,
        }


def run(options: ControllerOptions) -> None:
    async def serve(process_log: ProcessLog) -> None:
        await Controller(options, client_of(options.kubernetes)).run()

    program.run("waypoint controller", serve, CredentialsError)
