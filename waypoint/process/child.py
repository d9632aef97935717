"""The program of a worker process: `python -m waypoint.process.child DESCRIPTOR…`, which only a supervisor starts.

The descriptors are the channel to the supervisor, memory that all workers share, and the passages of HBONE and PROXY
connections. Standard input has a
`Start`. The worker drains on SIGTERM, and when the supervisor has gone.
"""

import asyncio
import logging
import os
import pickle
import socket
import sys
import time
from functools import partial

from l4 import program, signals
from l4.admin import NoAnswer
from l4.config.settings import Settings
from l4.net.passing import PassedConnections
from l4.net.shared_memory import SharedMemory
from l4.net.tasks import Tasks
from l4.readiness import merge
from l4.telemetry.process_log import ProcessLog
from waypoint.process import following
from waypoint.process.certificate import own_certificate
from waypoint.process.channel import Channel, connect
from waypoint.process.knowing import knowing_of, objects_of
from waypoint.process.remote import Answers, Load
from waypoint.process.serving import CANNOT_SERVE, Serving, ServingWorker
from waypoint.process.sharing import QUESTION, SharedSource
from waypoint.process.workers import Start
from waypoint.replica import Replica
from waypoint.settings import SECTIONS

_LOAD_SECONDS = 0.5
_SEND_SECONDS = 2.0
"""Time at the end in which the supervisor takes what the worker has counted."""


def main(descriptors: list[int]) -> None:
    start: Start = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    name = f"worker {start.number}"

    async def work(process_log: ProcessLog) -> None:
        if start.number > 1:  # all workers have the same configuration; the first one tells about it
            logging.getLogger(following.__name__).setLevel(logging.CRITICAL)
        settings = Settings.from_environment(start.environment, SECTIONS)
        options = start.options
        objects = SharedSource(lambda *known: channel.ask(QUESTION, *known)) if options.is_followed_once else None
        knowing = knowing_of(options, settings, objects or objects_of(options))
        certificate = own_certificate(options, settings)
        first, memory, *others = descriptors
        os.set_inheritable(memory, False)
        replica = Replica(SharedMemory(memory), start.number - 1, start.workers)
        serving = Serving(options, settings, start.environment, process_log, certificate, knowing, replica)
        stopping = signals.Stopping()
        signals.follow(stopping, serving.access_log)
        answers = Answers(ServingWorker(name, serving, has_metrics=True))
        channel = await connect(
            socket.socket(fileno=first),
            "the supervisor",
            lambda noted, rest: answers.noted(channel, noted, rest),
            answers.answer,
        )
        tasks = Tasks(serving.metrics.count_loop_failure, serving.readiness.concern)
        tasks.spawn(channel.run()).add_done_callback(lambda _: stopping.begin())
        addresses = filter(None, (options.listen, options.proxy_listen))
        socks = [PassedConnections(*it) for it in zip(others, addresses, strict=True)]
        await serving.start(*socks, analyzes=start.number == 1)
        tasks.keep("telling the load", partial(_tell_load, channel, serving))
        await stopping.wait()
        await serving.drain()
        channel.note("ended", await answers.metrics())
        await tasks.close()
        await channel.closed(_SEND_SECONDS)

    program.run(f"waypoint, {name}", work, *CANNOT_SERVE, NoAnswer)


async def _tell_load(channel: Channel, serving: Serving) -> None:
    used, at = time.process_time(), time.monotonic()
    worker = serving.worker
    while True:
        await asyncio.sleep(_LOAD_SECONDS)
        now_used, now = time.process_time(), time.monotonic()
        is_ready = merge((serving.readiness, worker.readiness)).is_ready
        busy = (now_used - used) / (now - at)
        channel.note("load", Load(is_ready, worker.connection_count, worker.path.exchanges, busy))
        used, at = now_used, now


if __name__ == "__main__":
    main([int(it) for it in sys.argv[1:]])
