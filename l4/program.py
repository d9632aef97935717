"""Start and end of both programs.

They use uvloop, and a non-blocking log on standard error. If a program cannot start, it prints one sentence and exits
with status 1.
"""

import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from l4.admin import PortUnavailable
from l4.config.settings import InvalidSetting
from l4.identity.certificate import InvalidCertificate
from l4.net import descriptors, memory
from l4.net.listener import CannotListen
from l4.telemetry.access_log import CannotOpenLog
from l4.telemetry.process_log import ProcessLog

_CANNOT_START: tuple[type[Exception], ...] = (
    InvalidSetting,
    InvalidCertificate,
    CannotListen,
    CannotOpenLog,
    PortUnavailable,
)


def run(name: str, main: Callable[[ProcessLog], Coroutine[Any, Any, None]], *cannot_start: type[Exception]) -> None:
    """Run `main` until it returns. `cannot_start`, in addition to l4's own, are exceptions that prevent starting."""
    reasons = _CANNOT_START + cannot_start
    with ProcessLog() as process_log:
        logging.getLogger("hpack").setLevel(logging.WARNING)
        descriptors.raise_limit()
        memory.keep_for_buffers()
        try:
            uvloop.run(main(process_log))
        except reasons as error:
            process_log.write(f"{name}: {error}")
            sys.exit(1)
