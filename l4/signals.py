"""What the programs do when they are sent signals; none of the usual ones ends them without draining.

SIGTERM and SIGINT drain. SIGUSR1 is for whoever has moved the access log away: it is opened anew. SIGHUP asks other
programs to read their configuration again; ours follow it, and their certificates, by themselves, so there is nothing
to do but to say so. SIGUSR2 means nothing here.
"""

import asyncio
import logging
import signal
from collections.abc import Callable

from l4.telemetry.access_log import AccessLog

log = logging.getLogger(__name__)


def follow(stop: Callable[[], None], access_log: AccessLog | None) -> None:
    """Handle signals in the running loop from now on; `stop` begins to drain."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, _say, "SIGHUP: configuration and certificates are followed by themselves")
    loop.add_signal_handler(signal.SIGUSR1, _reopen, access_log)
    loop.add_signal_handler(signal.SIGUSR2, _say, "SIGUSR2 means nothing here")


def _reopen(access_log: AccessLog | None) -> None:
    if access_log is None:
        log.info("SIGUSR1: there is no access log to open anew")
    else:
        access_log.reopen()
        log.info("SIGUSR1: the access log is opened anew")


def _say(sentence: str) -> None:
    log.info("%s; nothing is done", sentence)
