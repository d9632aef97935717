"""Signal handling of both programs. No common signal ends them without draining.

SIGTERM and SIGINT drain; a second one ends the process at once. SIGUSR1 reopens the access log after log rotation.
SIGHUP makes other programs reload their configuration; these programs follow configuration and certificates by
themselves, so SIGHUP only writes a log line. SIGUSR2 has no function.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)


class Reopened(Protocol):
    def reopen(self) -> None:
        """Open the log files again, because they were moved."""


class Stopping:
    """Whether a signal or an operator has asked the process to end. `at_once` is called if it must not drain."""

    def __init__(self, at_once: Callable[[], None] = lambda: None) -> None:
        self._at_once = at_once
        self._begun = asyncio.Event()

    def begin(self) -> None:
        """Start draining. Further calls change nothing."""
        self._begun.set()

    async def wait(self) -> None:
        """Wait until `begin` is called."""
        await self._begun.wait()

    def _signalled(self) -> None:
        if self._begun.is_set():
            log.warning("stopping at once")
            self._at_once()
            logging.shutdown()
            os._exit(1)
        self.begin()


def follow(stopping: Stopping, access_log: Reopened | None) -> None:
    """Handle signals in the running loop from now on."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping._signalled)
    loop.add_signal_handler(signal.SIGHUP, _say, "SIGHUP: configuration and certificates are reloaded automatically")
    loop.add_signal_handler(signal.SIGUSR1, _reopen, access_log)
    loop.add_signal_handler(signal.SIGUSR2, _say, "SIGUSR2 has no function")


def _reopen(access_log: Reopened | None) -> None:
    if access_log is None:
        log.info("SIGUSR1: there is no access log to reopen")
    else:
        access_log.reopen()
        log.info("SIGUSR1: reopening the access log")


def _say(sentence: str) -> None:
    log.info("%s; ignored", sentence)
