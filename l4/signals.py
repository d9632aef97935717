"""Signal handling of both programs. No common signal ends them without draining.

SIGTERM and SIGINT drain. SIGUSR1 reopens the access log after log rotation. SIGHUP makes other programs reload their
configuration; these programs follow configuration and certificates by themselves, so SIGHUP only writes a log line.
SIGUSR2 has no function.
"""

import asyncio
import logging
import signal
from collections.abc import Callable

from l4.telemetry.access_log import AccessLog

log = logging.getLogger(__name__)


def follow(stop: Callable[[], None], access_log: AccessLog | None) -> None:
    """Handle signals in the running loop from now on. `stop` starts draining."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, _say, "SIGHUP: configuration and certificates are reloaded automatically")
    loop.add_signal_handler(signal.SIGUSR1, _reopen, access_log)
    loop.add_signal_handler(signal.SIGUSR2, _say, "SIGUSR2 has no function")


def _reopen(access_log: AccessLog | None) -> None:
    if access_log is None:
        log.info("SIGUSR1: there is no access log to reopen")
    else:
        access_log.reopen()
        log.info("SIGUSR1: reopening the access log")


def _say(sentence: str) -> None:
    log.info("%s; ignored", sentence)
