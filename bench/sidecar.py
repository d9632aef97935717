"""A sidecar, for `bench.loadtest` alone: our waypoint in front of one pod, for what the pod asks and is asked.

    the pod's program ──▶ captured addresses ──┐           ┌──HBONE──▶ other pods' sidecars
                                               ├── waypoint┤
    other pods' sidecars ──HBONE──▶ port 15008 ┘           └──plain──▶ the pod's program

Everything but the capture is the waypoint's own code: its configuration, identity, routes, policies, metrics and access
log. `Captured` connections are served like a tunnel of the pod itself.
"""

import os
import socket
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from l4 import program, signals
from l4.admin import OperatorAddresses
from l4.config.settings import Settings
from l4.identity.options import CertificateFiles
from l4.net.listener import Listener, bind
from l4.telemetry.process_log import ProcessLog
from policies.attributes import Peer
from waypoint.data_path import Connection
from waypoint.process.certificate import own_certificate
from waypoint.process.knowing import knowing_of, objects_of
from waypoint.process.options import Address, GatewayName, RunOptions
from waypoint.process.serving import CANNOT_SERVE, Serving, ServingWorker
from waypoint.process.supervisor import Supervisor
from waypoint.settings import SECTIONS


@dataclass(frozen=True, slots=True)
class Pod:
    """What the command line has, as JSON. `captured` are addresses that the pod asks, each with that of a Service.
    `certificate` has the paths of chain, key and roots."""

    address: str
    namespace: str
    gateway: str
    resources: tuple[str, ...]
    certificate: tuple[str, str, str]
    access_log: str
    captured: tuple[tuple[Address, Address], ...]


async def serve(pod: Pod, process_log: ProcessLog) -> None:
    """Serve until SIGTERM."""
    operators = OperatorAddresses(**{name: (pod.address, port) for name, port in _OPERATORS.items()})
    options = RunOptions(
        resources=tuple(map(Path, pod.resources)),
        gateway=GatewayName(pod.namespace, pod.gateway),
        certificate=CertificateFiles(*map(Path, pod.certificate)),
        listen=(pod.address, 15008),
        metrics=operators.metrics,
        readiness=operators.readiness,
        admin=operators.admin,
        access_log=pod.access_log,
    )
    environment = dict(os.environ)
    settings = Settings.from_environment(environment, SECTIONS)
    certificate = own_certificate(options, settings)
    serving = Serving(
        options, settings, environment, process_log, certificate, knowing_of(options, settings, objects_of(options))
    )
    stopping = signals.Stopping()
    worker = ServingWorker("worker 1", serving, has_metrics=False)
    supervisor = Supervisor([worker], serving.metrics, (), stopping.begin)
    signals.follow(stopping, serving.access_log)
    await supervisor.start(operators)
    await serving.start(bind(*options.listen))
    peer = partial(Peer, certificate.identity, pod.address)
    path, front = serving.worker.path, serving.worker.terminator.front

    async def carry(sock: socket.socket, port: int, authority: Address) -> None:
        destination = path.holder.current.destination(authority)
        if destination is None:
            sock.close()
            return
        connection = Connection(path, peer(port), authority, b"")
        await path.loop.connect_accepted_socket(lambda: front(connection, destination), sock)

    def accept(authority: Address, sock: socket.socket, client: Address) -> None:
        path.spawn(carry(sock, client[1], authority))

    listeners = [Listener(bind(*here), partial(accept, there)) for here, there in pod.captured]
    await stopping.wait()
    for it in listeners:
        it.finish()
    supervisor.stopping()
    await serving.drain()
    await supervisor.close()


_OPERATORS = {"metrics": 15020, "readiness": 15021, "admin": 15000}

if __name__ == "__main__":
    program.run("sidecar", partial(serve, msgspec.json.decode(sys.argv[1], type=Pod)), *CANNOT_SERVE)
