"""The waypoint program: the process's signals, ports and log, before what carries requests.

One worker carries requests in this process (`waypoint.process.serving`). Several are processes of their own
(`waypoint.process.workers`), and this one supervises them: it accepts connections, answers operators, and drains.
"""

import asyncio
import logging
import os
import signal
from contextlib import suppress

from l4 import program, signals, version
from l4.admin import NoAnswer, OperatorAddresses
from l4.config.settings import Settings
from l4.hbone.settings import DrainSettings
from l4.net.listener import bind
from l4.net.sockets import Socket
from l4.net.tasks import Tasks
from l4.telemetry.expiry import MetricsSettings
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import ProcessLog
from policies.host_port import host_port
from waypoint.metrics import COMPONENT
from waypoint.process.certificate import own_certificate
from waypoint.process.knowing import knowing_of, objects_of
from waypoint.process.options import RunOptions
from waypoint.process.serving import CANNOT_SERVE, Serving, ServingWorker
from waypoint.process.sharing import Sharing
from waypoint.process.supervisor import Supervisor
from waypoint.process.workers import WorkerEnded, Workers, share_of
from waypoint.replica import WORKER_SILENT
from waypoint.settings import SECTIONS, ProcessSettings

log = logging.getLogger(__name__)


def run(options: RunOptions) -> None:
    """Run the program. If it cannot start, it exits with a message."""
    environment = dict(os.environ)

    async def main(process_log: ProcessLog) -> None:
        settings = Settings.from_environment(environment, SECTIONS)
        if options.workers == 1:
            await _serve(options, settings, environment, process_log)
        else:
            await _supervise(options, settings, environment, process_log)

    program.run("waypoint", main, *CANNOT_SERVE, WorkerEnded)


async def _serve(options: RunOptions, settings: Settings, environment: dict[str, str], process_log: ProcessLog) -> None:
    """Carry requests in this process until told to stop, then drain."""
    knowing, certificate = knowing_of(options, settings, objects_of(options)), own_certificate(options, settings)
    serving = Serving(options, settings, environment, process_log, certificate, knowing)
    stopping = signals.Stopping()
    supervisor = Supervisor(
        [ServingWorker("worker 1", serving, has_metrics=False)],
        serving.metrics,
        (),
        stopping.begin,
        _names(options) | {"identity": str(certificate.identity)},
    )
    signals.follow(stopping, serving.access_log)
    sockets = _bind(options)
    await supervisor.start(_operators(options))
    await serving.start(*sockets)
    _say_accepting(options)
    await stopping.wait()
    supervisor.stopping()
    await serving.drain()
    await supervisor.close()


async def _supervise(
    options: RunOptions, settings: Settings, environment: dict[str, str], process_log: ProcessLog
) -> None:
    """Let worker processes carry requests until told to stop, then drain them."""
    stopping = signals.Stopping(at_once=lambda: workers.signal(signal.SIGKILL))
    metrics = MeshMetrics(COMPONENT, version.installed(), (WORKER_SILENT,))
    metrics.show_dropped_lines("supervisor", process_log.drops.by_reason)
    supervisor = Supervisor(
        (), metrics, (), stopping.begin, _names(options), lambda level: workers.tell("level", level)
    )
    readiness = supervisor.readiness
    sharing = Sharing(objects_of(options, is_encoded=True), readiness) if options.is_followed_once else None
    tasks = Tasks(metrics.count_loop_failure, readiness.concern)
    workers = Workers(
        options.workers,
        options,
        share_of(environment, settings, options.workers),
        _bind(options),
        lambda: _say_accepting(options),
        join=supervisor.join,
        leave=supervisor.leave,
        start_seconds=settings.of(ProcessSettings).worker_start_seconds,
        readiness=readiness,
        tasks=tasks,
        on_refused=metrics.count_refusal,
        answerer=sharing.answer if sharing is not None else None,
    )
    if sharing is not None:
        tasks.keep("following the configuration for workers", sharing.follow)
    tasks.keep("keeping the counts of workers", supervisor.keep_counts)
    expiry_seconds = settings.of(MetricsSettings).metrics_expiry_seconds
    if expiry_seconds:
        tasks.keep("expiring the counts of workers", lambda: supervisor.expire(expiry_seconds))
    signals.follow(stopping, workers)
    await supervisor.start(_operators(options))
    workers.failed.add_done_callback(lambda _: stopping.begin())
    await stopping.wait()
    if has_failed := workers.failed.done():
        await workers.drain(0)
    else:
        supervisor.stopping()
        with suppress(NoAnswer):
            await supervisor.announce()
        await asyncio.sleep(settings.of(ProcessSettings).drain_delay_seconds)
        await workers.drain(settings.of(DrainSettings).drain_seconds)
    await tasks.close()
    if sharing is not None:
        await sharing.close()
    await supervisor.close()
    if has_failed:
        await workers.failed


def _bind(options: RunOptions) -> list[Socket]:
    """Return sockets for HBONE and the PROXY protocol, which listen once there is somebody to accept.

    A successor may listen at the same addresses. Until it can serve, all new connections are for the old process.
    """
    return [
        bind(*it, reuse_port=True, listens=False) for it in (options.listen, options.proxy_listen) if it is not None
    ]


def _operators(options: RunOptions) -> OperatorAddresses:
    return OperatorAddresses(options.metrics, options.readiness, options.admin)


def _names(options: RunOptions) -> dict[str, object]:
    return {
        "version": version.installed(),
        "gateway": str(options.gateway),
        "listen": host_port(*options.listen),
    }


def _say_accepting(options: RunOptions) -> None:
    log.info("the waypoint of Gateway %s accepts HBONE on %s:%d", options.gateway, *options.listen)
